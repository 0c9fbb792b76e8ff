package alert

import (
	"encoding/binary"
	"sync/atomic"
)

// Rules by a field with very many values, such as paths with ids in them, leave out the
// lines of most groups. To find that out at the flush, a ledger would have to remember
// each of them until then. So while all rules of a grouping have their groups, the keys
// of these are shown to the chains, which only count the lines of others.

// keys are those of all groups of a grouping's rules, while none admits others. For most
// lines of others the filter tells so: it has a bit for the hash of each key's last part.
type keys struct {
	all    map[string]struct{}
	filter [1 << filterBits / 64]uint64
}

const filterBits = 16

func (k *keys) add(key string, parts int) {
	k.all[key] = struct{}{}
	last := []byte(key)
	for range parts {
		size, used := binary.Uvarint(last)
		if used <= 0 || uint64(len(last)-used) < size {
			return // no line has such a key
		}
		if last = last[used:]; uint64(len(last)) > size {
			last = last[size:]
		}
	}
	bit := partHash(last) >> (64 - filterBits)
	k.filter[bit/64] |= 1 << (bit % 64)
}

// lack tells whether no key has a last part of that hash.
func (k *keys) lack(hash uint64) bool {
	bit := hash >> (64 - filterBits)
	return k.filter[bit/64]&(1<<(bit%64)) == 0
}

// shownKeys are the keys of each grouping, as of the last flush or Tick.
type shownKeys []atomic.Pointer[keys]

// full tells whether the rule admits no groups now, and has named some that it left out.
func (w *watch) full() bool {
	return (w.engine.closed() || len(w.groups) >= w.rule.cfg.MaxGroups) && len(w.stats.overflowed) >= maxOverflowed
}

// showKeys shows the keys of the groupings that have become full, and hides those of
// the groupings that are not any more.
func (e *Engine) showKeys() {
	for i := range e.shown {
		full := true
		for j, w := range e.watches {
			full = full && (e.binding.of[j] != i || w.full())
		}
		switch shown := e.shown[i].Load(); {
		case full && shown == nil:
			k := &keys{all: make(map[string]struct{})}
			for j, w := range e.watches {
				if e.binding.of[j] == i && len(w.rule.per) > 0 {
					for key := range w.groups {
						k.add(key, len(w.rule.per))
					}
				}
			}
			e.shown[i].Store(k)
		case !full && shown != nil:
			e.shown[i].Store(nil)
		}
	}
}
