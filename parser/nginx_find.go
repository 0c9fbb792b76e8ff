package parser

import (
	"bytes"
	"encoding/binary"
)

// nginxFind is the way in which a value's end is found.
type nginxFind uint8

const (
	nginxToEnd    nginxFind = iota // the rest of the line
	nginxNear                      // the literal's first byte is a few bytes away
	nginxFar                       // it may be far
	nginxFirst                     // the literal's first byte, a blank, cannot be in the value
	nginxFixed                     // the value is of fixed width
	nginxListed                    // the literal begins with what can stand between the entries of a list
	nginxUnquoted                  // at a quote without a backslash before it
)

// finder returns how the end of the step's value is found.
func (s *nginxStep) finder(escape nginxEscape) nginxFind {
	switch {
	case s.kind == nginxTimeLocal || s.kind == nginxTimeISO:
		return nginxFixed
	case s.lit == "":
		return nginxToEnd
	case escape == nginxEscapeJSON && s.lit[0] == '"':
		return nginxUnquoted
	}
	switch s.kind {
	case nginxTokens, nginxUpstream, nginxSum, nginxLast:
		switch s.lit[0] {
		case ' ', ',', ':':
			return nginxListed
		}
		return nginxNear
	case nginxInt, nginxClientInt, nginxDecimal, nginxStatus, nginxSeconds, nginxMsec, nginxProtocol:
		return nginxNear
	case nginxToken:
		if s.lit[0] == ' ' {
			return nginxFirst
		}
	}
	return nginxFar
}

// end returns where the value that begins at pos ends, if the first place at which the
// literal stands is the right one; -1 when it stands nowhere.
func (s *nginxStep) end(text []byte, pos int) int {
	switch s.find {
	case nginxToEnd:
		return len(text)
	case nginxFixed:
		end := pos + nginxLocalLen
		if s.kind == nginxTimeISO {
			end = pos + nginxISOLen
		}
		if end+len(s.lit) > len(text) || string(text[end:end+len(s.lit)]) != s.lit {
			return -1
		}
		return end
	case nginxNear:
		first := s.lit[0]
		for i := pos; i < len(text); i++ {
			if text[i] == first {
				if s.litAt(text, i) {
					return i
				}
			}
		}
		return -1
	case nginxFirst:
		return s.tokenEnd(text, pos)
	case nginxListed:
		return s.listEnd(text, pos)
	case nginxUnquoted:
		return s.quotedEnd(text, pos)
	}
	return s.next(text, pos)
}

// litAt tells whether the literal, whose first byte is known to stand at i, stands
// there as a whole.
func (s *nginxStep) litAt(text []byte, i int) bool {
	if i+8 <= len(text) && len(s.lit) <= 8 {
		return binary.LittleEndian.Uint64(text[i:])&s.mask == s.word
	}
	return i+len(s.lit) <= len(text) && string(text[i:i+len(s.lit)]) == s.lit
}

// follow sets the literal that follows the value.
func (s *nginxStep) follow(lit string) {
	s.lit = lit
	var word [8]byte
	n := copy(word[:], lit)
	s.word, s.mask = binary.LittleEndian.Uint64(word[:]), ^uint64(0)>>(8*(8-n))
}

// next returns the first place at or after from where the literal stands, -1 when there
// is none.
func (s *nginxStep) next(text []byte, from int) int {
	for from <= len(text) {
		i := bytes.IndexByte(text[from:], s.lit[0])
		if i < 0 {
			return -1
		}
		if from += i; s.litAt(text, from) {
			return from
		}
		from++
	}
	return -1
}

// tokenEnd finds the first blank, where the literal must stand.
func (s *nginxStep) tokenEnd(text []byte, pos int) int {
	end := blankAt(text, pos)
	if end < 0 || !s.litAt(text, end) {
		return -1
	}
	return end
}

// listEnd passes over the ", " and " : " between the entries of a list.
func (s *nginxStep) listEnd(text []byte, pos int) int {
	for i := s.next(text, pos); i >= 0; i = s.next(text, i+1) {
		if i == pos || !inList(text, i) {
			return i
		}
	}
	return -1
}

// inList tells whether the byte at i > 0 is of a separator between entries of a list.
func inList(text []byte, i int) bool {
	switch text[i] {
	case ',':
		return i+1 < len(text) && text[i+1] == ' '
	case ':':
		return text[i-1] == ' ' && i+1 < len(text) && text[i+1] == ' '
	}
	return text[i-1] == ',' || text[i-1] == ':' && i > 1 && text[i-2] == ' ' ||
		i+2 < len(text) && text[i+1] == ':' && text[i+2] == ' '
}

// quotedEnd passes over the quotes that escape=json wrote as \".
func (s *nginxStep) quotedEnd(text []byte, pos int) int {
	for i := s.next(text, pos); i >= 0; i = s.next(text, i+1) {
		slashes := i
		for slashes > pos && text[slashes-1] == '\\' {
			slashes--
		}
		if (i-slashes)%2 == 0 {
			return i
		}
	}
	return -1
}

// nginxMatchBudget bounds what is tried for one line.
const nginxMatchBudget = 2000

// match finds ends of the values from step i on such that every value is of its
// variable's form, trying the places at which a literal stands one after the other.
func (p *nginxAccess) match(text []byte, pos, i int) bool {
	if i == len(p.steps) {
		return pos == len(text)
	}
	s := &p.steps[i]
	if s.find == nginxToEnd || s.find == nginxFixed {
		return p.tryEnd(text, pos, s.end(text, pos), i)
	}
	for end := s.next(text, pos); end >= 0; end = s.next(text, end+1) {
		if p.tryEnd(text, pos, end, i) {
			return true
		}
		if p.budget <= 0 {
			return false
		}
	}
	return false
}

func (p *nginxAccess) tryEnd(text []byte, pos, end, i int) bool {
	p.budget--
	s := &p.steps[i]
	if end < 0 || p.budget <= 0 || !s.fits(text[pos:end]) {
		return false
	}
	p.ends[i] = end
	return p.match(text, end+len(s.lit), i+1)
}

// fits tells whether val is of the form of the step's variable.
func (s *nginxStep) fits(val []byte) bool {
	if absent(val) {
		return true
	}
	switch s.kind {
	case nginxToken:
		return bytes.IndexByte(val, ' ') < 0
	case nginxTokens:
		return isTokens(val)
	case nginxInt:
		return isInt(val)
	case nginxStatus:
		return len(val) == 3 && isInt(val)
	case nginxDecimal, nginxSeconds, nginxMsec:
		_, ok := parseDecimal(val)
		return ok
	case nginxUpstream, nginxSum, nginxLast:
		_, ok := parseList(val)
		return ok
	case nginxTimeLocal:
		return len(val) == nginxLocalLen && val[2] == '/' && val[20] == ' '
	case nginxTimeISO:
		return len(val) == nginxISOLen && val[4] == '-' && val[10] == 'T'
	case nginxProtocol:
		return bytes.HasPrefix(val, httpSlash)
	case nginxPair:
		n := s.pair.at(val)
		return s.pair.left.fits(val[:n]) && s.pair.right.fits(val[n:])
	}
	return true
}

// absent tells whether val is how nginx writes that there is nothing.
func absent(val []byte) bool {
	return len(val) == 0 || len(val) == 1 && val[0] == '-'
}

func isTokens(val []byte) bool {
	for i, c := range val {
		if c == ' ' && (i == 0 || !inList(val, i)) {
			return false
		}
	}
	return true
}
