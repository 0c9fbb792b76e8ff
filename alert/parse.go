package alert

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// maxDepth bounds the nesting of parentheses and nots, and with it the stack.
const maxDepth = 64

// node is the syntax of a condition: and, or, not over comparisons of terms.
type node struct {
	kind nodeKind
	kids []*node
	cmp  comparison // of a leaf
}

type nodeKind uint8

const (
	nodeLeaf nodeKind = iota
	nodeAnd
	nodeOr
	nodeNot
)

// fn is the function of a term.
type fn uint8

const (
	fnCount fn = iota
	fnShare
	fnRate
	fnQuantile
	fnMax
	fnAvg
)

// comparison is `count(level == "error") >= 10`.
type comparison struct {
	fn      fn
	name    string // of the function
	percent int    // of fnQuantile
	pred    *pred  // of count, share and rate; nil: every line
	field   field  // of the others
	op      op
	limit   float64
	unit    unit
}

type function struct {
	fn      fn
	percent int
}

var functions = map[string]function{
	"count": {fnCount, 0}, "share": {fnShare, 0}, "rate": {fnRate, 0},
	"p50": {fnQuantile, 50}, "p90": {fnQuantile, 90}, "p95": {fnQuantile, 95}, "p99": {fnQuantile, 99},
	"max": {fnMax, 0}, "avg": {fnAvg, 0},
}

type exprParser struct {
	tokens []token
	depth  int
}

// parseWhen reads the condition of a rule.
func parseWhen(src string) (*node, error) {
	p, err := newExprParser(src)
	if err != nil {
		return nil, err
	}
	n, err := p.any(p.comparison)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, wrong(t.at, "%s does not go on with %s; join conditions with and, or", "the condition", t.show())
	}
	return n, nil
}

// parsePredicate reads a predicate over one line, as in `where`.
func parsePredicate(src string) (*pred, error) {
	p, err := newExprParser(src)
	if err != nil {
		return nil, err
	}
	n, err := p.predicate()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, wrong(t.at, "the predicate does not go on with %s; join comparisons with and, or", t.show())
	}
	return n, nil
}

func newExprParser(src string) (*exprParser, error) {
	tokens, err := lex(src)
	return &exprParser{tokens: tokens}, err
}

func (p *exprParser) peek() token { return p.tokens[0] }

