// Package login makes the SASL mechanisms of Kafka logins.
package login

import (
	"fmt"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// New returns the mechanism of that name: plain, scram-sha-256 or scram-sha-512.
func New(mechanism, user, password string) (sasl.Mechanism, error) {
	switch mechanism {
	case "plain":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, user, password)
	}
	return nil, fmt.Errorf("there is no SASL mechanism %q; there are plain, scram-sha-256 and scram-sha-512", mechanism)
}
