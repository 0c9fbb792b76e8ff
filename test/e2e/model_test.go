package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// TestModel does random things to logs and to the agent, as chosen by a seed, and then
// wants every line once and in order, but for those that were destroyed before the
// agent could have made them safe.
func TestModel(t *testing.T) {
	s := seed(t)
	end := time.Now().Add(torture())
	for i := uint64(0); i < 4 || time.Now().Before(end); i++ {
		t.Run(fmt.Sprint(s+i), func(t *testing.T) {
			if torture() == 0 {
				t.Parallel()
			}
			playModel(t, s+i, 80)
		})
		if t.Failed() {
			return
		}
	}
}

// stream is one log with what is on disk of it.
type stream struct {
	*rig.Log
	base  string
	files []*piece // the live file first, then app.log.1 and so on
	half  bool     // the writer is in the middle of a line
	days  int      // 0: a plain file; else base is a link, which has led to so many files
}

// piece is one file of a stream with the numbers of the lines in it.
type piece struct {
	name     string
	lines    *rig.Log // of a link's stream
	from, to int      // lines [from, to)
}

// model is the world with what the test knows of it.
type model struct {
	*world
	rng     *rand.Rand
	streams []*stream
	past    []*rig.Log           // to which links have led
	mayMiss map[string]bool      // "stream/number"
	fragile map[string]time.Time // destroyed then, delivered but perhaps in no checkpoint
	running bool
	killed  bool // the last end of the agent, since when it has not run
	story   []string
}

// durableAfter is the age at which a delivery has certainly been in a checkpoint.
const durableAfter = 8 * time.Second

// keepRotated is how many rotated files a stream has before the oldest is removed.
const keepRotated = 4

func playModel(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	glob := "'$DIR/logs/**/*.log'"
	if rng.IntN(2) == 0 {
		glob = "'$DIR/logs/**/*.log*'"
	}
	w := newWorld(t, "inputs:\n  app:\n    files: ["+glob+"]\n    exclude: ['*.tmp']\n    format: json\n    line_timeout: 1m\n"+fileOutput)
	m := &model{world: w, rng: rng, mayMiss: make(map[string]bool), fragile: make(map[string]time.Time)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with TAILWATER_SEED=%d; files %s; the story:\n%s", seed, glob, strings.Join(m.story, "\n"))
		}
	})
	for i := range 3 {
		l := w.log([]string{"a.log", "b.log", "sub/c.log"}[i])
		m.streams = append(m.streams, &stream{Log: l, base: l.Name, files: []*piece{{name: l.Name}}})
	}
	m.streams = append(m.streams, m.linked("d.log"))
	// What was rotated before the agent first saw its log is not promised to anybody.
	m.toggle()
	for _, s := range m.streams {
		m.writeSome(s)
	}
	m.catchUp()
	for range steps {
		m.step()
	}
	for _, s := range m.streams {
		m.finishHalf(s)
	}
	if !m.running {
		m.toggle()
	}
	logs := slices.Clone(m.past)
	for _, s := range m.streams {
		logs = append(logs, s.Log)
	}
	m.exactBut(func(id string, n int) bool { return m.mayMiss[key(id, n)] }, logs...)
	m.stop(0)
}

// actions are what can happen, each as often as its weight says.
var actions = []struct {
	weight int
	name   string
	do     func(*model, *stream)
	ofFile bool // a link moves on instead
}{
	{40, "write", (*model).writeSome, false},
	{6, "write half a line", (*model).writeHalf, false},
	{14, "wait", func(m *model, _ *stream) { m.pause(time.Duration(m.rng.IntN(120)) * time.Millisecond) }, false},
	{8, "rename and reopen", (*model).rotate, true},
	{3, "copytruncate", (*model).copyTruncate, true},
	{3, "gzip", (*model).zip, true},
	{2, "truncate", (*model).truncate, true},
	{2, "delete and create", (*model).recreate, true},
	{6, "kill or start", func(m *model, _ *stream) { m.toggle() }, false},
	{3, "catch up", func(m *model, _ *stream) { m.catchUp() }, false},
}

