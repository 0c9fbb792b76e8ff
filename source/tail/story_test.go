package tail

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/record"
)

// player plays a story against a real directory. Its reader stands for the agent.
type player struct {
	t       testing.TB
	dir     string // of the logs
	state   string
	opt     Options
	now     time.Time
	src     *Source
	log     bytes.Buffer
	held    bool // the outputs take nothing
	reading map[string]*reading
	told    map[*reading]bool // to be read
	nobody  bool              // the source runs without privileges
	// asDue looks only at what is due; else each poll looks at everything, so that
	// what comes of a story does not depend on the machine's speed.
	asDue bool
	lines []line // read, and not wanted yet
	ids   map[string]string
	lost  map[string]int64
}

// reading is what the agent has of one file.
type reading struct {
	file *File
	pos  record.Pos
	part []byte // after pos, without a newline yet
}

type line struct{ id, text, path string }

func newPlayer(t testing.TB, files ...string) *player {
	p := &player{t: t, dir: t.TempDir(), state: memoryDir(t), ids: make(map[string]string), lost: make(map[string]int64), now: time.Now()}
	p.opt.Inputs = []Input{{Name: "in"}}
	for _, f := range files {
		p.opt.Inputs[0].Files = append(p.opt.Inputs[0].Files, p.path(f))
	}
	t.Cleanup(p.stop)
	return p
}

// memoryDir is a directory in memory, where there is such: a story is not about how
// long a disk takes to sync.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "tail")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (p *player) path(name string) string { return filepath.Join(p.dir, name) }

func (p *player) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) start() {
	p.t.Helper()
	if p.src != nil {
		return
	}
	p.opt.Log = slog.New(slog.NewTextHandler(&p.log, nil))
	j, err := journal.Open(p.state, "state", p.opt.Log)
	p.must(err)
	p.opt.Store = j
	p.src, err = New(p.opt)
	p.must(err)
	p.reading = make(map[string]*reading)
	p.told = make(map[*reading]bool)
}

func (p *player) stop() {
	if p.src == nil {
		return
	}
	p.src.Close()
	p.opt.Store.Close()
	if n := p.src.open.Load(); n != 0 {
		p.t.Errorf("%d descriptors are left open", n)
	}
	p.src = nil
}

// poll lets some time pass and reads what there is.
func (p *player) poll() {
	p.t.Helper()
	p.start()
	p.now = p.now.Add(110 * time.Millisecond)
	if real := time.Now(); real.After(p.now) {
		p.now = real
	}
	if !p.asDue {
		p.src.LookAtAll()
	}
	defer p.unprivileged()()
	for _, f := range p.src.Poll(p.now) {
		r := p.reading[f.Gen()]
		if r == nil {
			r = &reading{file: f, pos: f.Start()}
			if pos, ok := f.Progress().Pos["out"]; ok {
				r.pos = pos
			}
			p.reading[f.Gen()] = r
		}
		p.told[r] = true
	}
	if !p.held {
		p.readAll()
	}
}

func (p *player) readAll() {
	all := slices.Collect(maps.Keys(p.told))
	slices.SortFunc(all, func(a, b *reading) int {
		return cmp.Or(cmp.Compare(a.file.order, b.file.order), cmp.Compare(a.file.path, b.file.path))
	})
	for _, r := range all {
		if p.read(r) {
			delete(p.told, r)
		}
	}
}

// unprivileged takes root's rights over files away from this thread for a while.
func (p *player) unprivileged() (back func()) {
	if !p.nobody {
		return func() {}
	}
	runtime.LockOSThread()
	syscall.Setfsuid(65534)
	return func() {
		syscall.Setfsuid(0)
		runtime.UnlockOSThread()
	}
}

