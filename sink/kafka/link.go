package kafka

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/internal/kafka/wire"
)

// call is one batch on its way to its partition's leader.
type call struct {
	topic     string
	partition int32
	sealed    []byte     // not touched by the caller until it is answered
	done      chan error // gets the one answer; holds it
}

// isAmong tells whether another call is of the same partition.
func (c *call) isAmong(others []*call) bool {
	for _, o := range others {
		if o.partition == c.partition && o.topic == c.topic {
			return true
		}
	}
	return false
}

const (
	// maxRequests is how many requests one connection has under way. A broker works
	// on them one after the other; more than one hides the network's latency.
	maxRequests = 5
	// maxRequestBytes bounds what is put into one request together, so that the first
	// of it need not wait for the rest.
	maxRequestBytes = 4 << 20
)

// link is a connection to one broker that carries batches. What waits while it is
// busy goes together in the next request.
type link struct {
	conn    net.Conn
	address string
	version int16         // of the produce request
	acks    Acks          // see acksOf
	timeout time.Duration // how long the broker may wait for its replicas

	mu       sync.Mutex // guards what follows
	changed  sync.Cond
	waiting  []*call
	underway []request         // whose answers are due, in their order
	err      error             // why the link is down; it stays so
	proved   map[partition]int // the largest batch that the broker has stored; where nobody is to answer
	ended    sync.WaitGroup

	head []byte      // scratch of send
	vecs net.Buffers // scratch of send
}

// request is batches that go together.
type request struct {
	correlation int32
	calls       []*call
	acks        Acks
}

func newLink(conn net.Conn, address string, version int16, acks Acks, timeout time.Duration) *link {
	l := &link{conn: conn, address: address, version: version, acks: acks, timeout: timeout, proved: make(map[partition]int)}
	l.changed.L = &l.mu
	l.ended.Go(l.write)
	l.ended.Go(l.read)
	return l
}

// submit queues a call, which is answered in any case. It says false when the link
// is down, and the call is another's to carry.
func (l *link) submit(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.waiting = append(l.waiting, c)
	l.changed.Broadcast()
	return true
}

// alive tells whether the link takes calls.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// fail takes the link down. Calls are answered with the first error.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	l.conn.Close()
}

// close takes the link down and waits until all calls are answered.
func (l *link) close() {
	l.fail(errClosed)
	l.ended.Wait()
}

var errClosed = errors.New("the output was closed")

