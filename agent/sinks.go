package agent

import (
	"log/slog"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/kafka/login"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/elastic"
	"github.com/tailwater/tailwater/sink/kafka"
)

var (
	codecs  = map[string]kafka.Codec{"none": kafka.None, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.LZ4, "zstd": kafka.Zstd}
	acks    = map[string]kafka.Acks{"all": kafka.AcksAll, "1": kafka.AcksLeader, "0": kafka.AcksNone}
	spreads = map[string]kafka.Spread{"file": kafka.ByFile, "request_id": kafka.ByRequest, "project": kafka.ByProject, "round_robin": kafka.RoundRobin}
)

// newKafka makes the sink that the configuration describes.
func newKafka(c *config.KafkaOutput) (*kafka.Sink, error) {
	topic, err := sink.Compile(c.Topic, sink.TopicNaming)
	if err != nil {
		return nil, err
	}
	k := kafka.Config{Brokers: c.Brokers, Topic: topic, Codec: codecs[c.Compression], Acks: acks[c.Acks], Spread: spreads[c.Partition],
		BatchBytes: int(c.BatchBytes), Timeout: c.Timeout, Backoff: backoff.Policy{Cap: longestWait}}
	if c.RecordTime == "event" {
		k.RecordTime = kafka.EventTime
	}
	if c.Key != "" {
		if k.Key, err = sink.Compile(c.Key, sink.TopicNaming); err != nil {
			return nil, err
		}
	}
	if k.TLS, err = c.TLS.Config(); err != nil {
		return nil, err
	}
	if c.SASL != nil {
		if k.SASL, err = login.New(c.SASL.Mechanism, c.SASL.User, c.SASL.Password.Reveal()); err != nil {
			return nil, err
		}
	}
	return kafka.New(k), nil
}

// newElastic makes the sink that the configuration describes.
func newElastic(name string, c *config.ElasticsearchOutput, log *slog.Logger) (*elastic.Sink, error) {
	e := elastic.Config{Name: name, Log: log, URLs: c.URLs, Index: c.Index, Target: elastic.Target(c.Target), Username: c.User, Password: c.Password, APIKey: c.APIKey,
		CAFingerprint: c.CAFingerprint, Gzip: c.Gzip, Requests: c.Requests, Timeout: c.Timeout}
	var err error
	if e.CACert, err = c.Authorities(); err != nil {
		return nil, err
	}
	return elastic.New(e)
}
