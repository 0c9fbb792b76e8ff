package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

const (
	// KeysKept is how many keys are remembered.
	KeysKept = 200_000
	// KeysFor is how long they are remembered, while there are no more than KeysKept.
	KeysFor = 24 * time.Hour
)

// anySum stands for a payload that was not looked at.
const anySum = 0

// sumOf is a payload's checksum, never anySum.
func sumOf(payload []byte) uint32 {
	return max(crc32.Checksum(payload, castagnoli), 1)
}

// known is what is remembered with a key.
type known struct {
	at  int64 // Unix seconds
	sum uint32
	end int64 // of its frame; 0 when that is durable for sure
}

// kept is a key as it is written to disk.
type kept struct {
	key Key
	at  int64
	sum uint32
}

// keys remembers the latest of them. It is guarded by the Log but for what save and
// close use.
type keys struct {
	m     map[Key]known
	order []Key // the oldest first, from head on
	head  int

	file    *os.File // the keys of deleted segments
	written int      // how many it has
}

func (k *keys) get(key Key, now time.Time) (known, bool) {
	v, ok := k.m[key]
	if ok && now.Unix()-v.at > int64(KeysFor/time.Second) {
		delete(k.m, key)
		return known{}, false
	}
	return v, ok
}

func (k *keys) put(key Key, v known) {
	if k.m == nil {
		k.m = make(map[Key]known)
	}
	if _, there := k.m[key]; !there {
		k.order = append(k.order, key)
	}
	k.m[key] = v
	for len(k.order)-k.head > KeysKept {
		delete(k.m, k.order[k.head])
		k.head++
	}
	if k.head > KeysKept {
		k.order = append(k.order[:0], k.order[k.head:]...)
		k.head = 0
	}
}

// forget removes keys whose frames were taken back. They keep their places in the order,
// which only makes others leave earlier.
func (k *keys) forget(gone []kept) {
	for _, g := range gone {
		delete(k.m, g.key)
	}
}

// forgetAfter removes the keys of frames that end after an offset.
func (k *keys) forgetAfter(end int64) {
	for key, v := range k.m {
		if v.end > end {
			delete(k.m, key)
		}
	}
}

// still returns those that are remembered.
func (k *keys) still(list []kept) []kept {
	var left []kept
	for _, e := range list {
		if _, ok := k.m[e.key]; ok {
			left = append(left, e)
		}
	}
	return left
}

const (
	keysName  = "keys"
	keptBytes = 32 // key, time, sum, CRC-32C
)

func appendKept(dst []byte, e kept) []byte {
	n := len(dst)
	dst = append(dst, e.key[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.at))
	dst = binary.LittleEndian.AppendUint32(dst, e.sum)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[n:], castagnoli))
}

// open reads the keys of deleted segments. One that is damaged is passed over.
func (k *keys) open(dir string, now time.Time) error {
	path := filepath.Join(dir, keysName)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var whole []byte
	k.written = 0
	oldest := now.Add(-KeysFor).Unix()
	skip := len(data)/keptBytes - KeysKept
	for i := 0; len(data) >= keptBytes; i++ {
		e := data[:keptBytes]
		data = data[keptBytes:]
		if crc32.Checksum(e[:keptBytes-4], castagnoli) != binary.LittleEndian.Uint32(e[keptBytes-4:]) {
			continue
		}
		entry := kept{Key(e[:16]), int64(binary.LittleEndian.Uint64(e[16:])), binary.LittleEndian.Uint32(e[24:])}
		if i < skip || entry.at < oldest {
			continue
		}
		whole = append(whole, e...)
		k.written++
		k.put(entry.key, known{at: entry.at, sum: entry.sum})
	}
	if whole == nil && err != nil {
		return nil // made when there is something to be written
	}
	if err := atomicfile.Write(path, whole, 0o600); err != nil {
		return err
	}
	k.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	return err
}

// save makes the keys of a segment durable that is about to be deleted.
func (k *keys) save(dir string, list []kept, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	path := filepath.Join(dir, keysName)
	if k.written+len(list) > 2*KeysKept {
		if err := k.compact(path, now); err != nil {
			return err
		}
	}
	if k.file == nil {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		k.file = file
	}
	var data []byte
	for _, e := range list {
		data = appendKept(data, e)
	}
	// After an error half an entry may stand there: begin at a whole one again.
	end, err := k.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if off := end % keptBytes; off != 0 {
		if err := k.file.Truncate(end - off); err != nil {
			return err
		}
	}
	if _, err := k.file.Write(data); err != nil {
		return err
	}
	k.written += len(list)
	if err := syncData(k.file); err != nil {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// compact leaves out of the file what is too old or too much.
func (k *keys) compact(path string, now time.Time) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	data = data[max(0, len(data)/keptBytes-KeysKept)*keptBytes:]
	oldest := now.Add(-KeysFor).Unix()
	var whole []byte
	for ; len(data) >= keptBytes; data = data[keptBytes:] {
		if int64(binary.LittleEndian.Uint64(data[16:])) >= oldest {
			whole = append(whole, data[:keptBytes]...)
		}
	}
	if err := atomicfile.Write(path, whole, 0o600); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	k.close()
	k.file, k.written = file, len(whole)/keptBytes
	return nil
}

func (k *keys) close() error {
	if k.file == nil {
		return nil
	}
	err := k.file.Close()
	k.file = nil
	return err
}