// read reports whether it is done with the file for now.
func (p *player) read(r *reading) bool {
	p.t.Helper()
	buf := make([]byte, 4096)
	for range 1 << 20 {
		n, err := r.file.ReadAt(buf, r.pos)
		var gone *GoneError
		if errors.As(err, &gone) {
			p.lost[gone.Reason] += gone.To - r.pos.Off
			r.pos = record.Pos{Off: gone.To}
			break
		}
		if err != nil && err != io.EOF {
			return false
		}
		data := buf[:n]
		whole := bytes.LastIndexByte(data, '\n') + 1
		if err == io.EOF && r.file.Ended() {
			whole = n
		}
		p.emit(r, data[:whole])
		if whole == 0 && err == nil {
			p.t.Fatalf("%s: no newline in %d bytes", r.file.Path(), n)
		}
		if err == io.EOF {
			break
		}
	}
	r.file.Reached(r.pos.Off)
	r.file.SetProgress(Progress{Pos: map[string]record.Pos{"out": r.pos}})
	return true
}

func (p *player) emit(r *reading, data []byte) {
	off := r.pos.Off
	r.part = append(r.part, data...)
	if len(r.part) > record.TailBytes && len(data) > 0 {
		defer func() { r.part = append([]byte(nil), r.part[len(r.part)-record.TailBytes:]...) }()
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			end = len(data) - 1
		}
		p.line(r.file, off, string(bytes.TrimRight(data[:end+1], "\n")))
		off += int64(end + 1)
		data = data[end+1:]
	}
	if off != r.pos.Off {
		r.pos = record.Pos{Off: off, Tail: record.TailSum(r.part)}
		if int64(len(r.part)) < min(off, record.TailBytes) {
			r.pos.Tail = 0 // taken up in the middle, where little is known
		}
	}
}

func (p *player) line(f *File, off int64, text string) {
	id := fmt.Sprint(f.Gen(), "-", off)
	if was, again := p.ids[id]; again {
		if was != text {
			p.t.Errorf("id %s was %q and is %q", id, was, text)
		}
		return // sent again after a crash, under the same id
	}
	p.ids[id] = text
	p.lines = append(p.lines, line{id, text, f.Path()})
}

// polls is how long a story waits for what it wants: some seconds of its time.
const polls = 80

func (p *player) want(text string) {
	p.t.Helper()
	for range polls {
		if len(p.lines) > 0 {
			break
		}
		p.poll()
	}
	if len(p.lines) == 0 {
		p.t.Fatalf("want %q, nothing came\n%s", text, p.describe())
	}
	if got := strings.ReplaceAll(p.lines[0].text, "\x00", "."); got != text {
		p.t.Fatalf("want %q, got %q of %s\n%s", text, got, p.lines[0].path, p.describe())
	}
	p.lines = p.lines[1:]
}

func (p *player) wantNone() {
	p.t.Helper()
	for range polls {
		p.poll()
	}
	if len(p.lines) > 0 {
		p.t.Fatalf("got %q of %s, which nobody wants\n%s", p.lines[0].text, p.lines[0].path, p.describe())
	}
	if len(p.lost) > 0 {
		p.t.Fatalf("lost %v", p.lost)
	}
}

// describe tells what the source knows, for whoever has to find out why a test fails.
func (p *player) describe() string {
	var b strings.Builder
	p.src.mu.Lock()
	defer p.src.mu.Unlock()
	for _, fam := range p.src.families {
		fmt.Fprintf(&b, "family %s\n", fam.base)
		for _, f := range fam.gens {
			fmt.Fprintf(&b, "  %s %s home %s size %d reached %d least %d released %v skip %v gzip %v lost %v tomb %v deleted %v gone %q fd %v changed %v used %v\n", f.gen, filepath.Base(f.path), filepath.Base(f.home),
				f.size, f.reached.Load(), f.least, f.released, f.skip, f.gzip, !f.lostAt.IsZero(), !f.tombAt.IsZero(), !f.deleted.IsZero(), f.gone, f.fd != nil,
				p.now.Sub(f.changed), p.now.Sub(time.Unix(0, f.used.Load())))
		}
	}
	for _, d := range p.src.dirs {
		for key, o := range d.others {
			fmt.Fprintf(&b, "other %s/%s: %s\n", filepath.Base(d.path), key.name, o.why)
		}
	}
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		fmt.Fprintf(&b, "on disk %s\n", e.Name())
	}
	fmt.Fprintf(&b, "log:\n%s", p.log.String())
	return b.String()
}

