package services

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"

	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/kafka"
	"github.com/tailwater/tailwater/source/consume"
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
		"no-certificate": {func(c *kafka.Config) {
			c.Brokers, c.TLS = servers.Brokers("KAFKA_MUTUAL_TLS_BROKERS"), trusting(t)
		}, "cert: and key:"},
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

// deny forbids guest, who logs in by SASL, an operation.
func deny(t *testing.T, kind kafkago.ResourceType, name string, operation kafkago.ACLOperationType) {
	t.Helper()
	rule(t, kind, name, operation, kafkago.ACLPermissionTypeDeny)
}

func rule(t *testing.T, kind kafkago.ResourceType, name string, operation kafkago.ACLOperationType, permission kafkago.ACLPermissionType) {
	t.Helper()
	acls, err := admin().CreateACLs(t.Context(), &kafkago.CreateACLsRequest{ACLs: []kafkago.ACLEntry{{
		ResourceType: kind, ResourceName: name, ResourcePatternType: kafkago.PatternTypeLiteral,
		Principal: "User:guest", Host: "*", Operation: operation, PermissionType: permission,
	}}})
	if err == nil {
		err = errors.Join(acls.Errors...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func asGuest() sasl.Mechanism {
	return plain.Mechanism{Username: "guest", Password: servers.Value("SERVICES_PASSWORD")}
}

// A cluster that lets nobody make topics needs a word on what is to be done.
func TestKafkaSaysThatTheTopicIsMissing(t *testing.T) {
	deny(t, kafkago.ResourceTypeTopic, "never-made", kafkago.ACLOperationTypeCreate)
	deny(t, kafkago.ResourceTypeCluster, "kafka-cluster", kafkago.ACLOperationTypeCreate)
	for _, may := range []kafkago.ACLOperationType{kafkago.ACLOperationTypeDescribe, kafkago.ACLOperationTypeWrite} {
		rule(t, kafkago.ResourceTypeTopic, "never-made", may, kafkago.ACLPermissionTypeAllow)
	}
	s := kafkaSink(t, "never-made", func(c *kafka.Config) {
		c.Brokers, c.SASL = servers.Brokers("KAFKA_SASL_BROKERS"), asGuest()
	})
	told := make(chan error, 100)
	s.OnTrouble(func(err error) { told <- err })
	f := newFile("p", "a")
	answer := make(chan sink.Result, 1)
	s.Send(t.Context(), batch(1, f), func(r sink.Result) { answer <- r })
	select {
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), "no such topic") || !strings.Contains(err.Error(), "create it, or give this user CREATE") {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Error("nothing was said for 15 s")
	}
	createTopic(t, "never-made", 1) // somebody who may
	select {
	case r := <-answer:
		if r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
			t.Errorf("%+v", r)
		}
	case <-time.After(30 * time.Second):
		t.Error("the line does not go to the topic that is there now")
	}
}

// The indexer's words for what an operator gets wrong.
func TestTheIndexerSaysWhatIsWrong(t *testing.T) {
	createTopic(t, "unreadable", 1)
	deny(t, kafkago.ResourceTypeTopic, "unreadable", kafkago.ACLOperationTypeRead)
	deny(t, kafkago.ResourceTypeTopic, "undescribed", kafkago.ACLOperationTypeAll)
	deny(t, kafkago.ResourceTypeGroup, "closed-group", kafkago.ACLOperationTypeRead)
	guest := func(c *consume.Config) { c.Brokers, c.SASL = servers.Brokers("KAFKA_SASL_BROKERS"), asGuest() }
	for name, c := range map[string]struct {
		topic, group string
		change       func(*consume.Config)
		want         string
	}{
		"nobody-listens": {change: func(c *consume.Config) { c.Brokers = []string{"127.0.0.1:1"} }, want: "127.0.0.1:1 cannot be reached"},
		"wrong-password": {change: func(c *consume.Config) {
			guest(c)
			c.SASL = plain.Mechanism{Username: "guest", Password: "wrong"}
		}, want: "user and password"},
		"no-tls":         {change: func(c *consume.Config) { c.Brokers = servers.Brokers("KAFKA_TLS_BROKERS") }, want: "tls:"},
		"no-topic":       {topic: "nothing-*", want: "no topic matches [nothing-*]"},
		"group":          {group: "closed-group", topic: "unread*", change: guest, want: "READ on the group"},
		"topic":          {topic: "unreadable", change: guest, want: "READ and DESCRIBE on the topic"},
		"topic-unlisted": {topic: "undescribed", change: guest, want: "on the topic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMember(t, cmp.Or(c.group, "words-"+name), newTaker(), []string{cmp.Or(c.topic, "words-*")}, c.change)
			pollFor(t, 20*time.Second, "words", func() error {
				if got := m.Trouble(); !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
					return fmt.Errorf("want %q: %s", c.want, got)
				}
				return nil
			})
		})
	}
}

func TestKafkaSaysThatPermissionIsMissing(t *testing.T) {
	ctx := t.Context()
	deny(t, kafkago.ResourceTypeTopic, "closed", kafkago.ACLOperationTypeWrite)
	mustTake(t, kafkaSink(t, "closed", nil), batch(1, newFile("p", "a"))) // the topic is there
	s := kafkaSink(t, "closed", func(c *kafka.Config) {
		c.Brokers, c.SASL = servers.Brokers("KAFKA_SASL_BROKERS"), asGuest()
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
