package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// Cluster is the brokers as far as they are known: those of the configuration, and
// those that they have told of. Any goroutine may use it.
type Cluster struct {
	Dialer
	Seeds []string // HOST:PORT

	mu        sync.Mutex // guards what follows
	addresses map[int32]string
	failed    map[string]time.Time // when an address was last of no use
}

// shunned is how long an address that was of no use is asked after the others: it may
// take its time to answer nothing.
const shunned = time.Minute

// Learn takes the brokers' addresses from a metadata answer.
func (c *Cluster) Learn(m *metadata.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.addresses == nil {
		c.addresses = make(map[int32]string)
	}
	for _, r := range m.Brokers {
		c.addresses[r.NodeID] = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
	}
}

// Broker is the address of a broker, "" when it is not known.
func (c *Cluster) Broker(id int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addresses[id]
}

// Ask sends one request to any broker that can be reached and returns its answer.
func (c *Cluster) Ask(ctx context.Context, req protocol.Message) (m protocol.Message, err error) {
	err = c.try(ctx, func(address string) (err error) {
		m, err = c.AskAt(ctx, address, req)
		return err
	})
	return m, err
}

// Any connects to any broker that can be reached.
func (c *Cluster) Any(ctx context.Context) (conn *Conn, err error) {
	err = c.try(ctx, func(address string) (err error) {
		conn, err = c.Connect(ctx, address)
		return err
	})
	return conn, err
}

// try calls f with one address after the other until it succeeds.
func (c *Cluster) try(ctx context.Context, f func(address string) error) error {
	addresses := slices.Clone(c.Seeds)
	c.mu.Lock()
	for _, a := range c.addresses {
		if !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	c.mu.Unlock()
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	slices.SortStableFunc(addresses, func(a, b string) int { return c.useless(a) - c.useless(b) })
	var problems error
	for _, address := range addresses {
		err := f(address)
		c.note(address, err)
		if err == nil {
			return nil
		}
		if problems == nil {
			problems = err
		} else {
			problems = fmt.Errorf("%w; %w", problems, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return problems
}

// useless is 1 for an address that failed a moment ago, 0 for others.
func (c *Cluster) useless(address string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.failed[address]; ok && time.Since(at) < shunned {
		return 1
	}
	return 0
}

// Doubt has an address asked after the others for a while, as if it had been of no use.
func (c *Cluster) Doubt(address string) { c.note(address, errDoubted) }

var errDoubted = errors.New("it is silent")

func (c *Cluster) note(address string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.failed, address)
		return
	}
	if c.failed == nil {
		c.failed = make(map[string]time.Time)
	}
	c.failed[address] = time.Now()
}

// AskAt opens a connection for one request: such requests are rare, and a broker that
// was killed and came back never meets us with a stale connection.
func (c *Cluster) AskAt(ctx context.Context, address string, req protocol.Message) (protocol.Message, error) {
	conn, err := c.Connect(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Ask(ctx, req)
}
