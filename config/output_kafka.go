package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/tailwater/tailwater/internal/units"
)

// KafkaOutput writes documents to Kafka topics.
type KafkaOutput struct {
	Brokers     []string    `yaml:"brokers" required:"yes" min:"1" check:"broker" also:"hosts bootstrap_servers servers" doc:"HOST:PORT of some of the brokers; the others are found through them." example:"['k1:9092', 'k2:9092']"`
	Topic       string      `yaml:"topic" required:"yes" check:"topic" doc:"Topic with placeholders: {project}, {level} or any other field." example:"'logs-{project}'"`
	Compression string      `yaml:"compression" default:"snappy" oneof:"none gzip snappy lz4 zstd" also:"codec" doc:"Compression of record batches."`
	Acks        string      `yaml:"acks" default:"all" oneof:"all 1 0" also:"required_acks" doc:"Who must have a batch before it counts as delivered: all replicas in sync, the leader, or nobody. Only with all is nothing lost or doubled when a broker fails."`
	Partition   string      `yaml:"partition" default:"file" oneof:"file request_id project round_robin" also:"partition_by" doc:"What stays together, in order, in one partition."`
	Key         string      `yaml:"key" unset:"no key" check:"key" doc:"Record key with placeholders." example:"'{request_id}'"`
	RecordTime  string      `yaml:"record_time" default:"clock" oneof:"clock event" doc:"What becomes a record's timestamp: the time of sending, or the event's own, by which the broker's retention may delete old lines as they arrive."`
	BatchBytes  units.Bytes `yaml:"batch_bytes" default:"1MiB" min:"1KiB" max:"64MiB" also:"batch_size" doc:"About the largest batch before compression; the brokers' message.max.bytes bounds it after."`

	Timeout time.Duration `yaml:"timeout" default:"30s" min:"100ms" max:"10m" doc:"How long a broker's answer may take before the batch is sent again."`
	SASL    *SASL         `yaml:"sasl" unset:"no authentication" doc:"Who tailwater is."`
	TLS     *TLS          `yaml:"tls" unset:"no encryption" doc:"Encryption; {} trusts the system's authorities."`
}

// SASL is a Kafka login.
type SASL struct {
	Mechanism string       `yaml:"mechanism" default:"scram-sha-512" oneof:"plain scram-sha-256 scram-sha-512" doc:"How the password is proved."`
	User      string       `yaml:"user" required:"yes" also:"username" doc:"The name of the user."`
	Password  units.Secret `yaml:"password" required:"yes" doc:"Its password." example:"${file:/run/secrets/kafka}"`
}

// TLS says whom to trust and who tailwater is.
type TLS struct {
	CA         string `yaml:"ca" unset:"the system's authorities" also:"ca_file cafile" doc:"PEM file of the authorities to trust." example:"/etc/tailwater/ca.pem"`
	Cert       string `yaml:"cert" unset:"none" also:"cert_file certificate" doc:"PEM file of tailwater's own certificate." example:"/etc/tailwater/cert.pem"`
	Key        string `yaml:"key" unset:"none" also:"key_file" doc:"PEM file of its key." example:"/etc/tailwater/key.pem"`
	ServerName string `yaml:"server_name" unset:"the host's name" doc:"The name that the server's certificate must have."`

	ca, cert, key pemFile
}

// Check looks at what concerns several keys at once.
func (t *TLS) Check(problem func(key, text string)) {
	if (t.Cert == "") != (t.Key == "") {
		problem("cert", "cert and key belong together; write both or none")
	}
	t.read()
}

func (t *TLS) read() {
	t.ca.read(t.CA)
	t.cert.read(t.Cert)
	t.key.read(t.Key)
}

// Config is what the standard library wants, with what the files held when the
// configuration was read.
func (t *TLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	var err error
	if c.RootCAs, err = t.ca.authorities(t.CA); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if t.Cert == "" {
		return c, nil
	}
	if err := errors.Join(t.cert.err, t.key.err); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	pair, err := tls.X509KeyPair(t.cert.text, t.key.text)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", t.Cert, t.Key, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
