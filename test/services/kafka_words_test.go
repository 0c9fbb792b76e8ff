package services

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"

	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/kafka"
)

// What an operator gets wrong must be told in words, and soon.
func TestKafkaSaysWhatIsWrong(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the backlog, never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	plainAs := func(user, password string) sasl.Mechanism { return plain.Mechanism{Username: user, Password: password} }
	for name, c := range map[string]struct {
		change func(*kafka.Config)
		want   string
	}{
		"nobody-listens": {func(c *kafka.Config) { c.Brokers = []string{"127.0.0.1:1"} }, "127.0.0.1:1"},
		"no-such-host":   {func(c *kafka.Config) { c.Brokers = []string{"kafka.invalid:9092"} }, "kafka.invalid"},
		"never-answers":  {func(c *kafka.Config) { c.Brokers = []string{silent.Addr().String()} }, silent.Addr().String()},
		"wrong-password": {func(c *kafka.Config) {
			c.Brokers, c.SASL = servers.Brokers("KAFKA_SASL_BROKERS"), plainAs("tailwater", "wrong")
		}, "user and password"},
		"no-login": {func(c *kafka.Config) { c.Brokers = servers.Brokers("KAFKA_SASL_BROKERS") }, "sasl"},
		"no-tls":   {func(c *kafka.Config) { c.Brokers = servers.Brokers("KAFKA_TLS_BROKERS") }, "tls"},
		"tls-to-plain": {func(c *kafka.Config) {
			c.TLS = trusting(t)
		}, "tls"},
		"untrusted": {func(c *kafka.Config) {
			c.Brokers, c.TLS = servers.Brokers("KAFKA_TLS_BROKERS"), &tls.Config{}
		}, "ca"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kafkaSink(t, "wrong-"+name, c.change)
			told := make(chan error, 100)
			s.OnTrouble(func(err error) { told <- err })
			within(t, 15*time.Second, "the answer", func() {
				s.Send(t.Context(), batch(1, newFile("p", "a")), func(r sink.Result) {
					if r.Err != nil {
						told <- r.Err
					}
				})
				select {
				case err := <-told:
					t.Log(err)
					if err == nil || !strings.Contains(strings.ToLower(err.Error()), c.want) || strings.Contains(err.Error(), "\n") {
						t.Errorf("not in words for the person on call (want %q): %v", c.want, err)
					}
				case <-time.After(30 * time.Second):
					t.Error("nothing was said for 30 s")
				}
			})
		})
	}
}

func TestKafkaSaysThatPermissionIsMissing(t *testing.T) {
	ctx := t.Context()
	client := &kafkago.Client{Addr: kafkago.TCP(servers.Brokers("KAFKA_BROKERS")...)}
	acls, err := client.CreateACLs(ctx, &kafkago.CreateACLsRequest{ACLs: []kafkago.ACLEntry{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: "closed", ResourcePatternType: kafkago.PatternTypeLiteral,
		Principal: "User:guest", Host: "*", Operation: kafkago.ACLOperationTypeWrite, PermissionType: kafkago.ACLPermissionTypeDeny,
	}}})
	if err := errors.Join(append(acls.Errors, err)...); err != nil {
		t.Fatal(err)
	}
	mustTake(t, kafkaSink(t, "closed", nil), batch(1, newFile("p", "a"))) // the topic is there
	s := kafkaSink(t, "closed", func(c *kafka.Config) {
		c.Brokers = servers.Brokers("KAFKA_SASL_BROKERS")
		c.SASL = plain.Mechanism{Username: "guest", Password: servers.Value("SERVICES_PASSWORD")}
	})
	told := make(chan error, 100)
	s.OnTrouble(func(err error) { told <- err })
	s.Send(ctx, batch(1, newFile("p", "a")), func(r sink.Result) {
		if r.Err != nil {
			told <- r.Err
		}
	})
	select {
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), "WRITE on the topic") {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Error("nothing was said for 15 s")
	}
}
