package report

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// Config is a report as it stands in the configuration.
type Config struct {
	Name string
	// Inputs, Count and Per say what is counted; see alert.SelectorConfig.
	Inputs []string
	Count  string
	Per    []string
	// At is when it is sent, as the time since midnight by the clocks of Zone.
	At   time.Duration
	Zone *time.Location
	// Over is the number of lines of a group and day above which somebody is told at
	// once; 0: nobody is.
	Over int64
	// MaxGroups bounds the groups of a day.
	MaxGroups int
	// Labels are constant labels of the notices.
	Labels map[string]string
	// Notify are the channels; none: all.
	Notify []string
	// Fleet says that lines are counted over all hosts, and that evaluators tell.
	Fleet bool
}

// Report is a compiled report. It does not change.
type Report struct {
	cfg         Config
	selector    *alert.Selector
	fingerprint string
}

// New compiles a report. The error holds an *alert.Error for each mistake, joined.
func New(cfg Config) (*Report, error) {
	s, err := alert.NewSelector(alert.SelectorConfig{Name: cfg.Name, Inputs: cfg.Inputs, Count: cfg.Count, Per: cfg.Per})
	if cfg.Zone == nil {
		err = errors.Join(err, &alert.Error{Rule: cfg.Name, Key: "zone", Text: "a report needs a zone"})
	}
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "1 %q %q %q %q", slices.Sorted(slices.Values(cfg.Inputs)), s.String(), cfg.Per, cfg.Zone)
	return &Report{cfg: cfg, selector: s, fingerprint: hex.EncodeToString(h.Sum(nil)[:8])}, nil
}

// Identity names what the report counts, for all whose configurations count the same.
func (r *Report) Identity() string { return "report/" + r.cfg.Name + ":" + r.fingerprint }

// Config returns what the report was made of.
func (r *Report) Config() Config { return r.cfg }

// Watches tells whether lines of that input may count; kafka says whether the input is
// of that kind.
func (r *Report) Watches(input string, kafka bool) bool { return r.selector.Watches(input, kafka) }

// due is when the report over a day is sent: on the day after, and not before the last
// lines of the day can have been read.
func (r *Report) due(d Day) time.Time {
	at := (d + 1).at(r.cfg.Zone, r.cfg.At)
	if ended := (d + 1).at(r.cfg.Zone, 0).Add(settle); at.Before(ended) {
		return ended
	}
	return at
}
