package listen

import (
	"errors"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// forwardMessage is one of the protocol's four modes.
type forwardMessage struct {
	tag []byte
	// packed are entries, one after the other; of the modes Message and Forward, too.
	packed     []byte
	entries    int  // how many those are, -1 for a packed mode
	single     bool // packed is a time and a record, without the array around them
	compressed string
	chunk      []byte

	text []byte // memory for records
	took int64  // records that appendRecords has appended last
	cut  int64  // bytes of records that are longer than max_line
}

// maxTag bounds what each record carries of a message's tag, in bytes.
const maxTag = 1024

// parseForward reads a message: [tag, time, record, option], [tag, [entry..], option] or
// [tag, packed entries, option].
func parseForward(data []byte) (m forwardMessage, err error) {
	v, rest, err := nextPack(data)
	if err != nil {
		return m, err
	}
	if v.kind != packArray || v.n < 2 {
		return m, errPackType
	}
	left := v.n - 2
	if v, rest, err = nextPack(rest); err != nil || v.kind != packText {
		return m, cmpErr(err)
	}
	m.tag = v.bytes
	second, after, err := nextPack(rest)
	if err != nil {
		return m, err
	}
	switch second.kind {
	case packText:
		m.packed, m.entries, rest = second.bytes, -1, after
	case packArray:
		var s packScan
		if done, err := s.scan(rest, len(rest)); err != nil || !done {
			return m, cmpErr(err)
		}
		m.packed, m.entries, rest = rest[headOf(rest):s.at], second.n, rest[s.at:]
	default:
		if left < 1 {
			return m, errPackType
		}
		left--
		end := 0
		for range 2 {
			var s packScan
			if done, err := s.scan(rest[end:], len(rest)); err != nil || !done {
				return m, cmpErr(err)
			}
			end += s.at
		}
		m.packed, m.entries, m.single, rest = rest[:end], 1, true, rest[end:]
	}
	if left > 0 {
		err = m.options(rest)
	}
	return m, err
}

func cmpErr(err error) error {
	if err == nil {
		return errPackType
	}
	return err
}

// headOf is the length of a value's head.
func headOf(data []byte) int {
	head, _, _, _ := packSize(data)
	return head
}

// options reads chunk and compressed from the option map; nil is none.
func (m *forwardMessage) options(data []byte) error {
	v, rest, err := nextPack(data)
	if err != nil {
		return err
	}
	if v.kind != packMap {
		return nil
	}
	for range v.n {
		var key, val packValue
		if key, rest, err = nextPack(rest); err != nil {
			return err
		}
		var s packScan
		if done, err := s.scan(rest, len(rest)); err != nil || !done {
			return cmpErr(err)
		}
		if val, _, err = nextPack(rest); err != nil {
			return err
		}
		rest = rest[s.at:]
		if key.kind != packText || val.kind != packText {
			continue
		}
		switch string(key.bytes) {
		case "chunk":
			m.chunk = val.bytes
		case "compressed":
			if m.entries < 0 {
				m.compressed = string(val.bytes)
			}
		}
	}
	return nil
}

// appendRecords appends the entries as records, up to about upTo bytes, and leaves the
// others in packed. A record is cut at most bytes. room says whether there is memory. What
// comes after a malformed entry of a packed message cannot be read, where its end cannot be
// found; it counts as one.
func (m *forwardMessage) appendRecords(dst []byte, most, upTo int, room func(bytes int) error) (out []byte, lost int, err error) {
	m.took = 0
	fields := spool.AppendField(nil, "tag", m.tag[:min(len(m.tag), maxTag)], record.Text)
	for len(m.packed) > 0 && m.entries != 0 && len(dst) < upTo {
		r, rest, err := m.entry(m.packed, most)
		if rest == nil && !m.single { // no time and record: it may be passed over all the same
			rest, _ = skipPack(m.packed, 1)
		}
		if rest == nil {
			m.packed = nil
			return dst, lost + max(m.entries, 1), nil
		}
		m.packed = rest
		if m.entries > 0 {
			m.entries--
		}
		if err != nil {
			lost++
			continue
		}
		if len(r.Text) == 0 {
			continue
		}
		r.Fields = fields
		if err := room(len(dst) + len(r.Text)); err != nil {
			return dst, lost, err
		}
		dst = spool.AppendRecord(dst, &r)
		m.took++
	}
	if m.entries == 0 {
		m.packed = nil
	}
	return dst, lost, nil
}

// entry reads one: [time, record], or both without the array. The time may be a pair of
// itself and metadata, as Fluent Bit writes it. rest is what follows it, nil only where
// that cannot be told.
func (m *forwardMessage) entry(data []byte, most int) (r spool.Record, rest []byte, err error) {
	more := 0
	if !m.single {
		var v packValue
		if v, data, err = nextPack(data); err != nil || v.kind != packArray || v.n < 2 {
			return r, nil, cmpErr(err)
		}
		more = v.n - 2
	}
	at, data, err := nextPack(data)
	if err == nil && at.kind == packArray && at.n > 0 {
		others := at.n - 1
		if at, data, err = nextPack(data); err == nil {
			data, err = skipPack(data, others)
		}
	}
	if err != nil {
		return r, nil, err
	}
	r.Flags = spool.IsJSON | spool.TimeIsFallback
	r.Time, _ = at.time()
	v, _, err := nextPack(data)
	if err != nil {
		return r, nil, err
	}
	if rest, err = skipPack(data, 1+more); err != nil {
		return r, nil, err
	}
	if v.kind == packText { // not as the protocol says, but what it says is clear
		r.Text = v.bytes
	} else if m.text, _, err = appendPackJSON(m.text[:0], data, packLimits{most: most}); err == nil || errors.Is(err, errPackLong) {
		r.Text = m.text
	} else {
		return r, rest, err
	}
	if v.kind != packMap {
		r.Flags &^= spool.IsJSON
	}
	if len(r.Text) > most || err != nil {
		m.cut += int64(max(len(r.Text)-most, len(data)-len(rest)-most, 1))
		r.Text = r.Text[:min(len(r.Text), most)]
		r.Flags |= spool.Truncated
	}
	return r, rest, nil
}

// skipPack passes over n values.
func skipPack(data []byte, n int) ([]byte, error) {
	for range n {
		var s packScan
		if done, err := s.scan(data, len(data)); err != nil || !done {
			return nil, cmpErr(err)
		}
		data = data[s.at:]
	}
	return data, nil
}
