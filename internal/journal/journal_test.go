package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

type records map[string]string

func open(t testing.TB, dir string) (*Journal, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	j, err := Open(dir, "state", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return j, log
}

func commit(t testing.TB, j *Journal, change records) {
	t.Helper()
	if err := j.Commit(raw(change)); err != nil {
		t.Fatal(err)
	}
}

// raw turns "" into a deletion.
func raw(change records) map[string]json.RawMessage {
	m := make(map[string]json.RawMessage)
	for k, v := range change {
		m[k] = nil
		if v != "" {
			m[k] = json.RawMessage(v)
		}
	}
	return m
}

func held(j *Journal) records {
	got := make(records)
	j.Range(func(key string, value []byte) { got[key] = string(value) })
	return got
}

func wantHeld(t testing.TB, j *Journal, want records) {
	t.Helper()
	if got := held(j); !maps.Equal(got, want) {
		t.Fatalf("holds %v, want %v", got, want)
	}
}

func TestRecordsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": `{"off":1}`, "b": "2", "odd \n\"key\"": `"x"`})
	commit(t, j, records{"b": "", "c": "[1, 2]"})
	if v, ok := j.Get("a"); !ok || string(v) != `{"off":1}` {
		t.Errorf("a is %s", v)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, log := open(t, dir)
	wantHeld(t, j, records{"a": `{"off":1}`, "odd \n\"key\"": `"x"`, "c": "[1,2]"})
	if log.Len() > 0 {
		t.Errorf("a sound journal was complained about: %s", log)
	}
	j.Close()
}

func TestValueThatIsNotJSONIsRefusedAlone(t *testing.T) {
	j, _ := open(t, t.TempDir())
	defer j.Close()
	if err := j.Commit(raw(records{"a": "{"})); err == nil {
		t.Fatal("taken")
	}
	commit(t, j, records{"b": "1"})
	wantHeld(t, j, records{"b": "1"})
}

// TestTornTailAtEveryByte cuts the file anywhere in its last commit, as a crash or a
// power cut does, with nothing or with NULs after the cut.
func TestTornTailAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": "1"})
	before := j.length
	commit(t, j, records{"a": "2", "b": "3"})
	path := j.path(1)
	j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := before; cut < int64(len(whole)); cut++ {
		for _, nuls := range []int{0, 1, 5000} {
			data := append(bytes.Clone(whole[:cut]), make([]byte, nuls)...)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			j, _ := open(t, dir)
			wantHeld(t, j, records{"a": "1"})
			commit(t, j, records{"c": "4"})
			j.Close()
			j, log := open(t, dir)
			wantHeld(t, j, records{"a": "1", "c": "4"})
			if log.Len() > 0 {
				t.Fatalf("cut at %d, %d NULs: not repaired: %s", cut, nuls, log)
			}
			j.Close()
		}
	}
}

// TestDamageCostsOneLineAndNotTheStart flips every byte of a journal, one at a time.
func TestDamageCostsOneLineAndNotTheStart(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": "1"})
	commit(t, j, records{"b": "2"})
	commit(t, j, records{"c": "3"})
	path := j.path(1)
	j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		dir := t.TempDir()
		data := bytes.Clone(whole)
		data[i] ^= 0x41
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, log := open(t, dir)
		if n := len(held(j)); n < 1 { // a flipped newline costs the lines on both sides
			t.Fatalf("byte %d: %d records are left", i, n)
		}
		if log.Len() == 0 {
			t.Fatalf("byte %d: not reported", i)
		}
		commit(t, j, records{"d": "4"})
		want := held(j)
		j.Close()
		j, _ = open(t, dir)
		wantHeld(t, j, want)
		j.Close()
	}
}

func TestUnreadableNewestGenerationFallsBackOnTheOneBefore(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"all NUL":        func(b []byte) []byte { return make([]byte, len(b)) },
		"header gone":    func(b []byte) []byte { return append([]byte("x"), b...) },
		"snapshot holed": func(b []byte) []byte { b[bytes.IndexByte(b, '\n')+20] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j, _ := open(t, dir)
			commit(t, j, records{"a": "1", "b": "2"})
			if err := j.replace(nil); err != nil {
				t.Fatal(err)
			}
			newest := j.path(2)
			j.Close()
			data, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(newest, damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			j, log := open(t, dir)
			wantHeld(t, j, records{"a": "1", "b": "2"})
			if !strings.Contains(log.String(), "damaged") {
				t.Errorf("not reported: %s", log)
			}
			if aside, _ := filepath.Glob(filepath.Join(dir, "*.corrupt-*")); len(aside) != 1 {
				t.Errorf("set aside: %v", aside)
			}
			j.Close()
			j, log = open(t, dir)
			wantHeld(t, j, records{"a": "1", "b": "2"})
			if log.Len() > 0 {
				t.Errorf("still complains: %s", log)
			}
			j.Close()
		})
	}
}

