package tail

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// model does random things to files and knows which lines must come out.
type model struct {
	*player
	rnd    *rand.Rand
	names  []string // of the logs
	header string   // that each new file begins with
	seq    int
	// holders counts the files on disk that hold a line, by the file's contents.
	files     map[string][]int  // lines by path
	of        map[string]string // the log of those that were moved away
	looked    map[string]int    // how many lines of the file the source has had a chance to see
	came      map[int]int       // how often a line came out
	spare     map[int]bool      // lines that may be lost: their bytes were gone before anybody looked
	script    []string
	birthless bool
}

func (m *model) do(format string, args ...any) {
	m.script = append(m.script, fmt.Sprintf(format, args...))
	m.player.play(strings.Fields(m.script[len(m.script)-1]))
}

func (m *model) write(name string, n int) {
	var text strings.Builder
	if _, there := m.files[name]; !there {
		text.WriteString(m.header)
	}
	for range n {
		m.seq++
		fmt.Fprintf(&text, `line-%d-of-%s\n`, m.seq, name)
		m.files[name] = append(m.files[name], m.seq)
	}
	m.do("write %s %s", name, text.String())
}

// drop notes that a file is gone with what it held.
func (m *model) drop(name string, safe bool) {
	for i, n := range m.files[name] {
		if m.came[n] > 0 || m.elsewhere(n, name) || safe && i < m.looked[name] {
			continue
		}
		m.spare[n] = true
	}
	delete(m.files, name)
	delete(m.looked, name)
}

func (m *model) elsewhere(n int, but string) bool {
	for name, lines := range m.files {
		if name == but || strings.HasPrefix(name, awayDir) {
			continue
		}
		for _, l := range lines {
			if l == n {
				return true
			}
		}
	}
	return false
}

func (m *model) rename(from, to string) {
	m.do("mv %s %s", from, to)
	m.of[to] = from
	m.files[to], m.looked[to] = m.files[from], m.looked[from]
	delete(m.files, from)
	delete(m.looked, from)
	if !strings.HasPrefix(to, awayDir) {
		return
	}
	for i, n := range m.files[to] {
		if m.came[n] == 0 && i >= m.looked[to] && !m.elsewhere(n, to) {
			m.spare[n] = true // unless it is followed, or comes back
		}
	}
}

const keptSiblings = 4

// shift makes room for NAME.1.
func (m *model) shift(name string) {
	for i := keptSiblings; i >= 1; i-- {
		for _, ext := range []string{"", ".gz"} {
			from := fmt.Sprintf("%s.%d%s", name, i, ext)
			if _, there := m.files[from]; !there {
				continue
			}
			if i == keptSiblings {
				// Once deleted it can only be read by its descriptor, which lasts as long as
				// the process.
				m.drop(from, false)
				m.do("rm %s", from)
				continue
			}
			m.rename(from, fmt.Sprintf("%s.%d%s", name, i+1, ext))
		}
	}
}

func (m *model) step() {
	name := m.names[m.rnd.IntN(len(m.names))]
	_, live := m.files[name]
	switch k := m.rnd.IntN(100); {
	case k < 35:
		m.write(name, 1+m.rnd.IntN(4))
	case k < 45 && live:
		m.shift(name)
		m.rename(name, name+".1")
	case k < 53 && live:
		m.shift(name)
		m.do("cp %s %s.1", name, name)
		m.files[name+".1"] = append([]int(nil), m.files[name]...)
		if m.rnd.IntN(3) == 0 {
			m.poll1()
		}
		if m.rnd.IntN(4) == 0 { // the gap that no reader can close
			m.write(name, 1)
			if m.rnd.IntN(2) == 0 {
				m.poll1()
			}
		}
		m.drop(name, false)
		m.do("truncate %s 0", name)
	case k < 60:
		sibling := fmt.Sprintf("%s.%d", name, 1+m.rnd.IntN(keptSiblings))
		if _, there := m.files[sibling]; there {
			m.do("gzip %s", sibling)
			m.files[sibling+".gz"] = m.files[sibling]
			delete(m.files, sibling)
		}
	case k < 62 && live: // deleted; what was seen of it is read by its descriptor
		m.drop(name, true)
		m.do("rm %s", name)
	case k < 64 && live: // what was not read yet is nowhere
		m.drop(name, false)
		m.do("truncate %s 0", name)
	case k < 66 && live: // to where nobody looks; an open one is followed
		m.seq++
		m.spare[m.seq] = true
		m.rename(name, fmt.Sprint(awayDir, m.seq))
	case k < 68:
		m.bringBack(name)
	case k < 70 && live: // past the old end before anybody looks, and perhaps gone then
		m.drop(name, false)
		m.do("truncate %s 0", name)
		m.write(name, 3+m.rnd.IntN(12))
		if m.rnd.IntN(2) == 0 {
			m.drop(name, false)
			m.do("rm %s", name)
		}
	case k < 73:
		m.zipBeside(fmt.Sprintf("%s.%d", name, 1+m.rnd.IntN(keptSiblings)))
	case k < 74 && live: // dateext
		m.seq++
		m.spare[m.seq] = true
		m.rename(name, fmt.Sprintf("%s-%d", name, 20260101+m.seq))
	case k < 87:
		m.poll1()
	case k < 89:
		m.end1("restart")
	case k < 91:
		m.end1("kill")
	case k < 93:
		m.do("save")
	case k < 96:
		m.do("hold")
	default:
		m.do("release")
	}
	m.count()
}

