package tail

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// TestFifosSocketsAndDirectoriesDoNotStopTheRest would hang if one of them was opened.
func TestFifosSocketsAndDirectoriesDoNotStopTheRest(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.must(syscall.Mkfifo(p.path("fifo.log"), 0o644))
	socket, err := net.Listen("unix", p.path("socket.log"))
	p.must(err)
	defer socket.Close()
	p.must(os.Mkdir(p.path("dir.log"), 0o755))
	p.append(p.path("real.log"), "a\n")
	p.want("a")
	p.wantNone()
	if n := p.src.Stats().Unreadable; n != 2 {
		t.Errorf("%d are counted as unreadable\n%s", n, p.describe())
	}
	if n := strings.Count(p.log.String(), "not a regular file"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, p.log.String())
	}
	// What was a fifo becomes a log.
	p.must(os.Remove(p.path("fifo.log")))
	p.append(p.path("fifo.log"), "b\n")
	p.want("b")
}

// TestNoMoreWatchesLeavePolling stands for fs.inotify.max_user_watches being used up.
func TestNoMoreWatchesLeavePolling(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.asDue = true
	p.start()
	n, err := newNotifier()
	p.must(err)
	n.stop() // it takes no directory, and tells of nothing
	p.src.events.notifier = n
	p.src.events.missing = 1
	p.append(p.path("a.log"), "a\n")
	p.want("a")
	if !p.src.Stats().Polling {
		t.Fatal("counts as watched")
	}
	p.play([]string{"wait", "15s"}) // idle
	wrote := p.now
	p.append(p.path("a.log"), "b\n")
	p.want("b")
	if d := p.now.Sub(wrote); d > blindSweep+250*time.Millisecond {
		t.Errorf("seen after %v", d)
	}
}

// TestWhatAnotherMachineWritesIsSeen: of a shared file system the system tells only what
// happens here.
func TestWhatAnotherMachineWritesIsSeen(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.asDue = true
	p.append(p.path("a.log"), "a\n")
	p.start()
	p.must(p.src.Watch(t.Context(), func(bool) {}))
	p.want("a")
	p.src.events.mu.Lock()
	p.src.events.drop = true
	p.src.events.missing++
	p.src.events.mu.Unlock()
	p.src.dirs[p.path("")].shared = true
	for i := range 10 { // wherever between two looks it happens
		past := time.Now().Add(-time.Hour)
		p.must(os.Chtimes(p.path(""), past, past)) // else it counts as just changed
		p.play([]string{"wait", fmt.Sprint(15000+200*i, "ms")})
		wrote := p.now
		p.append(p.path("a.log"), "b\n")
		p.want("b")
		p.append(p.path(fmt.Sprint(i, ".log")), "c\n")
		p.want("c")
		if d := p.now.Sub(wrote); d > blindSweep+dirEvery+250*time.Millisecond {
			t.Errorf("seen after %v", d)
		}
	}
}

func TestFewDescriptorsForManyUnreadFiles(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.opt.MaxOpen = 5
	const files = 100
	for i := range files {
		p.append(p.path(strings.Repeat("x", i+1)+".log"), "a\n")
	}
	p.held = true
	p.poll()
	if n := p.src.Stats().OpenFiles; n > 5 {
		t.Errorf("%d open while the outputs are down", n)
	}
	p.held = false
	p.readAll()
	if n := p.src.Stats().OpenFiles; n > 6 {
		t.Errorf("%d open after reading", n)
	}
	if len(p.lines) != files {
		t.Errorf("%d lines came", len(p.lines))
	}
	p.lines = nil
}