// TestADirectoryInPlaceOfTheStateFile is put aside, and the generation before it is read.
func TestADirectoryInPlaceOfTheStateFile(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": "1"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []records{{"a": "1"}, {}} {
		newest := j.path(j.generation)
		if len(want) > 0 {
			newest = j.path(j.generation + 1)
		} else if err := os.Remove(newest); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(newest, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		var log *bytes.Buffer
		j, log = open(t, dir)
		wantHeld(t, j, want)
		if !strings.Contains(log.String(), "directory in place of the state file") {
			t.Errorf("log: %s", log)
		}
		commit(t, j, records{"b": "2"})
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j, _ = open(t, dir)
		if _, ok := j.Get("b"); !ok {
			t.Error("what was written after that is not there")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledBetweenTheStepsOfAReplacement(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": "1"})
	j.Close()
	// Killed while the next generation was written: half of it, under its temporary name.
	temp := j.path(2) + atomicfile.TempSuffix
	if err := os.WriteFile(temp, j.snapshot(2)[:30], 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ = open(t, dir)
	wantHeld(t, j, records{"a": "1"})
	if exists(temp) {
		t.Error("the leftover stays")
	}
	commit(t, j, records{"b": "2"})
	// Killed after the rename, before the older one is removed.
	if err := os.WriteFile(j.path(2), j.snapshot(2), 0o600); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j, log := open(t, dir)
	wantHeld(t, j, records{"a": "1", "b": "2"})
	commit(t, j, records{"c": "3"})
	if log.Len() > 0 {
		t.Errorf("complains: %s", log)
	}
	j.Close()
}

func TestNewerVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	data := appendLine(nil, []byte(`{"journal":2,"generation":1}`))
	if err := os.WriteFile(filepath.Join(dir, "state.000001.journal"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, "state", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "newer tailwater") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v", err)
	}
}

func TestStateOfManyShortLivedFilesStaysSmall(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	value := json.RawMessage(`{"input":"apps","path":"/data/logs/pod/app.log","dev":64512,"ino":1234567,"pos":{"search":{"off":12345,"tail":123456789}}}`)
	largest := int64(0)
	const batch, total = 500, 100_000
	for i := 0; i < total; i += batch {
		change := make(map[string]json.RawMessage)
		for k := range batch {
			change[fmt.Sprint("file/", i+k)] = value
			if i > 0 {
				change[fmt.Sprint("file/", i-batch+k)] = nil
			}
		}
		if err := j.Commit(change); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, j.length)
	}
	if largest > 2<<20 {
		t.Errorf("grew to %d bytes", largest)
	}
	j.Close()
	began := time.Now()
	j, _ = open(t, dir)
	if n, d := len(held(j)), time.Since(began); n != batch || d > time.Second {
		t.Errorf("%d records, read in %v", n, d)
	}
	j.Close()
}

// A burst of files has come and gone: at rest the journal has room for what is left of it,
// though its predecessor had all.
func TestABurstLeavesASmallState(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	value := `{"path":"` + strings.Repeat("x", 300) + `"}`
	burst, gone := make(records), make(records)
	for i := range 5000 {
		burst[fmt.Sprint("file/", i)], gone[fmt.Sprint("file/", i)] = value, ""
	}
	commit(t, j, burst)
	for first := j.generation; j.generation == first; {
		commit(t, j, burst) // until the burst is what a generation begins with
	}
	commit(t, j, gone)
	for first := j.generation; j.generation == first; {
		commit(t, j, records{"file/last": value})
	}
	j.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 4<<10 {
			t.Errorf("%s has %d bytes", e.Name(), info.Size())
		}
	}
	j, _ = open(t, dir)
	wantHeld(t, j, records{"file/last": value})
	j.Close()
}

// fullDisk lets the process write no file beyond n bytes until the test ends or the
// returned function is called.
func fullDisk(t *testing.T, n int64) (room func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(n), Max: was.Max}); err != nil {
		t.Skip(err)
	}
	room = func() { syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was) }
	t.Cleanup(room)
	return room
}

func TestFailedWriteLeavesNoTraceAndIsCarriedByTheNext(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	commit(t, j, records{"a": "1"})
	room := fullDisk(t, j.length+20) // the next line is cut in its middle
	if err := j.Commit(raw(records{"a": "2", "b": "1"})); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("got %v", err)
	}
	wantHeld(t, j, records{"a": "1"})
	if err := j.Commit(raw(records{"a": "3"})); err == nil {
		t.Fatal("no error")
	}
	room()
	commit(t, j, records{"c": "1"})
	wantHeld(t, j, records{"a": "3", "b": "1", "c": "1"})
	j.Close()
	j, log := open(t, dir)
	wantHeld(t, j, records{"a": "3", "b": "1", "c": "1"})
	if log.Len() > 0 {
		t.Errorf("complains: %s", log)
	}
	j.Close()
}

