package parser

import (
	"bytes"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// maxRequestID is the length of the longest request id, in bytes.
const maxRequestID = 256

// requestIDKey returns how sure a key, in lower case without _ and -, names the request;
// 0 when it does not.
func requestIDKey(key string) uint8 {
	switch key {
	case "requestid":
		return 95
	case "xrequestid":
		return 94
	case "reqid":
		return 93
	case "requestuuid":
		return 90
	case "req.id", "request.id", "http.request.id":
		return 88
	case "httpxrequestid":
		return 87
	case "xreqid":
		return 85
	case "correlationid", "xcorrelationid":
		return 75
	case "traceid", "trace.id":
		return 65
	case "xtraceid":
		return 64
	case "xb3traceid", "b3traceid":
		return 63
	case "dd.traceid":
		return 60
	}
	return 0
}

// requestIDRank returns how sure a JSON key, with the keys around it, names the request;
// 0 when it does not. Under other keys (mdc.requestId, req.headers.x-request-id) it is
// less sure.
func requestIDRank(path string) uint8 {
	key := normalKey(path)
	if rank := requestIDKey(key); rank > 0 {
		return rank
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		if rank := requestIDKey(key[i+1:]); rank > 0 {
			return rank - 30
		}
	}
	return 0
}

// searched is how much of an event is searched for its request id, in bytes.
const searched = 2048

// sureID is the rank of an id from which no better one is searched for.
const sureID = 93

// textRequestID finds the request id that a text names: request_id=7f3c,
// requestId: "7f3c", X-Request-ID: 7f3c; nil when it names none.
func textRequestID(text []byte) (id []byte) {
	text = text[:min(len(text), searched)]
	best := uint8(0)
	for _, sep := range []byte{'=', ':'} {
		for from := 0; best < sureID; {
			n := bytes.IndexByte(text[from:], sep)
			if n < 0 {
				break
			}
			at := from + n
			from = at + 1
			if at > 0 && (text[at-1] == '"' || text[at-1] == '\'') {
				at--
			}
			if at > 0 && text[at-1] == '\\' { // before a quote inside of JSON
				at--
			}
			if at < 3 || text[at-1]|0x20 != 'd' {
				continue
			}
			if rank := textIDRank(text[:at]); rank > best {
				if value := idValue(text[from:]); value != nil {
					id, best = value, rank
				}
			}
		}
	}
	return id
}

// textLevel finds the level that a text names as level=error or lvl=error.
func textLevel(text []byte) (record.Level, bool) {
	text = text[:min(len(text), searched)]
	for from := 0; ; {
		n := bytes.Index(text[from:], []byte("l="))
		if n < 0 {
			return record.LevelNone, false
		}
		end := from + n + 1
		from = end + 1
		key := text[max(0, end-6):end]
		if start := bytes.LastIndexAny(key, " \t\n\"',;{[("); start >= 0 {
			key = key[start+1:]
		}
		if string(key) != "level" && string(key) != "lvl" {
			continue // log_level=info may be a setting
		}
		val := bytes.TrimLeft(text[from:min(len(text), from+20)], `"'`)
		n = 0
		for n < len(val) && (isWord(val[n]) || val[n] == '+' || val[n] == '-') {
			n++
		}
		if level, ok := ParseLevel(val[:n]); ok {
			return level, true
		}
	}
}

// textIDRank returns how sure the key that text ends with names the request, 0 when it
// does not.
func textIDRank(text []byte) uint8 {
	const usual = "request_id"
	if i := len(text) - len(usual); i > 0 && string(text[i:]) == usual && headClass[text[i-1]] != inName {
		return requestIDKey("requestid")
	}
	var key [24]byte // in small letters without _ and -, from its end backwards
	n := len(key)
	i := len(text) - 1
	for ; i >= 0 && n > 0; i-- {
		c := text[i]
		if c == '_' || c == '-' {
			continue
		}
		if !isLetter(c) && !isDigit(c) {
			break
		}
		n--
		key[n] = c | 0x20
	}
	if rank := requestIDKey(string(key[n:])); rank > 0 {
		return rank
	}
	if string(key[n:]) != "id" || i < 5 || text[i] != ' ' && text[i] != '.' {
		return 0
	}
	// "Request ID: 7f3c", "trace.id=7f3c"
	switch before := text[:i]; {
	case endsFold(before, "request"):
		return requestIDKey("requestid")
	case endsFold(before, "trace"):
		return requestIDKey("traceid")
	case endsFold(before, "correlation"):
		return requestIDKey("correlationid")
	}
	return 0
}

// endsFold tells whether text ends with a word, given in small letters.
func endsFold(text []byte, word string) bool {
	return len(text) >= len(word) && equalFold(text[len(text)-len(word):], word)
}

// inID are the bytes that ids are made of.
var inID = func() (in [256]bool) {
	for c := range in {
		in[c] = isWord(byte(c)) || strings.IndexByte("-.:/+=@#", byte(c)) >= 0
	}
	return in
}()

// idValue returns the id at the head of text, which may be quoted; nil when it is none.
func idValue(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '"' || text[0] == '\'' || text[0] == '[' || text[0] == '\\') {
		text = text[1:]
	}
	n := 0
	for n < len(text) && n <= maxRequestID && inID[text[n]] {
		n++
	}
	if n > maxRequestID {
		return nil
	}
	for n > 0 && (text[n-1] == '.' || text[n-1] == ':' || text[n-1] == '-' || text[n-1] == '/') {
		n--
	}
	id := text[:n]
	switch string(id) {
	case "", "null", "nil", "none", "None", "undefined", "N/A":
		return nil
	}
	return id
}

// bracketID returns the request id that loggers put into brackets without a name: a
// UUID, 16 or 32 hexadecimal digits, req-7f3c; alone or, as Spring writes it, behind
// the application's name or with a span's id.
func bracketID(in []byte) []byte {
	for len(in) > 0 {
		n := bytes.IndexByte(in, ',')
		part := in
		if n >= 0 {
			part, in = in[:n], in[n+1:]
		} else {
			in = nil
		}
		if len(part) >= 16 && isID(part) || len(part) > 4 && (hasPrefix(part, "req-") || hasPrefix(part, "req_")) {
			return part
		}
		if len(part) == 49 && part[32] == '-' && isID(part[:32]) { // a trace's and a span's
			return part[:32]
		}
	}
	return nil
}

// isID tells whether part is a UUID, or 16 or 32 hexadecimal digits that are no number.
func isID(part []byte) bool {
	if len(part) != 16 && len(part) != 32 && len(part) != 36 {
		return false
	}
	letters := false
	for i, c := range part {
		if len(part) == 36 && (i == 8 || i == 13 || i == 18 || i == 23) {
			if c != '-' {
				return false
			}
			letters = true
			continue
		}
		if !isHex(c) {
			return false
		}
		letters = letters || isLetter(c)
	}
	return letters
}
