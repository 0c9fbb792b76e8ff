package fleet

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/internal/backoff"
)

// Silencer keeps a process's silences. Its methods do not wait.
type Silencer interface {
	// AllSilences are those whose time is not over, also those that were ended by hand.
	AllSilences() []notify.Silence
	// MergeSilence takes what another process says of one.
	MergeSilence(s notify.Silence)
}

// SilencesConfig is what Silences need.
type SilencesConfig struct {
	Log      Log
	Silencer Silencer
	// Sweeps says that the process takes records away whose time is over.
	Sweeps bool
	Logger *slog.Logger
}

// Silences makes the silences of each process those of the fleet. They are in the first
// partition of the topic of states, each under its ID. A silence only ever changes from
// one that holds to one that was ended by hand, so that it does not matter in which order,
// and how often, processes hear of it.
type Silences struct {
	cfg      SilencesConfig
	offset   int64 // of the next record; -1: from the beginning
	caughtUp bool  // all that there was has been read
	there    map[string]notify.Silence
}

const (
	silencePrefix = "silence/"
	// silencesEvery is how often it is looked whether there are new ones.
	silencesEvery = time.Second
)

// NewSilences returns Silences that Run starts.
func NewSilences(c SilencesConfig) *Silences {
	return &Silences{cfg: c, offset: -1, there: make(map[string]notify.Silence)}
}

// Run takes part until ctx ends.
func (s *Silences) Run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		err := s.round(ctx)
		if err == nil {
			failures = 0
			continue
		}
		failures++
		if failures > 3 {
			s.offset, s.caughtUp = -1, false // the topic may be another one
			clear(s.there)
		}
		if failures == 3 && ctx.Err() == nil {
			s.cfg.Logger.Warn("silences do not reach the fleet, nor those of others this process; it is tried again", "error", err)
		}
		backoff.Sleep(ctx, backoff.Policy{First: silencesEvery, Cap: 10 * time.Second}.Delay(failures))
	}
}

// round reads what others say and writes what they do not know.
func (s *Silences) round(ctx context.Context) error {
	if s.offset < 0 {
		if _, err := s.cfg.Log.Open(ctx); err != nil {
			return err
		}
		from, err := s.cfg.Log.Since(ctx, States, 0, time.Time{})
		if err != nil {
			return err
		}
		s.offset = from
	}
	records, end, err := s.cfg.Log.Read(ctx, States, 0, s.offset, silencesEvery)
	if err != nil {
		return err
	}
	for i := range records {
		s.hear(&records[i])
	}
	s.caughtUp = s.caughtUp || s.offset >= end
	if !s.caughtUp {
		return nil
	}
	return s.tell(ctx)
}

func (s *Silences) hear(r *Record) {
	s.offset = r.Offset + 1
	id, ok := strings.CutPrefix(string(r.Key), silencePrefix)
	if !ok {
		return
	}
	var one notify.Silence
	if len(r.Value) == 0 {
		delete(s.there, id)
	} else if json.Unmarshal(r.Value, &one) == nil && one.ID == id {
		one.Expired = one.Expired || s.there[id].Expired
		s.there[id] = one
		s.cfg.Silencer.MergeSilence(one)
	}
}

// tell writes the silences that are not there, or not as ended as here.
func (s *Silences) tell(ctx context.Context) error {
	var records []Record
	for _, one := range s.cfg.Silencer.AllSilences() {
		there, known := s.there[one.ID]
		if known && (there.Expired || !one.Expired) {
			continue
		}
		value, err := json.Marshal(one)
		if err != nil {
			return err
		}
		records = append(records, Record{Key: []byte(silencePrefix + one.ID), Value: value})
		s.there[one.ID] = one
	}
	for id, one := range s.there {
		if s.cfg.Sweeps && time.Since(one.Until) > time.Minute { // clocks differ
			records = append(records, Record{Key: []byte(silencePrefix + id)})
			delete(s.there, id)
		}
	}
	if len(records) == 0 {
		return nil
	}
	err := appendAll(ctx, s.cfg.Log, States, 0, records)
	if err != nil {
		s.offset, s.caughtUp = -1, false // what is there is not known
		clear(s.there)
	}
	return err
}
