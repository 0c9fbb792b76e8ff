package services

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/sink/kafka"
	"github.com/tailwater/tailwater/source/consume"
	"github.com/tailwater/tailwater/test/rig"
)

// threeBrokers is a cluster with an output that ships to it and a group that reads it.
type threeBrokers struct {
	t       *testing.T
	cluster *rig.Services
	topic   string
	sink    *kafka.Sink
	line    *line
	files   []*file
	read    *taker
	ship    func() // stops the shipping and waits until all is delivered

	mu   sync.Mutex
	told []string
}

func newThreeBrokers(t *testing.T, cluster *rig.Services, topic string) *threeBrokers {
	t.Helper()
	b := &threeBrokers{t: t, cluster: cluster, topic: topic, files: someFiles(24), read: newTaker()}
	brokers := cluster.Brokers("KAFKA_BROKERS")
	b.sink = kafkaSink(t, topic, func(c *kafka.Config) { c.Brokers = brokers })
	b.line = newLine(t, teller{b.sink, b})
	startMember(t, topic, b.read, []string{topic}, func(c *consume.Config) { c.Brokers = brokers })
	end := make(chan struct{})
	var filling sync.WaitGroup
	filling.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			for _, f := range b.files {
				b.line.put(f.block(5))
			}
		}
	})
	b.ship = sync.OnceFunc(func() {
		close(end)
		filling.Wait()
		b.line.finish()
	})
	t.Cleanup(b.ship)
	return b
}

// teller listens to what a sink says to its Deliverer.
type teller struct {
	*kafka.Sink
	to *threeBrokers
}

func (s teller) OnTrouble(f func(error)) {
	s.Sink.OnTrouble(func(err error) {
		if err != nil {
			s.to.mu.Lock()
			s.to.told = append(s.to.told, err.Error())
			s.to.mu.Unlock()
		}
		f(err)
	})
}

// verify that all lines are in Kafka once, each file's in order, and that the group
// has read them.
func (b *threeBrokers) verify() {
	b.t.Helper()
	b.ship()
	pollFor(b.t, time.Minute, "the group to have read all", func() error {
		if missing, _ := b.read.missing(b.files...); missing > 0 {
			return fmt.Errorf("%d are missing", missing)
		}
		return nil
	})
	// A broker that was stuck may not know at once that it leads no more: only now is
	// there none that has less.
	readTopic(b.t, b.cluster.Brokers("KAFKA_BROKERS"), b.topic).verify(b.t, b.files...)
}

// leaders are the partitions by the address of their leader.
func (b *threeBrokers) leaders() map[string][]int {
	b.t.Helper()
	conn, err := kafkago.DialContext(b.t.Context(), "tcp", b.cluster.Brokers("KAFKA_BROKERS")[0])
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	partitions, err := conn.ReadPartitions(b.topic)
	if err != nil {
		b.t.Fatal(err)
	}
	by := make(map[string][]int)
	for _, p := range partitions {
		at := fmt.Sprintf("%s:%d", p.Leader.Host, p.Leader.Port)
		by[at] = append(by[at], p.ID)
	}
	return by
}

func TestThreeBrokers(t *testing.T) {
	d := tortureTime(t)
	cluster := startOwn(t, "SERVICES=kafka", "KAFKA_NODES=3", "KAFKA_SETTINGS=num.partitions=12")
	ctx, cancel := context.WithTimeout(t.Context(), 2*d+15*time.Minute)
	defer cancel()

	// The leaders of the partitions change all the time, and a broker dies each time.
	t.Run("leaders change", func(t *testing.T) {
		chance := seeded(t)
		b := newThreeBrokers(t, cluster, "moving")
		kills := 0
		for over := time.Now().Add(d); time.Now().Before(over) || kills < 3; kills++ {
			b.line.await(50)
			if err := cluster.Kill(ctx, fmt.Sprint("kafka-", 1+chance.IntN(3))); err != nil {
				t.Fatal(err)
			}
			if chance.IntN(2) == 0 {
				b.line.await(50) // with two brokers
			}
			if err := cluster.Up(ctx); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d brokers killed", kills)
		b.verify()
	})

	// Pain 20: all brokers die, and come back one by one.
	t.Run("all killed", func(t *testing.T) {
		b := newThreeBrokers(t, cluster, "dark")
		b.line.await(50)
		for i := range 3 {
			if err := cluster.Kill(ctx, fmt.Sprint("kafka-", i+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := cluster.Up(ctx); err != nil {
			t.Fatal(err)
		}
		b.verify()
	})

	// Pain 19: a broker that is there and says nothing.
	t.Run("one is stuck", func(t *testing.T) {
		b := newThreeBrokers(t, cluster, "stuck")
		b.line.await(50)
		stuck := rand.IntN(3)
		address := cluster.Brokers("KAFKA_BROKERS")[stuck]
		before := b.leaders()
		if len(before) != 3 {
			t.Fatalf("leaders are %v", slices.Collect(maps.Keys(before)))
		}
		name := fmt.Sprint("kafka-", stuck+1)
		if err := cluster.Signal(name, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cluster.Signal(name, syscall.SIGCONT) })
		began := time.Now()
		pollFor(t, 15*time.Second, "an error that names the broker", func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if slices.ContainsFunc(b.told, func(s string) bool { return strings.Contains(s, address) }) {
				return nil
			}
			return fmt.Errorf("told: %q", b.told)
		})
		pollFor(t, 15*time.Second, "the broker to count as down", func() error {
			if up := b.sink.Up(); up[address] {
				return fmt.Errorf("%v", up)
			}
			return nil
		})
		// The controller gives what the broker led to others after 6 s; by then all goes on.
		within(t, 45*time.Second, "going on without it", func() { b.line.await(500) })
		t.Logf("500 blocks more after %v", time.Since(began).Round(time.Second))
		if err := cluster.Signal(name, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "all of it, once the broker is back", b.verify)
	})
}
