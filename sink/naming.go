package sink

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Naming is a kind of name with its own idea of what is legal in it.
type Naming uint8

const (
	// PathNaming is a file's path. Values stay one path element: they cannot
	// climb out of the directory or hide the file.
	PathNaming Naming = iota
	// TopicNaming is a Kafka topic: letters, digits, '.', '_' and '-', at most 249.
	TopicNaming
	// IndexNaming is an Elasticsearch index: lower case, at most 255 bytes, without
	// \ / * ? " < > | , # : and space, and not beginning with - _ + or a dot.
	IndexNaming
)

const (
	// maxValueBytes bounds what one placeholder may add, so that the text around it
	// (an extension) stays whole.
	maxValueBytes = 100
	// maxElementBytes leaves room in a file system's 255 bytes for what rotation
	// and compression append.
	maxElementBytes = 200
	maxTopicBytes   = 249
	maxIndexBytes   = 255
)

// illegal reports whether r may not stand in a name. utf8.RuneError never may: it
// is what bytes that are not text decode to.
func (k Naming) illegal(r rune) bool {
	if r == utf8.RuneError || unicode.IsControl(r) {
		return true
	}
	switch k {
	case TopicNaming:
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	case IndexNaming:
		return unicode.IsSpace(r) || strings.ContainsRune(`\/*?"<>|,#:`, r)
	}
	return r == '/'
}

// checkLiterals finds what in the template's own text no such name can hold.
func (k Naming) checkLiterals(parts []part) error {
	if len(parts) == 0 {
		return errors.New("it is empty; write a name such as " + [...]string{"out/{project}-{date}.ndjson", "logs-{project}", "logs-{project}-{date}"}[k])
	}
	last := parts[len(parts)-1]
	if k == PathNaming && last.field == "" && strings.HasSuffix(last.literal, "/") {
		return errors.New("it names a directory; write the file's name after the last '/'")
	}
	if first := parts[0].literal; k == IndexNaming && first != "" && strings.ContainsAny(first[:1], "-_+.") {
		return fmt.Errorf("an Elasticsearch index cannot begin with %q", first[:1])
	}
	for _, p := range parts {
		for _, r := range p.literal {
			switch {
			case k == PathNaming && r == '/':
			case k.illegal(r) && k == TopicNaming:
				return fmt.Errorf("%q cannot stand in a Kafka topic; letters, digits, '.', '_' and '-' can", r)
			case k.illegal(r):
				return fmt.Errorf("%q cannot stand in this name", r)
			case k == IndexNaming && unicode.ToLower(r) != r:
				return fmt.Errorf("an Elasticsearch index is lower case; write %q", strings.ToLower(p.literal))
			}
		}
	}
	return nil
}

// appendValue appends a placeholder's value with '-' for what is illegal in it.
func (k Naming) appendValue(dst []byte, value string) []byte {
	if value == "" {
		return append(dst, absent...)
	}
	start, head := len(dst), true
	for _, r := range value {
		// Dots at the head would make "..", or a hidden file or index.
		if head = head && r == '.'; head || k.illegal(r) {
			r = '-'
		}
		if k == IndexNaming {
			r = unicode.ToLower(r)
		}
		dst = utf8.AppendRune(dst, r)
		if len(dst)-start > 4*maxValueBytes {
			// Enough to tell long values apart, and no more work for a megabyte.
			break
		}
	}
	return shorten(dst, start, maxValueBytes)
}

// finish makes dst[start:], whose values are legal, legal as a whole.
func (k Naming) finish(dst []byte, start int) []byte {
	switch k {
	case TopicNaming:
		return shorten(dst, start, maxTopicBytes)
	case IndexNaming:
		if strings.IndexByte("-_+", dst[start]) >= 0 {
			dst = append(dst, 0)
			copy(dst[start+1:], dst[start:])
			dst[start] = 'x'
		}
		return shorten(dst, start, maxIndexBytes)
	}
	if len(dst)-start <= maxElementBytes {
		return dst
	}
	var long []byte
	for i, element := range bytes.Split(dst[start:], []byte("/")) {
		if i > 0 {
			long = append(long, '/')
		}
		at := len(long)
		long = shorten(append(long, element...), at, maxElementBytes)
	}
	return append(dst[:start], long...)
}

// shorten cuts dst[start:] to most bytes. Its end is then a hash of what it was, so
// that two long names stay two.
func shorten(dst []byte, start, most int) []byte {
	if len(dst)-start <= most {
		return dst
	}
	h := fnv.New32a()
	h.Write(dst[start:])
	cut := start + most - len("-00000000")
	for cut > start && !utf8.RuneStart(dst[cut]) {
		cut--
	}
	return fmt.Appendf(dst[:cut], "-%08x", h.Sum32())
}
