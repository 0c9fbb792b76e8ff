package kafka

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/sink"
)

// Acks is how many replicas must have a batch before the broker answers, as in the
// protocol.
type Acks int8

// The acknowledgements that can be asked for. Only with AcksAll is the producer
// idempotent.
const (
	AcksAll    Acks = -1
	AcksNone   Acks = 0
	AcksLeader Acks = 1
)

// RecordTime is what becomes a record's timestamp, by which brokers expire it.
type RecordTime int8

const (
	// ClockTime is the time of sending: an old log is kept as long as a new one.
	ClockTime RecordTime = iota
	// EventTime is the event's own time: a broker's retention may delete old lines
	// as soon as they arrive.
	EventTime
)

// Spread is how documents are spread over a topic's partitions.
type Spread int8

const (
	// ByFile keeps the lines of a file in one partition, in order.
	ByFile Spread = iota
	// ByRequest keeps the lines of a request_id together.
	ByRequest
	// ByProject keeps a project's lines together.
	ByProject
	// RoundRobin takes one partition after the other, batch by batch.
	RoundRobin
)

// Config says where and how to write. Zero numbers are the defaults.
type Config struct {
	Brokers    []string
	Topic      *sink.Template
	Key        *sink.Template // nil: no key
	Codec      Codec
	Acks       Acks
	RecordTime RecordTime
	Spread     Spread
	// BatchBytes is about the largest uncompressed batch.
	BatchBytes int
	// Timeout is how long one try may take.
	Timeout time.Duration
	TLS     *tls.Config
	SASL    sasl.Mechanism
	Backoff backoff.Policy
	// Dial opens the connections to brokers; nil is the network's own. Encryption
	// comes on top of it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// The defaults of a Config.
const (
	DefaultBatchBytes = 1 << 20
	DefaultTimeout    = 30 * time.Second
)
