package parser

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nginxLogFormat is a log_format directive.
type nginxLogFormat struct {
	name, text, escape string
	stream             bool // of the stream module, which has a name space of its own
}

// nginxConf collects the log_formats of an nginx.conf and what it includes.
type nginxConf struct {
	dir     string // includes are relative to the directory of nginx.conf, wherever they stand
	formats []nginxLogFormat
	seen    map[string]bool // files read, so that none is read in a circle
	unread  []error         // includes that are not there or may not be read
}

// loadNginxFormat reads a log_format from an nginx.conf; name may be empty when there is
// only one.
func loadNginxFormat(path, name string) (nginxLogFormat, error) {
	c := &nginxConf{dir: filepath.Dir(path), seen: make(map[string]bool)}
	if err := c.read(path, false); err != nil {
		return nginxLogFormat{}, err
	}
	return c.named(path, name)
}

// named chooses the format of that name, one of the http module before one of the
// stream module.
func (c *nginxConf) named(path, name string) (nginxLogFormat, error) {
	slices.SortStableFunc(c.formats, func(a, b nginxLogFormat) int {
		switch {
		case a.stream == b.stream:
			return 0
		case b.stream:
			return -1
		}
		return 1
	})
	var names []string
	for _, f := range c.formats {
		if f.name == name || name == "" && len(c.formats) == 1 {
			return f, nil
		}
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	if name == "combined" { // nginx defines it itself
		return nginxLogFormat{name: name, text: nginxCombined}, nil
	}
	var text string
	switch {
	case len(names) == 0:
		text = fmt.Sprintf("%s has no log_format", path)
		if name != "" {
			text += fmt.Sprintf(" %q", name)
		}
	case name == "":
		text = fmt.Sprintf("%s has more than one log_format; say which with log_format: one of %s", path, strings.Join(names, ", "))
	default:
		text = fmt.Sprintf("%s has no log_format %q; it has %s", path, name, strings.Join(names, ", "))
	}
	if err := errors.Join(c.unread...); err != nil {
		text += "; not read: " + strings.ReplaceAll(err.Error(), "\n", ", ")
	}
	return nginxLogFormat{}, errors.New(text)
}

// read collects from one file.
func (c *nginxConf) read(path string, stream bool) error {
	if c.seen[path] {
		return nil
	}
	c.seen[path] = true
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s := &nginxScanner{path: path, src: data, line: 1}
	for blocks := []string(nil); ; {
		args, end, err := s.directive()
		if err != nil || len(args) == 0 && end == 0 {
			return err
		}
		inStream := stream || slices.Contains(blocks, "stream")
		switch {
		case end == '}':
			blocks = blocks[:max(len(blocks)-1, 0)]
		case end == '{' && len(args) > 0 && strings.HasSuffix(args[0], "_by_lua_block"):
			s.skipLua()
		case end == '{':
			blocks = append(blocks, strings.Join(args[:min(len(args), 1)], ""))
		case len(args) == 2 && args[0] == "include":
			c.include(args[1], inStream)
		case len(args) >= 3 && args[0] == "log_format":
			c.formats = append(c.formats, newNginxLogFormat(args, inStream))
		}
	}
}

// newNginxLogFormat takes log_format NAME [escape=HOW] TEXT...
func newNginxLogFormat(args []string, stream bool) nginxLogFormat {
	f := nginxLogFormat{name: args[1], stream: stream}
	texts := args[2:]
	if escape, ok := strings.CutPrefix(texts[0], "escape="); ok {
		f.escape, texts = escape, texts[1:]
	}
	f.text = strings.Join(texts, "")
	return f
}

func (c *nginxConf) include(pattern string, stream bool) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(c.dir, pattern)
	}
	paths, err := filepath.Glob(pattern)
	if err == nil && len(paths) == 0 && !strings.ContainsAny(pattern, "*?[") {
		paths = []string{pattern} // for the error that says why it cannot be read
	}
	for _, path := range paths {
		err = errors.Join(err, c.read(path, stream))
	}
	if err != nil {
		c.unread = append(c.unread, err)
	}
}

