package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/sink"
)

// DeadDir is where the dead letters of a state directory are.
func DeadDir(state string) string { return filepath.Join(state, "dead") }

// ParseSince reads how far back letters are meant: a duration before now such as 2h or
// 7d, a time in RFC 3339, or a day. "" is the zero time.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := units.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("since: %q is neither a duration such as 2h or 7d nor a time such as 2026-11-23T20:00:00Z", text)
	}
	return now.Add(-d), nil
}

// pickOf reads what letters a request means.
func pickOf(r *http.Request) (sink.Pick, error) {
	since, err := ParseSince(r.FormValue("since"), time.Now())
	return sink.Pick{Output: r.FormValue("output"), Reason: r.FormValue("reason"), ID: r.FormValue("id"), Since: since}, err
}

// serveDead tells the dead letters, one a line.
func (a *Agent) serveDead(w http.ResponseWriter, r *http.Request) {
	pick, err := pickOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	if _, err := sink.EachLetter(a.dead.Dir, pick, func(l *sink.Letter) error { return out.Encode(l) }); err != nil {
		a.log.Warn("dead letters could not be told", "error", err) // the client is gone, or the disk in trouble
	}
}

// replays are the replays of dead letters: one of each output at a time.
type replays struct {
	mu      sync.Mutex
	running map[string]*replay
}

// replay is one that has begun. It goes on when nobody waits for it any more.
type replay struct {
	*sink.Replay
	ended chan struct{}
	err   error // when it has ended
}

// serveReplay sends letters again and tells what became of them within the timeout.
func (a *Agent) serveReplay(w http.ResponseWriter, r *http.Request) {
	pick, err := pickOf(r)
	var timeout time.Duration
	if err == nil {
		timeout, err = time.ParseDuration(r.FormValue("timeout"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	only, err := withLetters(a.config(), pick.Output)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	began := []*replay{}
	for _, out := range a.allOutputs() {
		if only.Output(out.name) == nil {
			continue
		}
		of := pick
		of.Output = out.name
		rp, err := a.replays.begin(out, of)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		began = append(began, rp)
	}
	serveJSON(w, http.StatusOK, awaitReplays(ctx, began))
}

// awaitReplays tells how far the replays have come when they, or ctx, have ended.
func awaitReplays(ctx context.Context, began []*replay) []sink.Replayed {
	all := []sink.Replayed{}
	for _, rp := range began {
		select {
		case <-rp.ended:
		case <-ctx.Done():
		}
		s := rp.State()
		if isDone(rp.ended) && rp.err != nil {
			s.Trouble = rp.err.Error()
		}
		all = append(all, s)
	}
	return all
}

func isDone(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// begin starts a replay, unless one runs: a second one would send the same letters.
func (r *replays) begin(out *output, pick sink.Pick) (*replay, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[out.name] != nil {
		return nil, fmt.Errorf("output %s: its dead letters are being sent again already; wait for that", out.name)
	}
	rp := &replay{ended: make(chan struct{}), Replay: out.agent.dead.NewReplay(pick, out.agent.routeKeys(), out.putParcel)}
	if r.running == nil {
		r.running = make(map[string]*replay)
	}
	r.running[out.name] = rp
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		<-out.stopped
		cancel(errors.New("the output has ended; what has no answer yet stays a dead letter"))
	}()
	go func() {
		if rp.err = rp.Run(ctx); rp.err != nil {
			out.agent.log.Error("dead letters could not all be sent again", "output", out.name, "error", rp.err)
		}
		cancel(nil)
		r.mu.Lock()
		delete(r.running, out.name)
		r.mu.Unlock()
		close(rp.ended)
	}()
	return rp, nil
}

// ReplayDead sends the dead letters of a state directory whose agent does not run,
// through outputs of their own, and tells what became of them before ctx ended. Of o,
// Config and Log are needed. The caller holds the directory's lock.
func ReplayDead(ctx context.Context, o Options, pick sink.Pick) (all []sink.Replayed, err error) {
	a := newAgent(o)
	if a.cfg, err = withLetters(o.Config, pick.Output); err != nil {
		return nil, err
	}
	if a.journal, err = journal.Open(a.cfg.State, "checkpoint", a.log); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.journal.Close()) }()
	a.openDead()
	outputs, err := a.newOutputs(a.cfg)
	if err != nil {
		return nil, err
	}
	a.use(a.cfg, nil, outputs)
	var began []*replay
	for _, out := range outputs {
		of := pick
		of.Output = out.name
		rp, _ := a.replays.begin(out, of) // nobody else has
		began = append(began, rp)
	}
	awaitReplays(ctx, began)
	finishAll(ctx, outputs)
	all = awaitReplays(context.Background(), began) // they end with their outputs
	a.commitOutputs()
	err = a.journal.Commit(a.unsaved)
	for _, out := range outputs {
		out.close()
	}
	return all, errors.Join(err, a.dead.Close())
}

// withLetters is the configuration with only the output of that name, or with "" those
// that have letters.
func withLetters(cfg *config.Config, name string) (*config.Config, error) {
	letters, err := sink.ListLetters(DeadDir(cfg.State))
	if err != nil {
		return nil, err
	}
	only := *cfg
	only.Outputs = slices.DeleteFunc(slices.Clone(cfg.Outputs), func(c *config.Output) bool {
		if name != "" {
			return c.Name != name
		}
		return !slices.ContainsFunc(letters, func(f sink.LetterFile) bool { return f.Output == c.Name })
	})
	if name == "" || len(only.Outputs) > 0 {
		return &only, nil
	}
	var known []string
	for _, c := range cfg.Outputs {
		known = append(known, c.Name)
	}
	return nil, fmt.Errorf("there is no output %q; known ones: %s", name, strings.Join(known, ", "))
}

// wait returns when the replays have ended, which they do with their outputs.
func (r *replays) wait() {
	r.mu.Lock()
	running := slices.Collect(maps.Values(r.running))
	r.mu.Unlock()
	for _, rp := range running {
		<-rp.ended
	}
}

// openDead makes the store of dead letters ready.
func (a *Agent) openDead() {
	a.dead = sink.NewDeadLetters(sink.DeadConfig{Dir: DeadDir(a.cfg.State), Log: a.log, Dropped: a.metrics.droppedLetters})
}