// linked is a stream that the glob knows by a link, which moves on from file to file
// where no glob looks.
func (m *model) linked(name string) *stream {
	m.check(os.MkdirAll(m.path("days"), 0o755))
	s := &stream{base: m.path("logs", name)}
	m.nextDay(s)
	m.check(os.Symlink(s.Name, s.base))
	return s
}

// nextDay begins a file for a link's stream; nothing promises an order among them.
func (m *model) nextDay(s *stream) {
	s.days++
	l, err := rig.OpenLog(m.path("days", fmt.Sprintf("%d.log", s.days)), fmt.Sprintf("day-%d", s.days))
	m.check(err)
	s.Log = l
	s.files = append([]*piece{{name: l.Name, lines: l}}, s.files...)
}

// moveOn begins the file of the next day, has the link lead to it, and removes the
// oldest when there are many.
func (m *model) moveOn(s *stream) {
	m.finishHalf(s)
	if len(s.files) > keepRotated {
		oldest := s.files[len(s.files)-1]
		m.destroyed(oldest.lines.ID, 0, oldest.lines.N)
		m.check(os.Remove(oldest.name))
		s.files = s.files[:len(s.files)-1]
	}
	m.unseen(s)
	m.check(s.Close())
	m.past = append(m.past, s.Log)
	m.nextDay(s)
	m.check(os.Symlink(s.Name, s.base+".tmp"))
	m.check(os.Rename(s.base+".tmp", s.base))
}

func (m *model) step() {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	dice := m.rng.IntN(total)
	s := m.streams[m.rng.IntN(len(m.streams))]
	for _, a := range actions {
		if dice -= a.weight; dice < 0 {
			do := a.do
			if s.days > 0 && a.ofFile {
				do = (*model).moveOn
			}
			m.story = append(m.story, fmt.Sprintf("%s %s: %s at line %d", time.Now().Format("05.000"), s.ID, a.name, s.N))
			do(m, s)
			return
		}
	}
}

// unseen excuses the lines of a link's file of which the agent has delivered none: it may
// not have looked while the link led there, and will never know of it.
func (m *model) unseen(s *stream) {
	tally := m.count()
	for n := range s.N {
		if tally.Has(s.ID, n) {
			return
		}
	}
	for n := range s.N {
		m.mayMiss[key(s.ID, n)] = true
	}
}

func (m *model) writeSome(s *stream) {
	m.finishHalf(s)
	count := 1 + m.rng.IntN(300)
	if m.rng.IntN(4) == 0 {
		count = 1
	}
	m.write(s.Log, count, m.rng.IntN(200))
	s.files[0].to = s.N
}

// writeHalf writes a line in two parts; the second comes with the next write.
func (m *model) writeHalf(s *stream) {
	m.finishHalf(s)
	m.check(s.WriteString(`{"note":"written in`))
	s.half = true
}

func (m *model) finishHalf(s *stream) {
	if s.half {
		m.check(s.WriteString(` two parts"}` + "\n"))
		s.half = false
	}
}

// rotate renames the live file and, as a program may, goes on writing to it for a
// moment before it opens the new one.
func (m *model) rotate(s *stream) {
	m.finishHalf(s)
	m.shift(s)
	next := fmt.Sprintf("%s.1", s.base)
	m.check(os.Rename(s.base, next))
	s.files[0].name = next
	if m.rng.IntN(2) == 0 {
		m.pause(time.Duration(m.rng.IntN(30)) * time.Millisecond)
		m.write(s.Log, 1+m.rng.IntN(20), 10)
		s.files[0].to = s.N
	}
	m.check(s.Reopen())
	s.files = append([]*piece{{name: s.base, from: s.N, to: s.N}}, s.files...)
}