// nginxScanner takes the text of an nginx.conf apart.
type nginxScanner struct {
	path string
	src  []byte
	at   int
	line int
}

func (s *nginxScanner) fail(text string) error {
	return fmt.Errorf("%s:%d: %s", s.path, s.line, text)
}

// directive returns the words up to the next ';', '{' or '}', and which of them it was;
// 0 at the end of the text.
func (s *nginxScanner) directive() (args []string, end byte, err error) {
	for {
		s.blank()
		if s.at == len(s.src) {
			if len(args) > 0 {
				return nil, 0, s.fail(fmt.Sprintf("the file ends inside of %q", shorten(args[0])))
			}
			return nil, 0, nil
		}
		switch c := s.src[s.at]; c {
		case ';', '{', '}':
			s.at++
			return args, c, nil
		case '"', '\'':
			s.at++
			begun := s.line
			word, ok := s.word(func(b byte) bool { return b == c })
			if !ok {
				s.line = begun
				return nil, 0, s.fail(fmt.Sprintf("a quoted text that begins %q is not ended", shorten(word)))
			}
			s.at++
			args = append(args, word)
		default:
			word, _ := s.word(func(b byte) bool {
				return isNginxBlank(b) || b == ';' || b == '{' && s.src[s.at-1] != '$'
			})
			args = append(args, word)
		}
	}
}

// word reads up to a byte that ends it, which stays.
func (s *nginxScanner) word(ends func(byte) bool) (word string, ended bool) {
	var b strings.Builder
	for ; s.at < len(s.src); s.at++ {
		c := s.src[s.at]
		if ends(c) {
			return b.String(), true
		}
		if c == '\n' {
			s.line++
		}
		if c == '\\' && s.at+1 < len(s.src) {
			if next, ok := nginxBackslash(s.src[s.at+1]); ok {
				c = next
			} else {
				b.WriteByte(c)
				c = s.src[s.at+1]
			}
			s.at++
		}
		b.WriteByte(c)
	}
	return b.String(), false
}

// nginxBackslash returns what a backslash and c stand for; any other pair stands for
// itself.
func nginxBackslash(c byte) (byte, bool) {
	switch c {
	case '"', '\'', '\\':
		return c, true
	case 't':
		return '\t', true
	case 'r':
		return '\r', true
	case 'n':
		return '\n', true
	}
	return 0, false
}

// blank passes over white space and comments.
func (s *nginxScanner) blank() {
	for comment := false; s.at < len(s.src); s.at++ {
		switch c := s.src[s.at]; {
		case c == '\n':
			s.line++
			comment = false
		case comment || isNginxBlank(c):
		case c == '#':
			comment = true
		default:
			return
		}
	}
}

func isNginxBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skipLua passes over a block of Lua, whose braces, quotes and comments are its own.
func (s *nginxScanner) skipLua() {
	var quote byte
	for depth := 1; s.at < len(s.src) && depth > 0; s.at++ {
		c := s.src[s.at]
		switch {
		case c == '\n':
			s.line++
			quote = 0
		case quote == '-': // a comment
		case c == '\\':
			s.at++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '-' && s.at+1 < len(s.src) && s.src[s.at+1] == '-':
			quote = '-'
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
	}
	s.at = min(s.at, len(s.src))
}

// pastedLogFormat reads a whole log_format directive that somebody pasted where its text
// is wanted.
func pastedLogFormat(text string) (f nginxLogFormat, ok bool) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "log_format") || len(text) > 10 && !isNginxBlank(text[10]) {
		return f, false
	}
	if !strings.HasSuffix(text, ";") {
		text += ";"
	}
	args, _, err := (&nginxScanner{path: "log_format", src: []byte(text), line: 1}).directive()
	if err != nil || len(args) < 3 {
		return f, false
	}
	return newNginxLogFormat(args, false), true
}
