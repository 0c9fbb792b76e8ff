package parser

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
)

// auto decides the format of each file from its first lines.
type auto struct {
	conf Config
	wrap wrapKind // what is around the lines, wrapAny when that is to be decided too

	mu   sync.Mutex
	made map[string]*Format // by name, so that the same decision is the same Format
}

// wrapAny leaves the wrapper to be decided.
const wrapAny = wrapKind(255)

func newAuto(c Config, wrap wrapKind) *auto {
	return &auto{conf: c, wrap: wrap, made: make(map[string]*Format)}
}

// Decided tells that the format is the same for every file: that there is nothing to
// detect.
func (f *Format) Decided() bool { return f.auto == nil }

// Detect decides from the first bytes of a file which format it has. Where it is not
// sure, the answer may be used for what is there, and more of the file may change it.
// The same decision is the same *Format.
func (f *Format) Detect(head []byte) (decided *Format, sure bool) {
	if f.auto == nil {
		return f, true
	}
	s := f.auto.sample(head)
	if len(s.texts) == 0 {
		return f, false
	}
	name, sure := f.auto.decide(s)
	if decided = f.auto.named(s.wrapper.prefix() + name); decided == nil {
		return f, false
	}
	return decided, sure && !s.torn
}

// Restore returns the format that Detect decided on when its Name was noted, and false
// when this configuration has none of that name: then the file is to be looked at anew.
func (f *Format) Restore(name string) (*Format, bool) {
	if f.auto == nil {
		return f, true
	}
	if decided := f.auto.named(name); decided != nil {
		return decided, true
	}
	return f, false
}

func (k wrapKind) prefix() string {
	switch k {
	case wrapCRI:
		return "cri "
	case wrapDocker:
		return "docker "
	}
	return ""
}

// named makes the decided Format of that name; nil when there is none.
func (a *auto) named(name string) *Format {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.made[name]; f != nil {
		return f
	}
	wrap, kind := wrapNone, name
	for _, w := range []wrapKind{wrapCRI, wrapDocker} {
		if rest, ok := strings.CutPrefix(name, w.prefix()); ok {
			wrap, kind = w, rest
		}
	}
	if a.wrap != wrapAny && a.wrap != wrap {
		return nil
	}
	parse := a.decidedParser(kind)
	if parse == nil {
		return nil
	}
	c := a.conf
	c.Kind, _, _ = strings.Cut(kind, " ")
	frame, err := c.framing()
	if err != nil {
		return nil
	}
	frame.Wrapper = wrap
	if wrap != wrapNone {
		frame.Encoding = ""
	}
	f := &Format{name: name, frame: frame, parse: parse}
	a.made[name] = f
	return f
}

// decidedParser returns what makes parsers of a kind that was decided on.
func (a *auto) decidedParser(kind string) func() Parser {
	if variant, ok := strings.CutPrefix(kind, "nginx "); ok {
		for _, known := range knownNginxFormats() {
			if known.name == variant {
				return a.parser("nginx", known.plan)
			}
		}
		return nil
	}
	switch kind {
	case "nginx-error":
		return a.parser(kind, nil)
	case "json", "logfmt", "app", "plain":
		if a.conf.Kind == "auto" {
			return a.parser(kind, nil)
		}
	}
	return nil
}

// sampled are the first events of a file.
type sampled struct {
	texts   [][]byte
	wrapper wrapKind
	torn    bool // there is no complete line yet
}

// maxSample is the number of events that a decision looks at, and sureSample the number
// that suffices when they agree.
const maxSample, sureSample = 64, 3

// sample cuts the first events out of a file, and out of their wrapper.
func (a *auto) sample(head []byte) sampled {
	if a.wrap != wrapAny {
		texts, _, torn := a.cut(head, a.wrap)
		return sampled{texts, a.wrap, torn}
	}
	for _, wrap := range []wrapKind{wrapCRI, wrapDocker} {
		texts, wrapped, torn := a.cut(head, wrap)
		if wrapped > 0 && wrapped*2 >= len(texts) { // damaged lines stand between them
			return sampled{texts, wrap, torn}
		}
	}
	texts, _, torn := a.cut(head, wrapNone)
	return sampled{texts, wrapNone, torn}
}

// cut returns copies of the first events, and how many had the wrapper. An event that the
// head does not hold to its end is left out, unless it is all there is.
func (a *auto) cut(head []byte, wrap wrapKind) (texts [][]byte, wrapped int, torn bool) {
	c := a.conf
	c.Kind = "app"
	o, err := c.framing()
	if err != nil {
		return nil, 0, false
	}
	if o.Wrapper = wrap; wrap != wrapNone {
		o.Encoding = ""
	}
	framer, err := newFramer(o)
	if err != nil {
		return nil, 0, false
	}
	look := &Look{Data: head, AtEnd: true, Flush: true, Now: time.Unix(0, 0)}
	for len(texts) < maxSample {
		ev, ok := framer.Next(look)
		if !ok || ev.Partial && len(texts) > 0 {
			break
		}
		torn = ev.Partial
		if len(bytes.TrimSpace(ev.Text)) == 0 {
			continue
		}
		texts = append(texts, bytes.Clone(ev.Text))
		if ev.Stream != record.StreamNone {
			wrapped++
		}
	}
	return texts, wrapped, torn
}