func TestStories(t *testing.T) {
	stories, err := filepath.Glob("testdata/rotate/*.txt")
	if err != nil || len(stories) == 0 {
		t.Fatal("no stories: ", err)
	}
	for _, story := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(story), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(story)
			if err != nil {
				t.Fatal(err)
			}
			p := newPlayer(t)
			scan := bufio.NewScanner(bytes.NewReader(text))
			for n := 1; scan.Scan(); n++ {
				if l := strings.TrimSpace(scan.Text()); l != "" && l[0] != '#' {
					p.t = lineOf{t, fmt.Sprintf("%s:%d: %s: ", story, n, l)}
					p.play(strings.Fields(l))
				}
			}
			p.t = lineOf{t, story + ": at the end: "}
			if len(p.lines) > 0 {
				p.t.Fatalf("nobody wanted %q", p.lines)
			}
		})
	}
}

// lineOf says in failures which line of a story was played.
type lineOf struct {
	*testing.T
	at string
}

func (l lineOf) Fatalf(format string, args ...any) { l.T.Helper(); l.T.Fatalf(l.at+format, args...) }
func (l lineOf) Fatal(args ...any)                 { l.T.Helper(); l.T.Fatal(append([]any{l.at}, args...)...) }
func (l lineOf) Errorf(format string, args ...any) { l.T.Helper(); l.T.Errorf(l.at+format, args...) }

// play plays one line of a story.
func (p *player) play(words []string) {
	p.t.Helper()
	verb, args := words[0], words[1:]
	for len(args) < 2 {
		args = append(args, "")
	}
	unescape := strings.NewReplacer(`\H`, longHeader, `\n`, "\n", `\0`, "\x00", `\s`, " ", `\xfd`, "\xfd")
	first := p.path(args[0])
	in := &p.opt.Inputs[0]
	switch verb {
	case "files", "exclude":
		for _, a := range words[1:] {
			if verb == "exclude" {
				in.Exclude = append(in.Exclude, a)
			} else {
				in.Files = append(in.Files, p.path(a))
			}
		}
	case "reconfigure": // with other patterns
		in.Files = nil
		for _, a := range words[1:] {
			in.Files = append(in.Files, p.path(a))
		}
		p.must(p.src.Configure(p.opt.Inputs))
	case "fromend":
		in.FromEnd = true
	case "ignoreolder":
		p.must1(time.ParseDuration(args[0]))
		in.IgnoreOlder, _ = time.ParseDuration(args[0])
	case "helddeleted":
		p.opt.HeldDeleted, _ = strconv.ParseInt(args[0], 10, 64)
	case "write":
		p.append(first, unescape.Replace(strings.Join(words[2:], " ")))
	case "fill": // FILE BYTES WORD: many lines
		n, err := strconv.Atoi(args[1])
		p.must(err)
		p.append(first, filling(n, words[3]))
	case "create":
		p.must(os.WriteFile(first, nil, 0o644))
	case "truncate":
		n, _ := strconv.ParseInt(args[1], 10, 64)
		p.must(os.Truncate(first, n))
	case "mv":
		p.must(os.Rename(first, p.path(args[1])))
	case "cp":
		data, err := os.ReadFile(first)
		p.must(err)
		p.must(os.WriteFile(p.path(args[1]), data, 0o644))
	case "ln":
		p.must(os.Link(first, p.path(args[1])))
	case "symlink": // TARGET NAME
		os.Remove(p.path(args[1]))
		p.must(os.Symlink(first, p.path(args[1])))
	case "gzip", "gzipto":
		p.gzip(verb, first, args[1])
	case "cut": // takes bytes off the end
		n, err := strconv.ParseInt(args[1], 10, 64)
		p.must(err)
		st, err := os.Stat(first)
		p.must(err)
		p.must(os.Truncate(first, st.Size()-n))
	case "touch": // FILE AGE
		age, err := time.ParseDuration(args[1])
		p.must(err)
		p.must(os.Chtimes(first, p.now.Add(-age), p.now.Add(-age)))
	case "rm":
		p.must(os.RemoveAll(first))
	case "mkdir":
		p.must(os.MkdirAll(first, 0o755))
	case "chmod":
		mode, err := strconv.ParseUint(args[1], 8, 32)
		p.must(err)
		p.must(os.Chmod(first, os.FileMode(mode)))
	default:
		p.playReader(verb, words[1:], args)
	}
}