// write sends what waits, until the link is down; then it answers what is left. It
// alone answers after a failure, as until it is through a buffer may be in use.
func (l *link) write() {
	for correlation := int32(1); ; correlation++ {
		r, ok := l.next(correlation)
		if !ok {
			break
		}
		err := l.send(r)
		if err != nil {
			l.fail(err)
		}
		if r.acks == AcksNone { // nobody will answer
			for _, c := range r.calls {
				c.done <- err
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range append(l.underway, request{calls: l.waiting}) {
		for _, c := range r.calls {
			c.done <- l.err
		}
	}
	l.underway, l.waiting = nil, nil
}

// next waits for calls and takes those that go together, of each partition one: a
// broker takes no more in a request.
func (l *link) next(correlation int32) (r request, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && (len(l.waiting) == 0 || len(l.underway) >= maxRequests) {
		l.changed.Wait()
	}
	if l.err != nil {
		return r, false
	}
	bytes, n := 0, 0
	for n < len(l.waiting) && (n == 0 || bytes+len(l.waiting[n].sealed) <= maxRequestBytes) && !l.waiting[n].isAmong(l.waiting[:n]) {
		bytes += len(l.waiting[n].sealed)
		n++
	}
	r.correlation, r.calls = correlation, append(r.calls, l.waiting[:n]...)
	l.waiting = append(l.waiting[:0], l.waiting[n:]...)
	if r.acks = l.acksOf(r.calls); r.acks != AcksNone {
		l.underway = append(l.underway, r)
	}
	return r, true
}

// acksOf are those to ask for. Where nobody is to answer the first batch of a partition
// is asked about all the same: with a topic that is just coming into being, or a leader
// that is another by now, it would be lost, and what follows with it. So is one that is
// larger than any before: it may be too large. l.mu is held.
func (l *link) acksOf(calls []*call) Acks {
	if l.acks != AcksNone {
		return l.acks
	}
	for _, c := range calls {
		if len(c.sealed) > l.proved[partition{c.topic, c.partition}] {
			return AcksLeader
		}
	}
	return AcksNone
}

// send writes a produce request (versions 3 to 8 are written alike) as described
// in Apache Kafka's protocol documentation.
func (l *link) send(r request) error {
	const apiProduce, client = 0, "tailwater"
	h := append(l.head[:0], 0, 0, 0, 0) // the size, below
	h = binary.BigEndian.AppendUint16(h, apiProduce)
	h = binary.BigEndian.AppendUint16(h, uint16(l.version))
	h = binary.BigEndian.AppendUint32(h, uint32(r.correlation))
	h = wire.AppendText(h, client)
	h = append(h, 0xff, 0xff) // no transaction
	h = binary.BigEndian.AppendUint16(h, uint16(r.acks))
	h = binary.BigEndian.AppendUint32(h, uint32(l.timeout.Milliseconds()))
	h = binary.BigEndian.AppendUint32(h, uint32(len(r.calls)))
	ends := make([]int, 0, 64)
	size := 0
	for _, c := range r.calls {
		h = wire.AppendText(h, c.topic)
		h = binary.BigEndian.AppendUint32(h, 1)
		h = binary.BigEndian.AppendUint32(h, uint32(c.partition))
		h = binary.BigEndian.AppendUint32(h, uint32(len(c.sealed)))
		ends = append(ends, len(h))
		size += len(c.sealed)
	}
	binary.BigEndian.PutUint32(h, uint32(len(h)-4+size))
	l.head, l.vecs = h, l.vecs[:0]
	from := 0
	for i, c := range r.calls {
		l.vecs = append(l.vecs, h[from:ends[i]], c.sealed)
		from = ends[i]
	}
	vecs := l.vecs // WriteTo consumes its receiver
	if _, err := vecs.WriteTo(l.conn); err != nil {
		return fmt.Errorf("broker %s: %w", l.address, err)
	}
	return nil
}

// maxAnswerBytes bounds an answer: it says a few words for each of the calls.
const maxAnswerBytes = 16 << 20

// read takes the answers, which come in the order of the requests.
func (l *link) read() {
	r := bufio.NewReader(l.conn)
	var buf []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			l.fail(fmt.Errorf("broker %s: %w", l.address, err))
			return
		}
		size := binary.BigEndian.Uint32(head[:])
		if size < 4 || size > maxAnswerBytes {
			l.fail(fmt.Errorf("broker %s: an answer of %d bytes; is it Kafka?", l.address, size))
			return
		}
		if cap(buf) < int(size) {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			l.fail(fmt.Errorf("broker %s: %w", l.address, err))
			return
		}
		if err := l.answer(buf); err != nil {
			l.fail(fmt.Errorf("broker %s: %w", l.address, err))
			return
		}
	}
}

// answer tells the calls of the oldest request what became of them.
func (l *link) answer(body []byte) error {
	a := &wire.Reader{Rest: body}
	correlation := int32(a.Uint32())
	answers, err := results(a, l.version)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.err != nil { // write answers for all
		l.mu.Unlock()
		return l.err
	}
	if len(l.underway) == 0 || correlation != l.underway[0].correlation || len(answers) != len(l.underway[0].calls) {
		l.mu.Unlock()
		return fmt.Errorf("answer %d with %d results where another was due", correlation, len(answers))
	}
	calls := l.underway[0].calls
	l.underway = append(l.underway[:0], l.underway[1:]...)
	for _, c := range calls {
		if p := (partition{c.topic, c.partition}); l.acks == AcksNone && answers[p] == nil {
			l.proved[p] = max(l.proved[p], len(c.sealed))
		}
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	for _, c := range calls {
		c.done <- answers[partition{c.topic, c.partition}]
	}
	return nil
}

type partition struct {
	topic string
	index int32
}

// results are the errors of the partitions in a produce response, nil for what is
// stored.
func results(a *wire.Reader, version int16) (map[partition]error, error) {
	all := make(map[partition]error)
	for topics := a.Uint32(); topics > 0 && !a.Torn; topics-- {
		topic := string(a.Text())
		for partitions := a.Uint32(); partitions > 0 && !a.Torn; partitions-- {
			p := partition{topic, int32(a.Uint32())}
			code := kafka.Error(int16(a.Uint16()))
			a.Take(8 + 8) // base offset, append time
			if version >= 5 {
				a.Take(8) // log start offset
			}
			var why []byte
			if version >= 8 {
				for records := a.Uint32(); records > 0 && !a.Torn; records-- {
					a.Take(4)
					a.Text()
				}
				why = a.Text()
			}
			all[p] = resultOf(code, why)
		}
	}
	if a.Torn {
		return nil, wire.ErrTorn
	}
	return all, nil
}

func resultOf(code kafka.Error, why []byte) error {
	switch {
	case code == 0:
		return nil
	case len(why) > 0:
		return fmt.Errorf("%w: %s", code, why)
	}
	return code
}
