package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// backlog is what a node has to publish, by group. While Kafka is down it grows, as far
// back as the rules can look.
type backlog struct {
	horizon map[string]time.Duration // by rule
	groups  map[string]*alert.Partial
	seconds int // in all groups
}

// mostSeconds bounds the backlog: some 20 MiB.
const mostSeconds = 200_000

func newBacklog(rules []*alert.Rule) backlog {
	b := backlog{horizon: make(map[string]time.Duration), groups: make(map[string]*alert.Partial)}
	for _, r := range rules {
		b.horizon[r.Identity()] = r.Horizon()
	}
	return b
}

func (b *backlog) empty() bool { return len(b.groups) == 0 }

func (b *backlog) clear() {
	clear(b.groups)
	b.seconds = 0
}

// add puts newer partials over those that are there, and returns the number of seconds
// that were dropped: too old to matter, or too many.
func (b *backlog) add(partials []alert.Partial, now time.Time) (dropped uint64) {
	for i := range partials {
		p := &partials[i]
		key := string(groupKey(p))
		old := b.groups[key]
		if old == nil {
			b.groups[key] = p
			b.seconds += len(p.Seconds)
			continue
		}
		b.seconds -= len(old.Seconds)
		overlay(old, p)
		dropped += forget(old, now.Add(-b.horizon[p.Rule]).Unix())
		b.seconds += len(old.Seconds)
	}
	for b.seconds > mostSeconds {
		dropped += b.halve()
	}
	return dropped
}

// halve forgets the older half of each group.
func (b *backlog) halve() (dropped uint64) {
	for _, p := range b.groups {
		n := (len(p.Seconds) + 1) / 2
		p.Seconds = slices.Delete(p.Seconds, 0, n)
		dropped += uint64(n)
		b.seconds -= n
	}
	return dropped
}

// overlay puts a newer partial of the same group over an old one.
func overlay(old, p *alert.Partial) {
	old.Version = p.Version
	old.Seconds = replace(old.Seconds, p.Seconds, func(s alert.Second) int64 { return s.At })
	old.Slots = replace(old.Slots, p.Slots, func(s alert.Slot) int64 { return s.At })
	old.Places = replace(old.Places, p.Places, func(s alert.Place) int64 { return s.At })
	old.Samples = append(old.Samples, p.Samples...)
	if n := len(old.Samples) - alert.MaxSamples; n > 0 {
		old.Samples = slices.Delete(old.Samples, 0, n)
	}
	if len(p.Told) > 0 {
		old.Told = p.Told // all that the group has
	}
}

// replace puts what is newer in the place of what is of the same time.
func replace[T any](old, newer []T, at func(T) int64) []T {
	if len(old) == 0 {
		return newer
	}
	known := make(map[int64]bool, len(newer))
	for _, x := range newer {
		known[at(x)] = true
	}
	old = slices.DeleteFunc(old, func(x T) bool { return known[at(x)] })
	old = append(old, newer...)
	slices.SortStableFunc(old, func(a, b T) int { return int(at(a) - at(b)) })
	return old
}

// forget drops what is older than floor.
func forget(p *alert.Partial, floor int64) (dropped uint64) {
	p.Seconds = slices.DeleteFunc(p.Seconds, func(s alert.Second) bool {
		old := s.At < floor
		if old {
			dropped++
		}
		return old
	})
	p.Slots = slices.DeleteFunc(p.Slots, func(s alert.Slot) bool { return s.At < floor })
	p.Places = slices.DeleteFunc(p.Places, func(s alert.Place) bool { return s.At < floor })
	return dropped
}

// batches encodes the backlog for each partition.
func (b *backlog) batches(node string, partitions int) ([][]Record, error) {
	out := make([][]Record, partitions)
	for _, key := range slices.Sorted(maps.Keys(b.groups)) {
		p := b.groups[key]
		r, err := encodePartial(node, p)
		if err != nil {
			return nil, err
		}
		at := partitionOf(p, partitions)
		out[at] = append(out[at], r)
	}
	return out, nil
}
