package tail

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mapped is a log that is written to through memory, a region at a time, as log4j2's
// MemoryMappedFileAppender does.
type mapped struct {
	*player
	f      *os.File
	region []byte
	begin  int64 // of the region in the file
	next   int64 // where it writes
}

const regionLen = 1 << 16

func (m *mapped) remap() {
	m.unmap()
	m.begin = m.next &^ int64(os.Getpagesize()-1)
	end := m.next + regionLen
	m.must(m.f.Truncate(end))
	var err error
	m.region, err = unix.Mmap(int(m.f.Fd()), m.begin, int(end-m.begin), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	m.must(err)
}

func (m *mapped) unmap() {
	if m.region != nil {
		m.must(unix.Munmap(m.region))
		m.region = nil
	}
}

func (m *mapped) write(text string) {
	for len(text) > 0 {
		at := m.next - m.begin
		if m.region == nil || at == int64(len(m.region)) {
			m.remap()
			continue
		}
		n := copy(m.region[at:], text)
		m.next, text = m.next+int64(n), text[n:]
	}
}

// TestAProgramThatWritesThroughMemory has NULs behind what it has written: they are not
// passed, and what takes their place is neither lost nor another file's.
func TestAProgramThatWritesThroughMemory(t *testing.T) {
	p := newPlayer(t, "*.log")
	f, err := os.OpenFile(p.path("app.log"), os.O_RDWR|os.O_CREATE, 0o644)
	p.must(err)
	defer f.Close()
	m := &mapped{player: p, f: f}
	m.remap()
	p.wantNone() // nothing but NULs
	const lines = 3000
	text := func(i int) string { return fmt.Sprintf("line %d %s", i, strings.Repeat("x", i%90)) }
	for i := range lines {
		m.write(text(i) + "\n")
		if i%7 == 0 {
			p.poll()
		}
		if i%500 == 0 {
			p.stop() // and start again
		}
	}
	m.unmap()
	p.must(f.Truncate(m.next)) // it is closed
	for i := range lines {
		p.want(text(i))
	}
	p.wantNone()
	if len(p.src.families) != 1 || len(p.src.byIno) != 1 {
		t.Errorf("it counts as several files\n%s", p.describe())
	}
}

// TestRoomAskedForAhead stands for fallocate(2), and for programs that write zeros first.
func TestRoomAskedForAhead(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(f *os.File) error
	}{
		{"allocated", func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 3<<20) }},
		{"zeros", func(f *os.File) error { _, err := f.Write(make([]byte, 3<<20)); return err }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlayer(t, "*.log")
			p.asDue = true
			f, err := os.OpenFile(p.path("app.log"), os.O_RDWR|os.O_CREATE, 0o644)
			p.must(err)
			defer f.Close()
			p.must(c.make(f))
			off := int64(0)
			write := func(text string) {
				n, err := f.WriteAt([]byte(text), off)
				p.must(err)
				off += int64(n)
			}
			p.poll()
			write("a\n")
			p.want("a")
			write("b\nc")
			p.want("b")
			p.play([]string{"wait", "3m"})
			wrote := p.now
			write("c\n" + strings.Repeat("d", 3000) + "\n")
			p.want("cc")
			p.want(strings.Repeat("d", 3000))
			if d := p.now.Sub(wrote); d > sweepEvery {
				t.Errorf("seen after %v", d)
			}
			// Rotated, it ends where its text does, and holds up nobody.
			p.must(os.Rename(p.path("app.log"), p.path("app.log.1")))
			p.append(p.path("app.log"), "e\n")
			p.want("e")
			p.wantNone()
		})
	}
}

// TestTextBehindNULsIsRead: after a crash of the machine a log may have some at its end,
// and the program appends its lines behind them.
func TestTextBehindNULsIsRead(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.append(p.path("app.log"), "a\n"+strings.Repeat("\x00", 3000))
	p.want("a")
	p.wantNone()
	p.append(p.path("app.log"), "b\n")
	p.want(strings.Repeat(".", 3000) + "b")
	p.append(p.path("app.log"), "c\n")
	p.want("c")
	p.wantNone()
}

// TestTheSecondHalfOfANewlineIsText where characters have two bytes.
func TestTheSecondHalfOfANewlineIsText(t *testing.T) {
	text := []byte("\xff\xfe-N\n\x00")
	st := stat{size: int64(len(text))}
	if err := st.trim(bytes.NewReader(text), 0, 0); err != nil || st.padding != 0 {
		t.Errorf("%d bytes are taken away: %v", st.padding, err)
	}
	f := new(File)
	if n := f.withoutPadding(nil, text, 0, true); n != len(text) {
		t.Errorf("%d of %d bytes are read", n, len(text))
	}
}

// endless is a file of NULs.
type endless int64

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), int64(e)-off)
	if clear(p); n < int64(len(p)) {
		return int(max(n, 0)), io.EOF
	}
	return len(p), nil
}

// TestVeryManyNULsAreNotRead over and over in search of text.
func TestVeryManyNULsAreNotRead(t *testing.T) {
	st := stat{size: 1 << 40}
	if err := st.trim(endless(st.size), 0, 0); err != nil || st.padding != 0 {
		t.Errorf("%d bytes are padding: %v", st.padding, err)
	}
	st = stat{size: maxPadding}
	if err := st.trim(endless(st.size), 0, 0); err != nil || st.size != 0 || st.disk() != maxPadding {
		t.Errorf("the text goes to %d, the file to %d: %v", st.size, st.disk(), err)
	}
}
