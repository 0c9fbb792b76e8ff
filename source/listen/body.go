package listen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/tailwater/tailwater/source/listen/spool"
)

var errBusy = &refusal{http.StatusTooManyRequests, "full", "too much is being sent at once; send this again", 1}

// memoryStep is how much memory is asked for at once, in bytes, and firstStep at the
// beginning of a body: of a thousand senders that begin one and stop, each holds that.
const (
	memoryStep = 256 << 10
	firstStep  = 64 << 10
)

// readBody appends the request's body, decompressed, to the frame. It returns the memory
// that was taken for it, which the caller gives back.
func (w *web) readBody(r *http.Request, f *spool.Frame) (held int, err error) {
	tooLarge := &refusal{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is larger than max_body, %d bytes; send less at once", w.cfg.MaxBody), 0}
	if r.ContentLength > int64(w.cfg.MaxBody) {
		return 0, tooLarge
	}
	body, done, err := decompressed(r.Header.Get("Content-Encoding"), io.LimitReader(r.Body, int64(w.cfg.MaxBody)+1))
	if err != nil {
		return 0, err
	}
	defer done()
	start := len(f.Buf)
	if n := int(r.ContentLength); n > cap(f.Buf)-start {
		n = min(n, firstStep) // a length is soon said
		f.Buf = slices.Grow(f.Buf, n)
	}
	for {
		if free := cap(f.Buf) - len(f.Buf); free == 0 {
			f.Buf = slices.Grow(f.Buf, min(max(len(f.Buf), 64<<10), 4<<20))
		}
		// What is built of the body may need as much again.
		if len(f.Buf)-start >= held/2 {
			step := firstStep
			if held > 0 {
				step = min(memoryStep<<min(held/memoryStep, 4), 4<<20)
			}
			if !w.cfg.Memory.take(step) {
				return held, errBusy
			}
			held += step
		}
		n, err := body.Read(f.Buf[len(f.Buf):min(cap(f.Buf), start+held/2)])
		f.Buf = f.Buf[:len(f.Buf)+n]
		if len(f.Buf)-start > w.cfg.MaxBody {
			return held, tooLarge
		}
		if err == io.EOF {
			return held, nil
		}
		if err != nil {
			return held, &refusal{http.StatusBadRequest, "refused", fmt.Sprintf("the body cannot be read: %v; nothing of it was taken", err), 0}
		}
	}
}

var (
	gzips sync.Pool
	zstds sync.Pool
)

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 8 << 20

// decompressed reads what a Content-Encoding says; done gives back what was needed.
func decompressed(encoding string, r io.Reader) (body io.Reader, done func(), err error) {
	nothing := func() {}
	bad := func(err error) error {
		return &refusal{http.StatusBadRequest, "refused", fmt.Sprintf("the body is not %s: %v; nothing of it was taken", encoding, err), 0}
	}
	switch encoding = strings.ToLower(strings.TrimSpace(encoding)); encoding {
	case "", "identity":
		return r, nothing, nil
	case "gzip", "x-gzip":
		z, ok := gzips.Get().(*gzip.Reader)
		if ok {
			err = z.Reset(r)
		} else {
			z, err = gzip.NewReader(r)
		}
		if err != nil {
			return nil, nil, bad(err)
		}
		return z, func() { gzips.Put(z) }, nil
	case "deflate":
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, nil, bad(err)
		}
		return z, nothing, nil
	case "zstd":
		z, ok := zstds.Get().(*zstd.Decoder)
		if !ok {
			if z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true)); err != nil {
				return nil, nil, bad(err)
			}
		}
		if err := z.Reset(r); err != nil {
			return nil, nil, bad(err)
		}
		return z, func() { z.Reset(nil); zstds.Put(z) }, nil
	}
	return nil, nil, &refusal{http.StatusUnsupportedMediaType, "refused", fmt.Sprintf("the Content-Encoding %q is not known; send gzip, deflate, zstd or none", encoding), 0}
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// countLines counts the lines that hold more than white space.
func countLines(b []byte) (n int) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > 1 && line[0] > ' ' || len(trimSpace(line)) > 0 {
			n++
		}
	}
	return n
}

// beginsWithObject tells whether the first line is a JSON object for itself.
func beginsWithObject(text []byte) bool {
	i := bytes.IndexByte(text, '\n')
	return i > 0 && text[0] == '{' && json.Valid(text[:i])
}

// jsonTrouble says where a text stops being JSON.
func jsonTrouble(text []byte) string {
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	if s := (*json.SyntaxError)(nil); errors.As(err, &s) {
		return fmt.Sprintf("%v at byte %d", s, s.Offset)
	}
	return fmt.Sprint(err)
}

// appendValues appends a JSON value as records: an array's elements one by one, until there
// are more than most bytes.
func appendValues(dst, value []byte, most int) ([]byte, int) {
	if value[0] != '[' {
		return appendValue(dst, value), 1
	}
	n := 0
	eachElement(value, func(element []byte) {
		if len(dst) <= most {
			dst = appendValue(dst, element)
			n++
		}
	})
	return dst, n
}

// appendValue appends one value: a string is a text, all else is a line of JSON.
func appendValue(dst, value []byte) []byte {
	r := spool.Record{Text: value, Flags: spool.IsJSON | spool.AsSent}
	if value[0] == '"' {
		var text string
		if json.Unmarshal(value, &text) == nil {
			r = spool.Record{Text: []byte(text)}
		}
	} else if bytes.IndexByte(value, '\n') >= 0 {
		var flat bytes.Buffer
		if json.Compact(&flat, value) == nil {
			r.Text = flat.Bytes()
		}
	}
	return spool.AppendRecord(dst, &r)
}

// eachElement calls emit for each element of a valid JSON array.
func eachElement(array []byte, emit func(element []byte)) {
	for i := skipBlank(array, 1); i < len(array) && array[i] != ']'; {
		end := valueEnd(array, i)
		emit(array[i:end])
		if i = skipBlank(array, end); i < len(array) && array[i] == ',' {
			i = skipBlank(array, i+1)
		}
	}
}

// eachMember calls emit for each member of a valid JSON object. key is without its quotes
// and as it is written.
func eachMember(object []byte, emit func(key, value []byte)) {
	for i := skipBlank(object, 1); i < len(object) && object[i] != '}'; {
		end := valueEnd(object, i)
		key := object[i+1 : end-1]
		i = skipBlank(object, skipBlank(object, end)+1) // behind the colon
		end = valueEnd(object, i)
		emit(key, object[i:end])
		if i = skipBlank(object, end); i < len(object) && object[i] == ',' {
			i = skipBlank(object, i+1)
		}
	}
}

func skipBlank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// valueEnd is where the value ends that begins at i, of valid JSON.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
			continue
		case ']', '}':
			depth--
		default:
			if depth == 0 { // a number or a word
				for i < len(b) && bytes.IndexByte([]byte(",]} \t\r\n"), b[i]) < 0 {
					i++
				}
				return i
			}
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}