// awayDir is where no pattern looks.
const awayDir = "elsewhere/"

// bringBack moves a log back from where nobody looks, under the watched name if that is
// free. Without times of birth nothing tells a short one from another with its inode.
func (m *model) bringBack(name string) {
	if _, live := m.files[name]; live || m.birthless {
		return
	}
	for _, from := range slices.Sorted(maps.Keys(m.files)) {
		if strings.HasPrefix(from, awayDir) && m.of[from] == name {
			m.rename(from, name)
			return
		}
	}
}

// zipBeside compresses a rotated file through a temporary name, and leaves the plain one
// there for a while.
func (m *model) zipBeside(name string) {
	_, there := m.files[name]
	_, done := m.files[name+".gz"]
	if !there || done {
		return
	}
	m.do("gzipto %s %s.gz.tmp", name, name)
	if m.rnd.IntN(2) == 0 {
		m.poll1()
	}
	m.do("mv %[1]s.gz.tmp %[1]s.gz", name)
	m.files[name+".gz"] = m.files[name]
	for range m.rnd.IntN(3) {
		m.poll1()
	}
	m.drop(name, false)
	m.do("rm %s", name)
}

// end1 ends the process: what it had open and was deleted may be lost.
func (m *model) end1(how string) {
	m.do("%s", how)
	for n := range m.seq {
		if m.came[n+1] == 0 && !m.elsewhere(n+1, "") {
			m.spare[n+1] = true
		}
	}
	clear(m.looked)
	m.do("poll")
}

func (m *model) poll1() {
	m.do("poll")
	for name, lines := range m.files {
		m.looked[name] = len(lines)
	}
}

// count takes what came out.
func (m *model) count() {
	for _, l := range m.lines {
		var n int
		if _, err := fmt.Sscanf(l.text, "line-%d-of-", &n); err == nil {
			m.came[n]++
		} else if l.text+"\n" != longHeader {
			m.t.Errorf("torn line %q of %s", l.text, l.path)
		}
	}
	m.lines = nil
}

func (m *model) end() {
	m.do("release")
	m.do("wait 20s")
	m.count()
	var lost, twice []string
	for n := 1; n <= m.seq; n++ {
		if m.came[n] == 0 && !m.spare[n] {
			lost = append(lost, strconv.Itoa(n))
		}
		if m.came[n] > 1 {
			twice = append(twice, strconv.Itoa(n))
		}
	}
	if len(lost)+len(twice) > 0 || m.t.(lineOf).Failed() {
		m.t.Errorf("lost %v, twice %v\n%s\n%s", lost, twice, strings.Join(m.script, "\n"), m.describe())
	}
}

// TestRandomRotations is the judge of all the rules together. TAIL_SEEDS plays more
// seeds, from TAIL_SEED on.
func TestRandomRotations(t *testing.T) {
	seeds, first := 60, 0
	if n, err := strconv.Atoi(os.Getenv("TAIL_SEED")); err == nil {
		first, seeds = n, 1
	}
	if n, err := strconv.Atoi(os.Getenv("TAIL_SEEDS")); err == nil {
		seeds = n
	}
	for seed := first; seed < first+seeds && !t.Failed(); seed++ {
		playSeed(t, seed)
	}
}

func playSeed(t *testing.T, seed int) {
	t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
		globs := [][]string{{"app.log"}, {"app.log*"}, {"*.log"}, {"*.log", "app.log*"}, {"*"}}
		m := &model{rnd: rand.New(rand.NewPCG(uint64(seed), 1)), names: []string{"app.log", "web.log"}[:1+seed%2],
			files: make(map[string][]int), of: make(map[string]string), birthless: seed%7 == 0, looked: make(map[string]int), came: make(map[int]int), spare: make(map[int]bool)}
		m.player = newPlayer(lineOf{t, fmt.Sprintf("seed %d: ", seed)}, globs[seed%len(globs)]...)
		if seed%2 == 1 && !strings.HasPrefix(globs[seed%len(globs)][0], "*") {
			m.names = m.names[:1]
		}
		if seed%3 == 0 {
			m.header = `\H`
		}
		m.do("mkdir elsewhere")
		m.do("poll")
		noStatx.Store(m.birthless) // a file system without birth times
		defer noStatx.Store(false)
		for range 60 {
			m.step()
		}
		m.end()
	})
}
