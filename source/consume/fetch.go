package consume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/kafka/wire"
)

const (
	fetchWait = 250 * time.Millisecond // how long a broker waits for the first byte
	// fetchBytes is how much an answer holds, and partBytes how much of one partition: a
	// batch that is larger comes alone.
	fetchBytes = 1 << 20
	partBytes  = 512 << 10
	// answerTime is how long a broker may take to answer, beyond what it was asked to wait.
	answerTime = 10 * time.Second
	// maxAnswerBytes bounds an answer: a batch is no larger than message.max.bytes.
	maxAnswerBytes = 256 << 20
)

// readCommitted has an answer end before the first transaction that is open, and name
// those that were aborted.
const readCommitted = 1

// fetchBackoff is between tries to read a partition.
var fetchBackoff = backoff.Policy{First: 50 * time.Millisecond, Cap: 5 * time.Second}

// reader is a place from which a partition is read on, by one fetcher at a time: the
// partition's own, for the output, or the one ahead of it, for the watcher.
type reader interface {
	of() *partition
	place() int64 // the offset to be read, or unknownOffset
	// begins is told the offset of the oldest record, where the place was unknown.
	begins(offset int64)
	failed(code kafka.Error)
	// answered is given what a broker has said to a question about the place.
	answered(ctx context.Context, d *decoder, a *partAnswer)
}

// fetcher reads partitions from the one broker that leads them, over a connection of
// its own, one answer after the other: while the output has no room, nothing is read for
// it.
type fetcher struct {
	source *Source
	fetcherID
	memory *memory
	parts  []reader // of the round under way
	stuck  bool     // it waits for the output; guarded by source.mu

	conn        *wire.Conn // nil: not connected
	correlation int32
	request     []byte
	answer      []byte
	decoder     decoder
	turn        int // whose partition comes first
	asked       map[partitionID]reader
	failures    int
}

// run reads until ctx ends, or this broker leads nothing that is read here any more.
func (f *fetcher) run(ctx context.Context) {
	defer f.hangUp()
	for ctx.Err() == nil {
		parts, wait, any := f.source.borrow(f)
		if len(parts) == 0 {
			if !any && f.source.retire(f) {
				return
			}
			select {
			case <-wait:
			case <-time.After(fetchWait): // one that failed may be due again
			case <-ctx.Done():
			}
			continue
		}
		err := f.round(ctx, parts)
		f.source.giveBack(parts)
		if err != nil && ctx.Err() == nil {
			f.fail(ctx, err)
		}
	}
}

// fail is for what went wrong with the broker, not with one partition.
func (f *fetcher) fail(ctx context.Context, err error) {
	f.hangUp()
	f.failures++
	if f.failures > 1 || errors.Is(err, os.ErrDeadlineExceeded) { // or the connection was only old
		f.source.trouble(f.fetcherID, err)
	}
	f.source.lookSoon()
	backoff.Sleep(ctx, fetchBackoff.Delay(f.failures))
}

func (f *fetcher) hangUp() {
	if f.conn != nil {
		f.conn.Close()
		f.conn = nil
	}
}

// round asks for what the partitions have, once, and hands it on.
func (f *fetcher) round(ctx context.Context, parts []reader) error {
	f.parts = parts
	if f.conn == nil {
		conn, err := f.source.cluster.Connect(ctx, f.source.cluster.Broker(f.broker))
		if err != nil {
			return err
		}
		f.conn = conn
	}
	conn := f.conn.Raw
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := f.findBeginnings(ctx, parts); err != nil {
		return err
	}
	parts = slices.DeleteFunc(slices.Clone(parts), func(r reader) bool { return r.place() == unknownOffset })
	if len(parts) == 0 {
		return nil
	}
	if err := f.send(ctx, parts); err != nil {
		return fmt.Errorf("broker %s: %w", f.conn.Address, err)
	}
	held, err := f.receive(ctx)
	defer f.memory.give(held)
	if err != nil {
		return fmt.Errorf("broker %s: %w", f.conn.Address, err)
	}
	f.failures = 0
	f.source.trouble(f.fetcherID, nil)
	if err := f.take(ctx); err != nil {
		return fmt.Errorf("broker %s: %w", f.conn.Address, err)
	}
	return nil
}

