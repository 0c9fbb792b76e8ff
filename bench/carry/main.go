// Carry is the mark that the indexer's way is measured by: a loop written by hand that
// fetches the record batches of a topic, unpacks them and writes what is in them to a
// socket, on one core. It looks at no record, knows no positions, sums nothing, and asks
// nobody whether it has arrived: what an indexer spends beside, it spends on documents.
//
//	go run ./bench/carry BROKER TOPIC SINK    prints the bytes that it wrote, per CPU second
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: carry BROKER TOPIC SINK")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	before := cpuTime()
	written, records, err := run(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, "carry:", err)
		os.Exit(1)
	}
	cpu := cpuTime() - before
	fmt.Printf("%.0f MB per CPU second (%d bytes, %d records, %v CPU)\n", float64(written)/1e6/cpu.Seconds(), written, records, cpu.Round(time.Millisecond))
}

// cpuTime is what this process has used of the CPU, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run carries all that the topic holds.
func run(broker, topic, sink string) (written, records int64, err error) {
	from, err := net.Dial("tcp", broker)
	if err != nil {
		return 0, 0, err
	}
	defer from.Close()
	to, err := net.Dial("tcp", sink)
	if err != nil {
		return 0, 0, err
	}
	defer to.Close()
	c := carrier{from: from, to: to}
	for partition := int32(0); ; partition++ {
		switch err := c.partition(topic, partition); {
		case err == errNoPartition && partition > 0:
			return c.written, c.records, nil
		case err != nil:
			return 0, 0, fmt.Errorf("partition %d: %w", partition, err)
		}
	}
}

type carrier struct {
	from, to net.Conn
	answer   []byte
	piece    []byte
	lz4      *lz4.Reader
	written  int64
	records  int64
}

var errNoPartition = errors.New("there is no such partition")

// partition carries one from its beginning to its end.
func (c *carrier) partition(topic string, index int32) error {
	for at := int64(0); ; {
		end, records, err := c.fetch(topic, index, at)
		if err != nil {
			return err
		}
		next := at
		for len(records) > headerBytes {
			size := 12 + int(binary.BigEndian.Uint32(records[8:]))
			if size > len(records) {
				break // it comes again, whole
			}
			batch := records[:size]
			records = records[size:]
			next = int64(binary.BigEndian.Uint64(batch)) + int64(binary.BigEndian.Uint32(batch[23:])) + 1
			c.records += int64(binary.BigEndian.Uint32(batch[57:]))
			if err := c.batch(binary.BigEndian.Uint16(batch[21:])&7, batch[headerBytes:]); err != nil {
				return err
			}
		}
		if next >= end {
			return nil
		}
		if next == at {
			return fmt.Errorf("no batch at offset %d of %d", at, end)
		}
		at = next
	}
}

// headerBytes is what stands before the records of a batch.
const headerBytes = 61

// fetch asks for what follows an offset, in version 4 of the fetch request as Apache
// Kafka's protocol documentation describes it.
func (c *carrier) fetch(topic string, index int32, offset int64) (end int64, records []byte, err error) {
	u16, u32, u64 := binary.BigEndian.AppendUint16, binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64
	const most = 1 << 20
	q := u32(u16(u16(u32(nil, 0), 1), 4), 0) // size, fetch, version, correlation
	q = append(u16(q, 5), "carry"...)
	q = u32(u32(u32(q, 0xffffffff), 1000), 1) // no replica, how long to wait, the least
	q = append(u32(q, most), 0)               // what is not committed, too
	q = append(u16(u32(q, 1), uint16(len(topic))), topic...)
	q = u32(u64(u32(u32(q, 1), uint32(index)), uint64(offset)), most)
	binary.BigEndian.PutUint32(q, uint32(len(q)-4))
	if _, err := c.from.Write(q); err != nil {
		return 0, nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.from, size[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if cap(c.answer) < n {
		c.answer = make([]byte, n)
	}
	a := c.answer[:n]
	if _, err := io.ReadFull(c.from, a); err != nil {
		return 0, nil, err
	}
	// Correlation, throttling, one topic and its name, one partition and its number.
	head := 4 + 4 + 4 + 2 + len(topic) + 4 + 4
	if len(a) < head+2+8+8+4+4 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	a = a[head:]
	switch code := binary.BigEndian.Uint16(a); code {
	case 0:
	case 1, 3: // of one that is not there
		return 0, nil, errNoPartition
	default:
		return 0, nil, fmt.Errorf("error %d", code)
	}
	end = int64(binary.BigEndian.Uint64(a[2:]))
	a = a[2+8+8:]
	if aborted := int32(binary.BigEndian.Uint32(a)); aborted > 0 {
		return 0, nil, errors.New("transactions were aborted here")
	}
	return end, a[4+4:], nil
}

// batch unpacks the records of one piece by piece and writes them.
func (c *carrier) batch(codec uint16, records []byte) error {
	if c.piece == nil {
		c.piece = make([]byte, 256<<10)
	}
	switch codec {
	case 0:
		return c.write(records)
	case 2:
		for blocks := records[16:]; len(blocks) > 4; { // as the Java library frames them
			n := 4 + int(binary.BigEndian.Uint32(blocks))
			piece, err := s2.Decode(c.piece[:cap(c.piece)], blocks[4:n])
			if err != nil {
				return err
			}
			if err := c.write(piece); err != nil {
				return err
			}
			blocks = blocks[n:]
		}
		return nil
	case 3:
		if c.lz4 == nil {
			c.lz4 = lz4.NewReader(nil)
		}
		c.lz4.Reset(bytes.NewReader(records))
		for {
			n, err := c.lz4.Read(c.piece)
			if err := c.write(c.piece[:n]); err != nil {
				return err
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("codec %d is not carried", codec)
}

func (c *carrier) write(piece []byte) error {
	n, err := c.to.Write(piece)
	c.written += int64(n)
	return err
}