func TestStartsWithAFullDisk(t *testing.T) {
	dir := t.TempDir()
	room := fullDisk(t, 0)
	j, _ := open(t, dir)
	if err := j.Commit(raw(records{"a": "1"})); err == nil {
		t.Fatal("no error")
	}
	room()
	commit(t, j, records{"b": "2"})
	j.Close()
	j, _ = open(t, dir)
	wantHeld(t, j, records{"a": "1", "b": "2"})
	j.Close()
}

// TestFullFilesystem fills a real one, in which room is preallocated.
func TestFullFilesystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("needs root: ", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	j, _ := open(t, dir)
	commit(t, j, records{"a": "0"})
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	fill.Close()
	for i := range 1000 { // what is claimed is enough for a while
		commit(t, j, records{"a": fmt.Sprint(i)})
	}
	big := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	if err := j.Commit(map[string]json.RawMessage{"big": big}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	wantHeld(t, j, records{"a": "999"})
	os.Remove(fill.Name())
	commit(t, j, records{"big": "", "b": "1"})
	wantHeld(t, j, records{"a": "999", "b": "1"})
	j.Close()
	j, _ = open(t, dir)
	wantHeld(t, j, records{"a": "999", "b": "1"})
	j.Close()
}

func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	j, _ := open(f, dir)
	commit(f, j, records{"a": "1"})
	commit(f, j, records{"b": `{"x":[1,null]}`, "a": ""})
	good, err := os.ReadFile(j.path(1))
	if err != nil {
		f.Fatal(err)
	}
	j.Close()
	f.Add(good)
	f.Add([]byte{})
	f.Add(append(bytes.Clone(good), 0, 0, 0))
	f.Add(good[:len(good)-3])
	f.Add(good[30:])
	f.Add(bytes.Replace(good, []byte{'\n'}, []byte{' '}, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := read(data)
		if c.good > c.size || int64(c.bad) > c.good {
			t.Fatalf("good %d, bad %d of %d", c.good, c.bad, c.size)
		}
		if c.version > version {
			return
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "state.000001.journal"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, _ := open(t, dir)
		commit(t, j, records{"new": "1"})
		want := held(j)
		j.Close()
		j, _ = open(t, dir)
		wantHeld(t, j, want)
		j.Close()
	})
}

func TestWhatIsCompactIsWrittenAsItIs(t *testing.T) {
	for value, want := range map[string]bool{
		`{"a":[1,2]}`: true, `{"a":"b c"}`: true, `{"a":"\" c"}`: true, `{"a":"\\" }`: false, `{"a": 1}`: false, "[1,\n2]": false, `"\\\" x"`: true, `1`: true, ` 1`: false,
		`"\\\\"`: true, `["\\\\", 1]`: false, `["\\\\\"", "a b"]`: false, `["\\\\\"","a b"]`: true, `["",""]`: true, `["","" ]`: false,
	} {
		if got := isCompact(outline([]byte(value))); got != want {
			t.Errorf("%s counts as compact: %v", value, got)
		}
	}
}

// FuzzOutline: of a value without the insides of its strings the same is known as of all of it.
func FuzzOutline(f *testing.F) {
	for _, value := range []string{`{"a":[1,"b c"]}`, `{"a":"b\" c"}`, `"\\"`, `"\x"`, "\"\x01\"", `{"a" "b"}`, `{"a":"b`, `["a","` + "\xff" + `", "c"]`, `"a\`, `""`, ` 1`} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		shape := outline(value)
		valid := json.Valid(value)
		if json.Valid(shape) != valid {
			t.Errorf("%q counts as JSON: %v", value, !valid)
		}
		if valid && isCompact(shape) != isCompact(value) {
			t.Errorf("%q counts as compact: %v", value, isCompact(shape))
		}
	})
}

// Somebody deletes the state of an agent that runs: what it commits from then on must not
// be gone with the process.
func TestStateDeletedUnderTheAgentIsWrittenAnew(t *testing.T) {
	for what, remove := range map[string]func(dir string) error{
		"the directory": os.RemoveAll,
		"the file":      func(dir string) error { return os.Remove(filepath.Join(dir, "state.000001.journal")) },
	} {
		dir := filepath.Join(t.TempDir(), "s")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		j, log := open(t, dir)
		commit(t, j, records{"a": "1"})
		if err := remove(dir); err != nil {
			t.Fatal(err)
		}
		commit(t, j, records{"b": "2"})
		commit(t, j, records{"c": "3"})
		if n := strings.Count(log.String(), "deleted while it was in use"); n != 1 {
			t.Errorf("%s: told %d times: %s", what, n, log)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j, _ = open(t, dir)
		wantHeld(t, j, records{"a": "1", "b": "2", "c": "3"})
		j.Close()
	}
}