func (p *exprParser) next() token {
	t := p.tokens[0]
	if t.kind != tokenEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

// word takes the next token when it is that word.
func (p *exprParser) word(w string) bool {
	if t := p.peek(); t.kind == tokenWord && t.text == w {
		p.next()
		return true
	}
	return false
}

func (p *exprParser) deeper(at int) error {
	if p.depth++; p.depth > maxDepth {
		return wrong(at, "more than %d levels of parentheses", maxDepth)
	}
	return nil
}

func (t token) show() string {
	if t.kind == tokenEnd {
		return "the end"
	}
	return strconv.Quote(t.text)
}

// any reads `x and y or not (z)` over leaves that leaf reads.
func (p *exprParser) any(leaf func() (*node, error)) (*node, error) {
	return p.joined(nodeOr, "or", func() (*node, error) {
		return p.joined(nodeAnd, "and", func() (*node, error) { return p.negated(leaf) })
	})
}

func (p *exprParser) joined(kind nodeKind, word string, part func() (*node, error)) (*node, error) {
	first, err := part()
	if err != nil {
		return nil, err
	}
	all := &node{kind: kind, kids: []*node{first}}
	for p.word(word) {
		n, err := part()
		if err != nil {
			return nil, err
		}
		all.kids = append(all.kids, n)
	}
	if len(all.kids) == 1 {
		return first, nil
	}
	return all, nil
}

func (p *exprParser) negated(leaf func() (*node, error)) (*node, error) {
	at := p.peek().at
	if err := p.deeper(at); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.word("not") {
		n, err := p.negated(leaf)
		return &node{kind: nodeNot, kids: []*node{n}}, err
	}
	if p.peek().kind != tokenOpen {
		return leaf()
	}
	p.next()
	n, err := p.any(leaf)
	if err != nil {
		return nil, err
	}
	return n, p.closing(at)
}

func (p *exprParser) closing(open int) error {
	if t := p.next(); t.kind != tokenClose {
		return wrong(t.at, "expected ) before %s", t.show())
	}
	return nil
}

// comparison reads `count(PRED) >= 10`, `error >= 10`, `p99(FIELD) > 1s`.
func (p *exprParser) comparison() (*node, error) {
	t := p.next()
	if t.kind != tokenWord || t.text == "and" || t.text == "or" {
		return nil, wrong(t.at, "expected a term such as count(..) or error, not %s", t.show())
	}
	cmp, err := p.term(t)
	if err != nil {
		return nil, err
	}
	o := p.next()
	if o.kind != tokenOp || o.text == "=~" {
		return nil, wrong(o.at, "%s is a number: compare it, as in %s >= 10", cmp.name, cmp.show())
	}
	cmp.op = opNamed(o.text)
	limit := p.next()
	if limit.kind != tokenNumber {
		return nil, wrong(limit.at, "expected a number after %s, not %s", o.text, limit.show())
	}
	cmp.limit, cmp.unit = limit.num, limit.unit
	return &node{cmp: cmp}, cmp.checkLimit(limit)
}

func opNamed(text string) op {
	for i, name := range opNames {
		if name == text {
			return op(i)
		}
	}
	panic("alert: no operator " + text) // the lexer knows no other
}

func (p *exprParser) term(t token) (comparison, error) {
	f, known := functions[t.text]
	if !known {
		if l, ok := record.LevelNamed(t.text); ok {
			return comparison{fn: fnCount, name: t.text, pred: levelPred(opEq, l)}, p.noParenthesis(t)
		}
		return comparison{}, unknownTerm(t, p.peek().kind == tokenOpen)
	}
	cmp := comparison{fn: f.fn, name: t.text, percent: f.percent}
	if o := p.next(); o.kind != tokenOpen {
		return cmp, wrong(o.at, "%s needs parentheses: %s", t.text, cmp.example())
	}
	if cmp.fn <= fnRate {
		if p.peek().kind == tokenClose {
			p.next()
			if cmp.fn == fnShare {
				return cmp, wrong(t.at, "share needs a predicate: %s", cmp.example())
			}
			return cmp, nil
		}
		pr, err := p.predicate()
		if err != nil {
			return cmp, err
		}
		cmp.pred = pr
		return cmp, p.closing(t.at)
	}
	name := p.next()
	if name.kind != tokenWord && name.kind != tokenField {
		return cmp, wrong(name.at, "%s needs one field: %s", t.text, cmp.example())
	}
	cmp.field = newField(name.text)
	if s := cmp.field.slot; s == slotLevel || s >= slotParseError {
		return cmp, wrong(name.at, "%s is not a number", name.text)
	}
	return cmp, p.closing(t.at)
}

func (p *exprParser) noParenthesis(t token) error {
	if o := p.peek(); o.kind == tokenOpen {
		return wrong(o.at, "%s is a number already; write %s >= 10, or count(level == %q and ..)", t.text, t.text, t.text)
	}
	return nil
}

func unknownTerm(t token, called bool) error {
	names := append(make([]string, 0, 16), "count", "share", "rate", "p50", "p90", "p95", "p99", "max", "avg")
	what := "function"
	if !called {
		what = "term"
		names = append(names, "debug", "info", "warn", "error", "fatal", "and", "or", "not")
	}
	if near := nearest(strings.ToLower(t.text), names); near != "" {
		return wrong(t.at, "unknown %s %q, did you mean %s?", what, t.text, near)
	}
	return wrong(t.at, "unknown %s %q; known are count, share, rate, p50, p90, p95, p99, max, avg and the levels debug, info, warn, error, fatal", what, t.text)
}

func (c *comparison) example() string {
	switch {
	case c.fn <= fnRate:
		return c.name + "(status_code >= 500)"
	default:
		return c.name + "(request_time)"
	}
}

// show writes the term as the user would.
func (c *comparison) show() string {
	switch {
	case c.name != "" && functions[c.name].fn != c.fn || c.fn == fnCount && c.name != "count":
		return c.name
	case c.fn <= fnRate && c.pred == nil:
		return c.name + "()"
	case c.fn <= fnRate:
		return c.name + "(" + c.pred.text + ")"
	}
	return c.name + "(" + c.field.show() + ")"
}

// checkLimit refuses what can never mean anything.
func (c *comparison) checkLimit(t token) error {
	switch {
	case c.fn == fnShare && t.unit > unitPercent || c.fn == fnShare && (t.num < 0 || t.num > 1):
		return wrong(t.at, "share is between 0%% and 100%%; write %s%%", strconv.FormatFloat(t.num, 'g', -1, 64))
	case c.fn == fnCount && t.unit != unitNone, c.fn == fnRate && t.unit != unitNone:
		return wrong(t.at, "%s is a plain number of lines, without a unit", c.name)
	case c.percent > 0 && (t.num < 0 || t.num > largestValue):
		return wrong(t.at, "a percentile is of numbers from 0 to 1e15; compare max(%[1]s), avg(%[1]s) or count(%[1]s > ..)", c.field.show())
	case c.field.slot == slotStatus && t.unit != unitNone:
		return wrong(t.at, "status_code is a plain number, without a unit")
	case (c.field.slot == slotRequestTime || c.field.slot == slotUpstreamTime) && (t.unit == unitBytes || t.unit == unitPercent):
		return wrong(t.at, "%s is a time; write 1s or 500ms", c.field.name)
	}
	return nil
}

// predicate reads comparisons of fields, joined by and, or, not.
func (p *exprParser) predicate() (*pred, error) {
	return p.predJoined(predOr, "or", func() (*pred, error) {
		return p.predJoined(predAnd, "and", p.predNegated)
	})
}

func (p *exprParser) predJoined(kind predKind, word string, part func() (*pred, error)) (*pred, error) {
	left, err := part()
	for err == nil && p.word(word) {
		var right *pred
		if right, err = part(); err == nil {
			text := left.inner(kind) + " " + word + " " + right.inner(kind)
			left = &pred{kind: kind, a: left, b: right, text: text}
		}
	}
	return left, err
}

// inner is the predicate's text as a part of a larger one.
func (p *pred) inner(of predKind) string {
	if p.kind == predOr && of != predOr {
		return "(" + p.text + ")"
	}
	return p.text
}

func (p *exprParser) predNegated() (*pred, error) {
	at := p.peek().at
	if err := p.deeper(at); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.word("not") {
		a, err := p.predNegated()
		if err != nil {
			return nil, err
		}
		return &pred{kind: predNot, a: a, text: "not (" + a.text + ")"}, nil
	}
	if p.peek().kind != tokenOpen {
		return p.predLeaf()
	}
	p.next()
	a, err := p.predicate()
	if err != nil {
		return nil, err
	}
	return a, p.closing(at)
}

// unreachable are the document's fields that rules do not see.
var unreachable = map[string]string{"id": "", "offset": "", "@timestamp": ""}

func (p *exprParser) predLeaf() (*pred, error) {
	name := p.next()
	if name.kind != tokenWord && name.kind != tokenField {
		return nil, wrong(name.at, "expected a field, not %s", name.show())
	}
	if _, never := unreachable[name.text]; never && name.kind == tokenWord {
		return nil, wrong(name.at, "%s names one line; a rule cannot compare it", name.text)
	}
	f := newField(name.text)
	o := p.next()
	if o.kind != tokenOp {
		return nil, wrong(o.at, "expected a comparison of %s, as in %s", name.text, f.example())
	}
	v := p.next()
	if v.kind != tokenNumber && v.kind != tokenText && v.kind != tokenWord {
		return nil, wrong(v.at, "expected a value to compare %s with, not %s", name.text, v.show())
	}
	pr, err := newPred(f, opNamed(o.text), v)
	if err != nil {
		return nil, err
	}
	pr.text = pr.show(v)
	return pr, nil
}

func (f *field) example() string {
	switch f.slot {
	case slotLevel:
		return `level == "error"`
	case slotStatus:
		return "status_code >= 500"
	case slotRequestTime, slotUpstreamTime:
		return f.name + " > 1s"
	}
	return f.show() + ` == "text"`
}

func newPred(f field, o op, v token) (*pred, error) {
	p := &pred{field: f, op: o}
	switch {
	case o == opMatch:
		re, err := regexp.Compile(v.text)
		if err != nil || v.kind == tokenNumber {
			return nil, wrong(v.at, "%s is not a regular expression: %s", v.show(), regexpProblem(err))
		}
		p.kind, p.re = predMatch, re
	case f.slot == slotLevel:
		l, known := record.LevelNamed(v.text)
		if !known {
			return nil, wrong(v.at, "no level is called %s; %s", v.show(), suggestLevel(v.text))
		}
		return levelPred(o, l), nil
	case v.kind == tokenNumber:
		p.kind, p.num = predNumber, v.num
	case f.slot == slotStatus || f.slot == slotRequestTime || f.slot == slotUpstreamTime:
		num, ok := parseNumber([]byte(v.text))
		if !ok {
			return nil, wrong(v.at, "%s is a number; write %s", f.name, f.example())
		}
		p.kind, p.num = predNumber, num
	case o == opEq || o == opNe:
		p.kind, p.str = predText, []byte(v.text)
	default:
		return nil, wrong(v.at, "%s compares numbers, and %s is none; text can be compared with == != =~", o, v.show())
	}
	return p, nil
}

func regexpProblem(err error) string {
	if err == nil {
		return "put it in quotes"
	}
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

func suggestLevel(text string) string {
	names := []string{"debug", "info", "warn", "error", "fatal"}
	if near := nearest(strings.ToLower(text), names); near != "" {
		return "did you mean " + near + "?"
	}
	return "levels are " + strings.Join(names, ", ")
}

func levelPred(o op, l record.Level) *pred {
	return &pred{kind: predLevel, op: o, level: l, field: newField("level"), text: fmt.Sprintf("level %s %q", o, l)}
}

// show writes the comparison as the parser reads it.
func (p *pred) show(v token) string {
	value := v.text
	switch {
	case p.kind == predLevel:
		return p.text
	case p.kind == predNumber && v.kind == tokenNumber:
	default:
		value = quoteText(v.text)
	}
	return p.field.show() + " " + p.op.String() + " " + value
}

// quoteText writes text as unquote reads it.
func quoteText(s string) string {
	if !strings.ContainsAny(s, `'`) {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// show writes the field's name as the parser reads it.
func (f *field) show() string {
	if t, err := lex(f.name); err == nil && len(t) == 2 && t[0].kind == tokenWord && t[0].text == f.name {
		return f.name
	}
	return "`" + f.name + "`"
}
