package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/tailwater/tailwater/sink"
)

const (
	saveEvery = time.Second
	// firstSave is after what time the first one is written, and each after twice the time
	// of the one before until it is saveEvery: an agent that is killed again and again
	// soon after its start gets on all the same.
	firstSave = 100 * time.Millisecond
	// promptSave is how soon one follows a delivery, when there was none for saveEvery: what
	// comes now and then is not sent again, or lost with its file, after a kill.
	promptSave = 20 * time.Millisecond
	// holdFor is how long a checkpoint waits for an output to be between two writes.
	holdFor = 10 * time.Second
	// saveSpacing keeps blocks that wait for a checkpoint from asking the disk for
	// more than a few of them a second.
	saveSpacing = 50 * time.Millisecond
)

// saver knows which checkpoints are on disk and who waits for the next.
type saver struct {
	mu      sync.Mutex
	begun   uint64
	done    uint64
	waiting []*flow
	kick    chan struct{}
	news    chan struct{} // something was delivered
}

func newSaver() *saver {
	return &saver{kick: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

// delivered says that there is something to be saved.
func (s *saver) delivered() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// next is the number of the first checkpoint that is sure to hold what was said so
// far.
func (s *saver) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun + 1
}

// saved reports whether that checkpoint is on disk.
func (s *saver) saved(n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done >= n
}

// request asks for a checkpoint soon, after which f is to run.
func (s *saver) request(f *flow) {
	s.mu.Lock()
	s.waiting = append(s.waiting, f)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// loop saves each second, sooner after the start and after a pause, and at once when a
// block waits for it.
func (s *saver) loop(ctx context.Context, save func()) {
	every := firstSave
	tick := time.NewTimer(every)
	defer tick.Stop()
	var last, busy time.Time  // the last one, and the last with deliveries
	var soon <-chan time.Time // when the next with deliveries is due
	news := s.news            // nil while that is known: each delivery would wake this up
	for {
		select {
		case <-ctx.Done():
			return
		case <-news:
			soon, news = time.After(max(promptSave, saveEvery-time.Since(busy))), nil
			continue
		case <-soon:
			tick.Reset(every)
		case <-tick.C:
			every = min(2*every, saveEvery)
			tick.Reset(every)
		case <-s.kick:
			select {
			case <-ctx.Done():
				return
			case <-time.After(saveSpacing - time.Since(last)):
			}
		}
		delivered := soon != nil
		select {
		case <-s.news: // it is in what is saved now
			delivered = true
		default:
		}
		save()
		last = time.Now()
		if delivered {
			busy = last
		}
		soon, news = nil, s.news
	}
}

// save writes the positions that have moved, and beside them, of the same moment,
// the state of the sinks whose deliveries are only final with it.
func (a *Agent) save() error {
	a.saving.Lock()
	defer a.saving.Unlock()
	s := a.saver
	s.mu.Lock()
	s.begun++
	number := s.begun
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()

	// The windows of the alerts are taken after the positions and come to disk with
	// them: what an output has is not read again, and would never be counted.
	committed := a.commitOutputs()
	for _, f := range a.allFlows() {
		if f.dirty.Swap(false) {
			f.file.SetProgress(f.progress())
		}
	}
	trims := a.checkpointSpools(a.unsaved)
	a.alerts.checkpoint(a.unsaved)
	for _, c := range a.allConsumers() {
		c.note(a.unsaved)
	}
	err := a.source.Save(a.unsaved)
	a.metrics.saved(err)
	if err != nil {
		a.log.Error("checkpoint not written; delivery goes on, but after a crash these lines would be sent again. Make room on the disk or mend it",
			"state", a.cfg.State, "error", err)
		s.mu.Lock()
		s.waiting = append(s.waiting, waiting...)
		s.mu.Unlock()
		return err
	}
	s.mu.Lock()
	s.done = number
	s.mu.Unlock()
	clear(a.unsaved)
	for _, c := range committed {
		c.Saved()
	}
	for _, f := range waiting {
		a.sched.wake(f)
	}
	a.trimSpools(trims)
	return nil
}

// commitOutputs has the sinks whose deliveries are only final with their own state
// make it durable, each at one moment with the positions of its output. The states
// stay in unsaved until a checkpoint holds them. An output that cannot commit keeps
// its last positions, and the others do not wait for it.
func (a *Agent) commitOutputs() (committed []sink.Committer) {
	for _, out := range a.allOutputs() {
		c, ok := out.sink.(sink.Committer)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), holdFor)
		c.Prepare() // the slow part, while deliveries go on
		var err error
		held := out.deliverer.Hold(ctx, func() {
			var state json.RawMessage
			if state, err = c.Commit(); err != nil {
				return
			}
			a.unsaved[commitKey(out.name)] = state
			for _, f := range a.allFlows() {
				f.committed(out)
			}
		})
		cancel()
		if err = cmp.Or(held, err); err != nil {
			a.log.Error("output cannot be committed; its positions stay where they are", "output", out.name, "error", err)
			continue
		}
		committed = append(committed, c)
	}
	return committed
}
