package parser

import (
	"bytes"
	"regexp"
)

// joiner decides, line by line, whether a line goes on with the event before it. What
// it answers depends on the lines of that event alone.
type joiner struct {
	kind   joinKind
	starts *regexp.Regexp
	whole  func(line []byte) bool
	trace  trace
	alone  bool // nothing goes on with the event

	unended bool // of joinNginxErrors: what nginx writes at an event's end has not come
}

// begin starts a new event with its first line.
func (j *joiner) begin(line []byte) {
	j.unended = j.kind == joinNginxErrors && unendedNginxError(line)
	j.alone = j.kind == joinOthers && j.whole(line)
	if j.kind == joinAuto || j.kind == joinOthers {
		j.trace.begin(line)
	}
}

// joins says whether line goes on with event, which is all of its text so far.
// afterBlank is set when blank lines lie between the two. When it does, the joiner
// counts it in.
func (j *joiner) joins(event, line []byte, afterBlank bool) bool {
	switch j.kind {
	case joinAuto, joinOthers:
		return !j.alone && j.trace.joins(event, line, afterBlank)
	case joinStartsWith:
		return !j.starts.Match(line)
	case joinNginxErrors:
		if j.starts.Match(line) || !j.unended && line[0] != ' ' && line[0] != '\t' {
			return false
		}
		j.unended = j.unended && !bytes.Contains(line, nginxClient)
		return true
	}
	return false
}

// lone says whether an event of so many lines is nothing but a line.
func (j *joiner) lone(lines int) bool {
	return lines == 1 && j.kind != joinStartsWith && j.trace.kind == noTrace && !j.unended
}