// shift makes room for a new app.log.1, and removes the oldest when there are many.
func (m *model) shift(s *stream) {
	if len(s.files) > keepRotated {
		oldest := s.files[len(s.files)-1]
		m.destroyed(s.ID, oldest.from, oldest.to)
		m.check(os.Remove(oldest.name))
		s.files = s.files[:len(s.files)-1]
	}
	for i := len(s.files) - 1; i >= 1; i-- {
		older := fmt.Sprintf("%s.%d", s.base, i+1)
		if strings.HasSuffix(s.files[i].name, ".gz") {
			older += ".gz"
		}
		m.check(os.Rename(s.files[i].name, older))
		s.files[i].name = older
	}
}

func (m *model) copyTruncate(s *stream) {
	m.finishHalf(s)
	m.shift(s)
	data, err := os.ReadFile(s.base)
	m.check(err)
	m.check(os.WriteFile(s.base+".1", data, 0o644))
	m.check(s.Truncate())
	s.files[0].name = s.base + ".1"
	s.files = append([]*piece{{name: s.base, from: s.N, to: s.N}}, s.files...)
	if m.rng.IntN(2) == 0 { // it grows past the old size before anyone looks
		m.write(s.Log, len(data)/60+1, 100)
		s.files[0].to = s.N
	}
}

// zip compresses a rotated file as logrotate does: the plain one goes when the other is
// complete.
func (m *model) zip(s *stream) {
	for _, p := range s.files[1:] {
		if strings.HasSuffix(p.name, ".gz") {
			continue
		}
		m.check(gzipFile(p.name, p.name+".gz.tmp", p.name+".gz"))
		p.name += ".gz"
		return
	}
}

func (m *model) truncate(s *stream) {
	m.finishHalf(s)
	m.destroyed(s.ID, s.files[0].from, s.N)
	m.check(s.Truncate())
	s.files[0].from, s.files[0].to = s.N, s.N
}

func (m *model) recreate(s *stream) {
	m.finishHalf(s)
	m.destroyed(s.ID, s.files[0].from, s.N)
	m.check(os.Remove(s.base))
	m.check(s.Reopen())
	s.files[0].from, s.files[0].to = s.N, s.N
}

// destroyed excuses the lines that are about to vanish from the disk: those that have
// not been delivered, and those that have if the agent was killed or soon will be, as
// its output is then cut back to the last checkpoint.
func (m *model) destroyed(id string, from, to int) {
	tally := m.count()
	for n := from; n < to; n++ {
		switch {
		case !tally.Has(id, n) || m.killed:
			m.mayMiss[key(id, n)] = true
		case m.running:
			m.fragile[key(id, n)] = time.Now()
		}
	}
}

func key(id string, n int) string { return fmt.Sprintf("%s/%d", id, n) }

// toggle starts the agent, or ends it in one of its two ways.
func (m *model) toggle() {
	if !m.running {
		m.start()
		m.running, m.killed = true, false
		return
	}
	m.running = false
	if m.rng.IntN(3) == 0 {
		m.story = append(m.story, "  SIGTERM")
		m.stop(0)
		clear(m.fragile)
		return
	}
	m.story = append(m.story, "  SIGKILL")
	m.agent.Kill()
	m.killed = true
	for k, at := range m.fragile {
		if time.Since(at) < durableAfter {
			m.mayMiss[k] = true
		}
	}
	clear(m.fragile)
}

// catchUp waits until what is on disk has been delivered.
func (m *model) catchUp() {
	if !m.running {
		m.toggle()
	}
	m.check(rig.Poll(m.ctx, "the agent to catch up", func() error {
		tally, err := rig.Count(m.path("out*.ndjson*"))
		if err != nil {
			return rig.Final(err)
		}
		var streams []*rig.Lines
		for _, l := range m.past {
			streams = append(streams, l.Lines)
		}
		for _, s := range m.streams {
			streams = append(streams, s.Lines)
		}
		return tally.Clean(func(id string, n int) bool { return m.mayMiss[key(id, n)] }, streams...)
	}))
	// A file that is gone and delivered may still be open, but not for long.
	m.check(rig.Poll(m.ctx, "deleted files to be closed", func() error {
		for name := range m.openLogs() {
			if strings.HasSuffix(name, " (deleted)") {
				return fmt.Errorf("%s is still open", name)
			}
		}
		return nil
	}))
}
