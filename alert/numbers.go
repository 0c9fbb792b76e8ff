package alert

import (
	"encoding/binary"
	"math/bits"
)

// numbers gives the groups that a ledger has met a number each, from 1 on, and finds
// it again by what of the key differs from line to line: most often in one cache line.
type numbers struct {
	keys  []string   // by number less 1
	slots []numbered // a power of two of them, at least half of them unused
	shift uint       // of a hash, to have its place in slots
	// crowded are those for whose hash there was no place near by: the hash is quick, and
	// somebody may know which parts have the same.
	crowded map[crowdedPart]uint32
}

type crowdedPart struct {
	bound uint32
	part  string
}

// mostProbes is how many places after each other are looked at.
const mostProbes = 8

// numbered is a place in the table.
type numbered struct {
	hash  uint32
	bound uint32 // numbers the boundGrouping whose one part it is; 0: it is the whole key
	group uint32 // 0: the place is unused
	size  uint16
	part  [inlinePart]byte // its first bytes
}

// inlinePart is as much of a part as fits, with the rest, into a cache line.
const inlinePart = 50

// leftOut is the number of all groups that no rule of the grouping admits.
const leftOut = ^uint32(0)

// partHash is a hash of a part's length, its last eight bytes and its middle, where the
// paths of one server differ. Its upper bits are the good ones.
func partHash(part []byte) uint64 {
	n := len(part)
	if n < 8 {
		return 0
	}
	h := binary.LittleEndian.Uint64(part[n-8:]) ^ uint64(n)
	h = h*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(part[(n-8)/2:])
	return h * 0x9e3779b97f4a7c15
}

// find returns the group's number, 0 when it has none.
func (n *numbers) find(bound uint32, hash uint64, part []byte) uint32 {
	if len(n.slots) == 0 {
		return 0
	}
	first := int(hash >> n.shift)
probes:
	for i := first; i < first+mostProbes; i++ {
		s := &n.slots[i&(len(n.slots)-1)]
		switch {
		case s.group == 0:
			break probes
		case s.hash == uint32(hash>>32) && s.bound == bound && int(s.size) == len(part) && n.same(s, part):
			return s.group
		}
	}
	if n.crowded == nil {
		return 0
	}
	return n.crowded[crowdedPart{bound, string(part)}]
}

func (n *numbers) same(s *numbered, part []byte) bool {
	if len(part) <= inlinePart {
		return string(s.part[:len(part)]) == string(part)
	}
	return n.partOf(s) == string(part)
}

// add gives a group a number. part is the end of key, or all of it.
func (n *numbers) add(bound uint32, hash uint64, part []byte, key string) uint32 {
	if 2*(len(n.keys)+1) > len(n.slots) {
		n.grow()
	}
	n.keys = append(n.keys, key)
	s := numbered{hash: uint32(hash >> 32), bound: bound, group: uint32(len(n.keys)), size: uint16(len(part))}
	copy(s.part[:], part)
	n.place(hash, s)
	return s.group
}

func (n *numbers) place(hash uint64, s numbered) {
	first := int(hash >> n.shift)
	for i := first; i < first+mostProbes; i++ {
		if at := &n.slots[i&(len(n.slots)-1)]; at.group == 0 {
			*at = s
			return
		}
	}
	if n.crowded == nil {
		n.crowded = make(map[crowdedPart]uint32)
	}
	n.crowded[crowdedPart{s.bound, n.partOf(&s)}] = s.group
}

func (n *numbers) partOf(s *numbered) string {
	key := n.keys[s.group-1]
	return key[len(key)-int(s.size):]
}

func (n *numbers) grow() {
	old := n.slots
	n.slots = make([]numbered, max(64, 2*len(old)))
	n.shift = uint(65 - bits.Len(uint(len(n.slots))))
	for _, s := range old {
		if s.group != 0 {
			n.place(partHash([]byte(n.partOf(&s))), s)
		}
	}
}