// votes counts what events look like.
type votes struct {
	json, access, nginxError, logfmt, app, all int
}

// decide names the format of what was sampled. A file is of a format when most of its
// events are: banners, dumps and traces that stand between them do not fool it.
func (a *auto) decide(s sampled) (name string, sure bool) {
	v, access := a.vote(s.texts)
	nginx := v.access + v.nginxError
	var most int
	switch {
	case a.conf.Kind == "nginx" && v.access == 0:
		return "nginx-error", false
	case v.access > 0 && (nginx*2 >= v.all || a.conf.Kind == "nginx"):
		name, most = "nginx "+chooseNginx(access), nginx
	case v.json*2 >= v.all:
		name, most = "json", v.json
	case v.nginxError*2 >= v.all:
		// A server that has just started has written no access line yet.
		return "nginx-error", v.all == maxSample
	case v.logfmt*2 >= v.all:
		name, most = "logfmt", v.logfmt
	case v.app == 0 && v.all >= maxSample/2 && v.json+nginx+v.logfmt == 0:
		return "plain", true
	default:
		name, most = "app", v.app
		if most*2 < v.all {
			return name, v.all == maxSample
		}
	}
	return name, v.all >= 3*sureSample || v.all >= sureSample && most == v.all
}

// vote looks at each event for itself.
func (a *auto) vote(texts [][]byte) (v votes, access [][]byte) {
	jsonLines, logfmt, app := newJSON(a.conf.JSON, a.conf.Zone), newLogfmt(a.conf.Zone), newApp(a.conf.Zone)
	r := new(record.Record)
	fits := func(p Parser, text []byte) bool {
		r.Reset()
		p.Parse(text, r)
		return r.ParseError == ""
	}
	for _, text := range texts {
		v.all++
		switch {
		case looksLikeJSON(text) && (text[1] == '"' || fits(jsonLines, text)):
			v.json++ // broken or not: text that merely begins with a brace seldom goes on with a quote
		case looksLikeAccess(text):
			v.access++
			access = append(access, text)
		case looksLikeNginxError(text):
			v.nginxError++
		case looksLikeLogfmt(text) && fits(logfmt, text) && (r.HasTime || r.Level != record.LevelNone):
			v.logfmt++
		case fits(app, text) && (r.HasTime || r.Level != record.LevelNone):
			v.app++
		}
	}
	return v, access
}

// chooseNginx names the known format that most of the lines fit.
func chooseNginx(lines [][]byte) string {
	const enough = 20
	lines = lines[:min(len(lines), enough)]
	best, bestRest := "", ""
	most, mostRest := 0, 0
	r := new(record.Record)
	for _, known := range knownNginxFormats() {
		p, count := newNginxAccess(known.plan), 0
		for _, line := range lines {
			r.Reset()
			if p.Parse(line, r); plausible(r) {
				count++
			}
		}
		if count == len(lines) {
			return known.name
		}
		switch {
		case known.rest && count > mostRest:
			bestRest, mostRest = known.name, count
		case !known.rest && count > most:
			best, most = known.name, count
		}
	}
	switch {
	case most == 0 && mostRest == 0:
		return "combined"
	case most*5 >= mostRest*4:
		return best
	}
	return bestRest
}

func looksLikeJSON(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 4 && text[0] == '{' && text[len(text)-1] == '}'
}

// looksLikeNginxError tells whether a line has the head of nginx's error log, down to the
// process and thread.
func looksLikeNginxError(text []byte) bool {
	const timeLen = len("2026/11/23 20:00:00 [")
	if len(text) < timeLen || text[4] != '/' || text[7] != '/' || text[13] != ':' || text[timeLen-1] != '[' {
		return false
	}
	i := bytes.IndexByte(text, ']')
	if i < 0 || i+2 >= len(text) || text[i+1] != ' ' {
		return false
	}
	text = text[i+2:]
	pid := digitsEnd(text)
	return pid > 0 && pid+1 < len(text) && text[pid] == '#' && isDigit(text[pid+1])
}

// looksLikeLogfmt tells whether a line begins with a key and its value.
func looksLikeLogfmt(text []byte) bool {
	i := bytes.IndexAny(text, "= \"")
	return i > 0 && text[i] == '=' && i+1 < len(text)
}