// findBeginnings asks where the partitions begin of which nothing was committed.
func (f *fetcher) findBeginnings(ctx context.Context, parts []reader) error {
	req := &listoffsets.Request{ReplicaID: -1}
	unknown := make(map[partitionID]reader)
	for _, r := range parts {
		if id := r.of().id; r.place() == unknownOffset {
			unknown[id] = r
			req.Topics = append(req.Topics, offsetQuestion(id, kafka.FirstOffset))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	if err := f.within(ctx, answerTime); err != nil {
		return err
	}
	m, err := f.conn.Ask(ctx, req)
	if err != nil {
		return err
	}
	for id, a := range answers(m) {
		switch r := unknown[id]; {
		case r == nil:
		case a.ErrorCode != 0:
			r.failed(kafka.Error(a.ErrorCode))
		default:
			r.begins(a.Offset)
		}
	}
	return nil
}

// send writes a fetch request, in one of the versions 4 to 11, as described in Apache
// Kafka's protocol documentation.
func (f *fetcher) send(ctx context.Context, parts []reader) error {
	const apiFetch = 1
	version := f.conn.Versions[protocol.Fetch]
	f.correlation++
	f.turn++
	u32 := binary.BigEndian.AppendUint32
	u64 := binary.BigEndian.AppendUint64
	b := append(f.request[:0], 0, 0, 0, 0) // the size, below
	b = binary.BigEndian.AppendUint16(b, apiFetch)
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = u32(b, uint32(f.correlation))
	b = wire.AppendText(b, "tailwater")
	b = u32(b, 0xffffffff) // no replica
	b = u32(b, uint32(fetchWait.Milliseconds()))
	b = u32(b, 1)
	b = u32(b, fetchBytes)
	b = append(b, readCommitted)
	if version >= 7 {
		b = u32(u32(b, 0), 0xffffffff) // no session
	}
	b = u32(b, uint32(len(parts)))
	clear(f.asked)
	for i := range parts {
		r := parts[(i+f.turn)%len(parts)] // what comes first fills the answer first
		id := r.of().id
		f.asked[id] = r
		b = wire.AppendText(b, id.topic)
		b = u32(u32(b, 1), uint32(id.index))
		if version >= 9 {
			b = u32(b, 0xffffffff) // the leader's epoch is not known
		}
		b = u64(b, uint64(r.place()))
		if version >= 5 {
			b = u64(b, 0xffffffffffffffff)
		}
		b = u32(b, partBytes)
	}
	if version >= 7 {
		b = u32(b, 0) // nothing is forgotten
	}
	if version >= 11 {
		b = append(b, 0, 0) // no rack
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	f.request = b
	if err := f.within(ctx, fetchWait+answerTime); err != nil {
		return err
	}
	_, err := f.conn.Raw.Write(b)
	return err
}

// within bounds what follows on the connection, which the end of ctx bounds, too.
func (f *fetcher) within(ctx context.Context, d time.Duration) error {
	f.conn.Raw.SetDeadline(time.Now().Add(d))
	return context.Cause(ctx) // it may have ended just before, and its deadline be lost
}

// receive reads the answer. The memory for it is borrowed from what all fetchers have
// together, and held is to be given back.
func (f *fetcher) receive(ctx context.Context) (held int, err error) {
	var head [8]byte
	if _, err := io.ReadFull(f.conn.Raw, head[:]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(head[:])) - 4
	if size < 0 || size > maxAnswerBytes || int32(binary.BigEndian.Uint32(head[4:])) != f.correlation {
		return 0, fmt.Errorf("an answer of %d bytes, or to another question; is it Kafka?", size)
	}
	if err = f.patiently(ctx, func(ctx context.Context) (err error) {
		held, err = f.memory.take(ctx, size)
		return err
	}); err != nil {
		return 0, err
	}
	const most = 4 << 20 // a giant is not remembered
	if cap(f.answer) < size || cap(f.answer) > most {
		f.answer = make([]byte, size)
	}
	f.answer = f.answer[:size]
	if err := f.within(ctx, answerTime); err != nil {
		return held, err
	}
	_, err = io.ReadFull(f.conn.Raw, f.answer)
	return held, err
}

// take hands on what the answer holds.
func (f *fetcher) take(ctx context.Context) error {
	return eachPartition(f.answer, f.conn.Versions[protocol.Fetch], func(a *partAnswer) {
		switch r := f.asked[partitionID{string(a.topic), a.index}]; {
		case r == nil:
		case a.code == 0:
			r.answered(ctx, &f.decoder, a)
		default:
			r.failed(a.code)
		}
	})
}

// partAnswer is what a fetch answer says of one partition. It belongs to the answer.
type partAnswer struct {
	topic            []byte
	index            int
	code             kafka.Error
	last             int64  // the offset after the newest record
	aborted, records []byte // as decoder.expect and decoder.records take them
}

// eachPartition reads a fetch answer.
func eachPartition(body []byte, version int16, each func(*partAnswer)) error {
	var a partAnswer
	r := wire.Reader{Rest: body}
	r.Take(4) // throttle time
	if version >= 7 {
		if code := kafka.Error(int16(r.Uint16())); code != 0 {
			return code
		}
		r.Take(4) // session
	}
	for topics := r.Uint32(); topics > 0 && !r.Torn; topics-- {
		a.topic = r.Text()
		for partitions := r.Uint32(); partitions > 0 && !r.Torn; partitions-- {
			a.index = int(int32(r.Uint32()))
			a.code = kafka.Error(int16(r.Uint16()))
			a.last = int64(r.Uint64())
			r.Take(8) // last stable offset
			if version >= 5 {
				r.Take(8) // the log's beginning
			}
			a.aborted, a.records = nil, nil
			if n := int32(r.Uint32()); n > 0 {
				a.aborted = r.Take(int(n) * 16)
			}
			if version >= 11 {
				r.Take(4) // a replica that is nearer
			}
			if n := int32(r.Uint32()); n > 0 {
				a.records = r.Take(int(n))
			}
			if !r.Torn {
				each(&a)
			}
		}
	}
	if r.Torn {
		return wire.ErrTorn
	}
	return nil
}

// answered takes what a fetch answer holds of the partition.
func (p *partition) answered(ctx context.Context, d *decoder, a *partAnswer) {
	p.hear(a.last)
	if p.mayBeAnother() && !p.source.stillThere(ctx, p) {
		return
	}
	if p.begun {
		p.beginWatching(a.last)
	}
	p.begun = false
	d.expect(a.aborted)
	p.settle(p.take(d, a.records))
}

// settle notes how a try to take records ended.
func (p *partition) settle(err error) {
	if err == nil {
		p.succeed()
		p.source.trouble(p.id, nil)
		return
	}
	if !errors.Is(err, errLeft) {
		p.fail()
		p.source.trouble(p.id, fmt.Errorf("topic %s partition %d: %w", p.id.topic, p.id.index, err))
	}
}

// failed is for what a broker says of one partition.
func (p *partition) failed(code kafka.Error) {
	failures := p.fail()
	s := p.source
	switch code {
	case kafka.OffsetOutOfRange:
		p.missed, p.next = p.next, unknownOffset
		return
	case kafka.UnknownTopicOrPartition:
		p.vanish()
	case kafka.NotLeaderForPartition: // a deletion may show itself like that
		if p.known() {
			p.vanish()
		}
	case kafka.TopicAuthorizationFailed:
		s.trouble(p.id, fmt.Errorf("topic %s: not allowed: %w; give this user READ and DESCRIBE on the topic", p.id.topic, code))
		return
	}
	s.lookSoon()
	if failures > 3 { // a leader that moved is found by then
		s.trouble(p.id, fmt.Errorf("topic %s partition %d: %w", p.id.topic, p.id.index, code))
	}
}
