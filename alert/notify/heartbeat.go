package notify

import (
	"context"
	"errors"
	"time"
)

// ErrStarting is what Rules.Alive says before the rules were evaluated for the first time: it
// is too soon for a heartbeat, and none is missed.
var ErrStarting = errors.New("the rules were not evaluated yet")

// Heartbeat says that the rules are evaluated and that notices get through. Who gets it
// regularly raises the alarm when it stops: nobody else can tell that the alerts are
// dead.
type Heartbeat struct {
	At time.Time `json:"at"`
	// Every is how soon the next one follows.
	Every time.Duration `json:"every"`
}

// heartbeat tells the channel that the alerts are alive, if it is time and they are, and
// returns when it will be time again; the zero time for never. What fails is not sent
// again: the next one is more recent.
func (l *lane) heartbeat(ctx context.Context, now time.Time) (next time.Time) {
	l.d.mu.Lock()
	every, alive, closing := l.beat, l.d.rules.Alive, l.d.closing
	l.d.mu.Unlock()
	if every <= 0 || closing {
		return next
	}
	if at := l.beatAt.Add(every); now.Before(at) {
		return at
	}
	if alive != nil && errors.Is(alive(), ErrStarting) {
		return now.Add(time.Second)
	}
	l.beatAt = now
	result := "heartbeat"
	if err := l.beatOnce(ctx, alive, Heartbeat{At: now.UTC(), Every: every}); err != nil && ctx.Err() == nil {
		result = "heartbeat_missed"
		l.d.log.Error("no heartbeat was given", "channel", l.name, "error", err, "again_in", every)
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.d.counts[[2]string{l.name, result}]++
	return now.Add(every)
}

func (l *lane) beatOnce(ctx context.Context, alive func() error, h Heartbeat) error {
	if alive != nil {
		if err := alive(); err != nil {
			return err
		}
	}
	if err := l.d.Persist(); err != nil {
		return err
	}
	return l.attempt(ctx, func(ctx context.Context) error {
		return l.channel.Send(ctx, &Message{Host: l.d.host, Heartbeat: &h})
	})
}
