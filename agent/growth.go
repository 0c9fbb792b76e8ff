package agent

import "time"

// growth remembers when a file had which size, to tell the age of the oldest byte that
// is not delivered: lines need not have a time, and a file may have rested for hours
// before its last one.
type growth struct {
	start  int64 // before it, bytes were there already at the first look
	looks  []sizeAt
	apart  time.Duration // the least distance between two of them
	onward bool          // there was a first look
}

type sizeAt struct {
	size int64
	at   time.Time
}

// maxLooks bounds the memory for one file. With it an age of a quarter of an hour is
// right within two seconds.
const maxLooks = 512

// note adds a look at which the file had this size. What lies before safe needs not be
// remembered.
func (g *growth) note(size, safe int64, now time.Time) {
	if !g.onward {
		*g = growth{start: size, onward: true, apart: 200 * time.Millisecond}
	}
	n := 0
	for n < len(g.looks) && g.looks[n].size <= safe {
		n++
	}
	g.looks = g.looks[:copy(g.looks, g.looks[n:])]
	if len(g.looks) == 0 {
		g.apart = 200 * time.Millisecond
	}
	if last := len(g.looks) - 1; last >= 0 && (size <= g.looks[last].size || now.Sub(g.looks[last].at) < g.apart) || size <= safe {
		return
	}
	if len(g.looks) == maxLooks {
		for i := range maxLooks / 2 {
			g.looks[i] = g.looks[2*i+1]
		}
		g.looks = g.looks[:maxLooks/2]
		g.apart *= 2
	}
	g.looks = append(g.looks, sizeAt{size, now})
}

// since is when the byte at off was first seen, and whether it was written then: false
// for what was there before the first look.
func (g *growth) since(off int64) (at time.Time, known bool) {
	for _, l := range g.looks {
		if l.size > off {
			return l.at, off >= g.start
		}
	}
	return time.Now(), off >= g.start
}
