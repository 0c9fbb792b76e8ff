package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

// BacktestResult says what a backtest has read.
type BacktestResult struct {
	Lines, Bytes int64
	// Untimed are lines before the first one with a time: they cannot be placed.
	Untimed int64
	// Future are lines from more than a day ahead of now. They do not count, and the rules'
	// clock, which is that of the lines, does not go there.
	Future int64
	// First and Last are the earliest and the latest time of a line.
	First, Last time.Time
	Rules       []alert.RuleStats
}

// Backtest runs the configuration's rules over old logs (also .gz), merged by the
// times of their lines, and calls emit for each notice that would have been given. An
// empty input is, for each file, the one whose globs match it, else the first. A file that
// cannot be read, or not to its end, is in the error, and the others count.
func Backtest(cfg *config.Config, input string, paths []string, emit func(*notify.Item)) (BacktestResult, error) {
	rules, err := compileRules(cfg)
	if err != nil {
		return BacktestResult{}, err
	}
	if len(rules) == 0 {
		return BacktestResult{}, errors.New("the configuration has no alerts to test")
	}
	byName := make(map[string]*alert.Rule)
	for _, r := range rules {
		byName[r.Name()] = r
	}
	b := &backtest{Backtest: alert.NewBacktest(rules, func(e alert.Event) {
		it := notify.NewItem(e.Kind, e.At, e.Incident, routeOf(byName[e.Incident.Rule], &e.Incident, cfg.Host))
		emit(&it)
	})}
	defer b.close()
	var bad []error
	for _, path := range paths {
		if err := b.open(cfg, input, path); err != nil {
			bad = append(bad, fmt.Errorf("backtest %s: %w", path, err))
		}
	}
	b.run()
	for _, o := range b.logs {
		if o.broken != nil {
			bad = append(bad, fmt.Errorf("backtest %s: %w", o.path, o.broken))
		}
	}
	b.Finish()
	b.result.Rules = b.Stats()
	return b.result, errors.Join(bad...)
}

// backtest is one run over old logs.
type backtest struct {
	*alert.Backtest
	logs   []*oldLog
	result BacktestResult
}

// oldLog is a file of which one event is read ahead.
type oldLog struct {
	sample
	path   string
	file   *os.File
	parser parser.Parser
	rec    record.Record
	tap    *alert.Tap
	event  parser.Event
	at     int64 // the event's time, 0 before any is known
	newest int64 // what is later than that, Unix ms, is from the future
	ended  bool
}

func (b *backtest) open(cfg *config.Config, input, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	in, err := tryInput(cfg, input, abs)
	if err != nil {
		return err
	}
	format, err := parser.Compile(in.ParserConfig())
	if err != nil {
		return err
	}
	o := &oldLog{path: path, newest: time.Now().Add(24 * time.Hour).UnixMilli()}
	if o.file, err = os.Open(path); err != nil {
		return errors.Unwrap(err)
	}
	if err := o.begin(o.file); err != nil {
		return errors.Join(err, o.file.Close())
	}
	format, _ = format.Detect(o.buf[:min(len(o.buf), 32<<10)])
	o.parser = format.NewParser()
	captures, _ := matches(in, abs, true)
	var origin *record.Origin
	origin, o.rec = tryOrigin(cfg, in, in.Project, abs, captures)
	o.tap = b.Tap(in.Name, in.Kind() == "kafka", origin)
	if o.framer, err = format.NewFramer(); err != nil {
		return errors.Join(err, o.file.Close())
	}
	o.framer.Reset(record.Pos{}, nil)
	b.logs = append(b.logs, o)
	b.advance(o)
	return nil
}

// advance reads the log's next event that can be placed in time.
func (b *backtest) advance(o *oldLog) {
	for {
		ev, ok := o.framer.Next(&o.look)
		if !ok {
			if o.look.AtEnd {
				o.ended = true
				b.result.Bytes += o.framer.Pos().Off
				return
			}
			o.fill()
			continue
		}
		o.event = ev
		o.rec.Reset()
		o.parser.Parse(ev.Text, &o.rec)
		o.rec.Partial, o.rec.Truncated = ev.Partial, ev.Truncated
		was := o.at
		switch {
		case o.rec.HasTime:
			o.at = o.rec.Time
		case ev.HasTime:
			o.at = ev.Time
		}
		b.result.Lines++
		switch {
		case o.at > o.newest:
			b.result.Future++
			o.at = was
		case o.at != 0:
			return
		default:
			b.result.Untimed++
		}
	}
}

// run shows the rules all events in the order of their times.
func (b *backtest) run() {
	for {
		var first *oldLog
		for _, o := range b.logs {
			if !o.ended && (first == nil || o.at < first.at) {
				first = o
			}
		}
		if first == nil {
			return
		}
		at := time.UnixMilli(first.at).UTC()
		if b.result.First.IsZero() || at.Before(b.result.First) {
			b.result.First = at
		}
		if at.After(b.result.Last) {
			b.result.Last = at
		}
		b.To(first.at)
		first.tap.Observe(&first.rec, first.at, first.event.Text)
		b.advance(first)
	}
}

func (b *backtest) close() {
	for _, o := range b.logs {
		o.file.Close()
	}
}