// FuzzGzip reads whatever calls itself .gz: nothing panics, nothing loops, and what is
// read is what the standard library decompresses, from any position.
func FuzzGzip(f *testing.F) {
	pack := func(parts ...string) []byte {
		var b bytes.Buffer
		for _, part := range parts {
			z := gzip.NewWriter(&b)
			z.Write([]byte(part))
			z.Close()
		}
		return b.Bytes()
	}
	one := pack("one\ntwo\nthree\n")
	f.Add(one, 4)
	f.Add(pack("one\n", "", "two\n"), 5)
	f.Add(one[:len(one)-5], 0)
	f.Add(append(bytes.Clone(one), "garbage"...), 2)
	f.Add([]byte("\x1f\x8b"), 0)
	f.Add([]byte("not compressed\n"), 1)
	f.Add(pack(strings.Repeat("a long line of the same\n", 5000)), 70_000)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, from int) {
		path := dir + "/x.gz"
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		fd, st, err := openRegular(path)
		if err != nil {
			t.Fatal(err)
		}
		source := &Source{log: slog.New(slog.DiscardHandler), maxOpen: 10}
		source.clock.Store(st.ctime + int64(2*gzipGrace)) // long finished, or never
		file := &File{source: source, home: path, gzip: true, id: st, sizeGuess: true, fd: fd, family: &family{}}
		source.open.Add(1)
		source.descriptors.add(file)
		defer file.closeFile()

		want := decompress(data)
		var got []byte
		buf := make([]byte, 1000)
		for range len(want)/len(buf) + 10 {
			n, err := file.ReadAt(buf, record.Pos{Off: int64(len(got))})
			got = append(got, buf[:n]...)
			if gone := (*GoneError)(nil); err == io.EOF || errors.As(err, &gone) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		// A damaged stream may give more or less before the damage is noticed.
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if at := max(0, from) % (len(got) + 1); at < len(got) {
			n, err := file.ReadAt(buf, record.Pos{Off: int64(at)})
			if err != nil && err != io.EOF || !bytes.Equal(buf[:n], got[at:at+n]) {
				t.Fatalf("at %d: %q, %v", at, buf[:n], err)
			}
		}
	})
}

func decompress(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	all, _ := io.ReadAll(io.LimitReader(z, 16<<20))
	return all
}

// TestADeletedFileIsReadAsLongAsAProgramHasIt: a log that somebody has removed goes on, for
// a program that does not open it anew, a line now and then.
func TestADeletedFileIsReadAsLongAsAProgramHasIt(t *testing.T) {
	p := newPlayer(t, "*.log")
	name := p.path("app.log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	p.must(err)
	defer f.Close()
	write := func(text string) {
		_, err := f.WriteString(text)
		p.must(err)
	}
	write("a\nb")
	p.want("a")
	p.must(os.Remove(name))
	p.play([]string{"wait", "3s"})
	write("b\nc")
	p.want("bb") // in time
	p.want("c")  // nothing more came for a while
	if _, known := openForWriting(p.src.held[0].fd); !known {
		t.Skip("this system does not tell who can write to a file")
	}
	for i := range 3 {
		p.play([]string{"wait", "30s"})
		write(fmt.Sprint("c", i, "\n"))
		p.want(fmt.Sprint("c", i))
		p.append(name, fmt.Sprint("d", i, "\n")) // by another program
		p.want(fmt.Sprint("d", i))
	}
	p.must(os.Remove(name))
	p.must(f.Close())
	p.play([]string{"wait", "3s"})
	p.play([]string{"wantopen", "0"})
	p.wantNone()
}

// TestACopyInUTF16IsKnown: every other byte of such a file is a NUL, by which it must be
// known as well as by any other: its copy holds what was not read yet.
func TestACopyInUTF16IsKnown(t *testing.T) {
	wide := func(lines ...string) (big string) {
		for _, c := range strings.Join(lines, "\n") + "\n" {
			big += "\x00" + string(c)
		}
		return big
	}
	want := func(p *player, lines ...string) {
		t.Helper()
		for _, l := range lines {
			p.want(strings.ReplaceAll(strings.TrimSuffix(wide(l), "\n"), "\x00", "."))
		}
	}
	p := newPlayer(t, "app.log")
	p.opt.Inputs[0].Wide = true
	p.append(p.path("app.log"), wide("one", "two"))
	want(p, "one", "two")
	for _, down := range []bool{true, false} {
		if down {
			p.stop()
		}
		p.append(p.path("app.log"), wide("three", "four"))
		data, err := os.ReadFile(p.path("app.log"))
		p.must(err)
		p.must(os.WriteFile(p.path("app.log.1"), data, 0o644))
		if !down {
			want(p, "three", "four")
		}
		p.must(os.Truncate(p.path("app.log"), 0))
		p.append(p.path("app.log"), wide("five"))
		if down {
			want(p, "three", "four")
		}
		want(p, "five")
		p.wantNone()
	}
}