func (p *player) must1(_ any, err error) { p.t.Helper(); p.must(err) }

func (p *player) playReader(verb string, words, args []string) {
	p.t.Helper()
	switch verb {
	case "poll":
		p.poll()
	case "wait":
		d, err := time.ParseDuration(args[0])
		p.must(err)
		for end := p.now.Add(d); p.now.Before(end); {
			p.poll()
		}
	case "leap": // time passes and nobody looks
		d, err := time.ParseDuration(args[0])
		p.must(err)
		p.now = p.now.Add(d)
	case "start":
		p.start()
		for st := (stat{}); st.ctime <= p.src.began.UnixNano(); { // the kernel's clock goes in steps
			p.must(os.WriteFile(filepath.Join(p.state, "clock"), nil, 0o644))
			st, _ = lstatPath(filepath.Join(p.state, "clock"))
		}
	case "restart": // after saving
		p.start()
		p.must(p.src.Save(nil))
		p.stop()
		p.start()
	case "stop":
		p.start()
		p.must(p.src.Save(nil))
		p.stop()
	case "save":
		p.must(p.src.Save(nil))
	case "kill":
		p.stop()
	case "nobody":
		for dir := p.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			p.must(os.Chmod(dir, 0o755))
		}
		p.nobody = os.Getuid() == 0
	case "hold":
		p.held = true
	case "release":
		p.held = false
		p.readAll()
	case "want":
		p.want(strings.ReplaceAll(strings.Join(words, " "), `\s`, " "))
	case "wantfill":
		n, err := strconv.Atoi(args[0])
		p.must(err)
		for _, l := range strings.Split(strings.TrimSuffix(filling(n, args[1]), "\n"), "\n") {
			p.want(l)
		}
	case "wantnone":
		p.wantNone()
	case "wantlost": // REASON BYTES
		n, err := strconv.ParseInt(args[1], 10, 64)
		p.must(err)
		for i := 0; i < polls && p.lost[args[0]] < n; i++ {
			p.poll()
		}
		if p.lost[args[0]] != n {
			p.t.Fatalf("lost %v\n%s", p.lost, p.describe())
		}
		delete(p.lost, args[0])
	case "wantopen":
		n, err := strconv.ParseInt(args[0], 10, 64)
		p.must(err)
		if got := p.src.open.Load(); got != n {
			p.t.Fatalf("%d descriptors are open\n%s", got, p.describe())
		}
	case "wantpath": // the current path of the file with that first path
		for _, r := range p.reading {
			if r.file.Path() == p.path(args[0]) && r.file.CurrentPath() == p.path(args[1]) {
				return
			}
		}
		p.t.Fatalf("not so\n%s", p.describe())
	case "wantlog":
		if !strings.Contains(p.log.String(), strings.Join(words, " ")) {
			p.t.Fatalf("logged: %s", p.log.String())
		}
	default:
		p.t.Fatal("no such verb")
	}
}

// longHeader is more than a fingerprint covers.
var longHeader = strings.Repeat("h", headBytes+76) + "\n"

func filling(n int, word string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%s-%d\n", word, i)
	}
	return b.String()
}

func (p *player) append(path, text string) {
	p.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	p.must(err)
	_, err = f.WriteString(text)
	p.must(err)
	p.must(f.Close())
}

// gzip compresses as gzip(1) does: to NAME.gz, with the time of the original, which it
// removes. gzipto keeps the original and takes the name of the .gz, and its time is now.
func (p *player) gzip(verb, path, to string) {
	p.t.Helper()
	st, err := os.Stat(path)
	p.must(err)
	data, err := os.ReadFile(path)
	p.must(err)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	if verb == "gzipto" {
		p.must(os.WriteFile(p.path(to), b.Bytes(), 0o644))
		return
	}
	p.must(os.WriteFile(path+".gz", b.Bytes(), 0o644))
	p.must(os.Chtimes(path+".gz", st.ModTime(), st.ModTime()))
	p.must(os.Remove(path))
}
