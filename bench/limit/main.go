// Limit is the mark that the agent is measured by: a loop written by hand for one
// nginx format that reads a file, splits it into lines, slices the eleven fields,
// appends a JSON document, sums it with CRC-32C and throws it away, on one core. The
// documents are valid JSON, so it looks for bytes that need escaping; but it has no
// positions, no ids, no times and no mercy for a line that looks different.
//
//	go run ./bench/limit FILE    prints megabytes (10^6 bytes) of log per CPU second
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

const (
	blockBytes = 256 << 10
	// docsBytes is room for the documents of a block: the keys are shorter than
	// what a line has beside them.
	docsBytes = 4 * blockBytes
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: limit FILE")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	before := cpuTime()
	read, lines, bad, sum, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
	cpu := cpuTime() - before
	fmt.Printf("%.0f MB per CPU second (%d bytes, %d lines, %d not of the format, %v CPU, crc %08x)\n",
		float64(read)/1e6/cpu.Seconds(), read, lines, bad, cpu.Round(time.Millisecond), sum)
}

// cpuTime is what this process has used of the CPU, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// run reads the file once.
func run(name string) (read int64, lines, bad int, sum uint32, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer f.Close()
	block := make([]byte, blockBytes)
	docs := make([]byte, 0, docsBytes)
	held := 0 // bytes of an unfinished line at the block's head
	for {
		n, err := f.Read(block[held:])
		if n == 0 {
			if errors.Is(err, io.EOF) {
				return read, lines, bad, sum, nil
			}
			return read, lines, bad, sum, err
		}
		read += int64(n)
		data := block[:held+n]
		docs = docs[:0]
		for {
			end := bytes.IndexByte(data, '\n')
			if end < 0 {
				break
			}
			var ok bool
			line := data[:end]
			if !plain(line) {
				line = escape(line)
			}
			if docs, ok = appendDoc(docs, line); !ok {
				bad++
			}
			lines++
			data = data[end+1:]
		}
		sum = crc32.Update(sum, castagnoli, docs)
		if len(data) == len(block) {
			return read, lines, bad, sum, fmt.Errorf("%s: a line of more than %d bytes", name, len(block))
		}
		held = copy(block, data)
	}
}

// appendDoc appends the document of one line of
//
//	$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
//	"$http_referer" "$http_user_agent" $request_time $upstream_response_time $request_id
//
// and says whether the line is of that format.
func appendDoc(dst, line []byte) ([]byte, bool) {
	start := len(dst)
	// field appends what stands before stop behind the text that leads to it, and
	// moves on to skip bytes after stop.
	field := func(lead string, stop byte, skip int) bool {
		i := bytes.IndexByte(line, stop)
		if i < 0 || i+skip > len(line) {
			return false
		}
		dst = append(append(dst, lead...), line[:i]...)
		line = line[i+skip:]
		return true
	}
	if field(`{"remote_addr":"`, ' ', 3) &&
		field(`","remote_user":"`, ' ', 2) &&
		field(`","time":"`, ']', 3) &&
		field(`","request":"`, '"', 2) &&
		field(`","status":`, ' ', 1) &&
		field(`,"bytes_sent":`, ' ', 2) &&
		field(`,"referer":"`, '"', 3) &&
		field(`","user_agent":"`, '"', 2) &&
		field(`","request_time":`, ' ', 1) &&
		field(`,"upstream_time":"`, ' ', 1) {
		dst = append(append(dst, `","request_id":"`...), line...)
		return append(dst, "\"}\n"...), true
	}
	return dst[:start], false
}

// plain tells whether line holds only bytes that stand for themselves in a JSON
// string, quotes aside: they are what the fields are cut at.
func plain(line []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	var bad uint64
	i := 0
	for ; i+8 <= len(line); i += 8 {
		x := binary.LittleEndian.Uint64(line[i:])
		slash := x ^ (ones * '\\')
		bad |= x | (x - ones*0x20) | (slash - ones)
	}
	for ; i < len(line); i++ {
		if c := line[i]; c < 0x20 || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return bad&highs == 0
}

// escape returns line with the bytes escaped that JSON wants so. It is rare, so it
// may allocate.
func escape(line []byte) []byte {
	out := make([]byte, 0, len(line)+16)
	for _, c := range bytes.ToValidUTF8(line, []byte("\uFFFD")) {
		switch {
		case c == '\\':
			out = append(out, `\\`...)
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return out
}
