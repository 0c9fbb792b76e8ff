package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/tailwater/tailwater/internal/backoff"
)

const (
	// fallbackAfter is how long a notice may wait for a channel that fails.
	fallbackAfter = time.Minute
	// abandonAfter is how long a channel is tried for one notice.
	abandonAfter = 24 * time.Hour
	// keepEvery is how often a Keeper is told what goes on.
	keepEvery = time.Minute
	// sendTimeout bounds one try.
	sendTimeout = 20 * time.Second
	// mostItems bounds one message.
	mostItems = 100
)

var retries = backoff.Policy{First: time.Second, Cap: 30 * time.Second}

// lane sends to one channel what is due there.
type lane struct {
	d       *Dispatcher
	name    string
	channel Channel
	keeper  Keeper // the channel, if it is one
	wake    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}

	// The Dispatcher's mu guards these.
	fallback string
	beat     time.Duration // 0: never
	failures int           // in a row
	pacer    pacer

	// The rest is the goroutine's own.
	retryAt time.Time
	keepAt  time.Time
	beatAt  time.Time // when the last heartbeat was tried
}

func newLane(d *Dispatcher, name string, c Channel) *lane {
	l := &lane{d: d, name: name, channel: c, wake: make(chan struct{}, 1)}
	l.keeper, _ = c.(Keeper)
	l.pacer.pace = ForPeople
	if paced, ok := c.(Paced); ok {
		l.pacer.pace = paced.Pace()
	}
	return l
}

func (l *lane) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// start begins to send, unless it has been done.
func (l *lane) start() {
	if l.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		l.run(ctx)
	}()
}

// stop ends the goroutine and waits for it.
func (l *lane) stop() {
	if l.cancel != nil {
		l.cancel()
		<-l.done
	}
}

func (l *lane) run(ctx context.Context) {
	l.keepAt = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(l.step(ctx)))
	}
}

// step does what is to be done now, and returns when there will be something again.
func (l *lane) step(ctx context.Context) time.Time {
	now := time.Now()
	at := l.plan(now)
	if !at.IsZero() && !at.After(now) {
		l.send(ctx, now)
		return time.Now() // to look again
	}
	next := now.Add(time.Hour)
	if !at.IsZero() {
		next = at
	}
	if l.keeper != nil {
		if !now.Before(l.keepAt) {
			l.keepAt = now.Add(keepEvery)
			l.keep(ctx)
		}
		next = earlier(next, l.keepAt)
	}
	if at := l.heartbeat(ctx, now); !at.IsZero() {
		next = earlier(next, at)
	}
	if at := l.fallBack(now); !at.IsZero() {
		next = earlier(next, at)
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// plan returns when the next message is to be sent; the zero time when nothing is due.
func (l *lane) plan(now time.Time) time.Time {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	var first time.Time
	for _, n := range l.d.notices {
		if s := n.Sent[l.name]; s != nil && s.State == Waiting {
			first = s.At
			break
		}
	}
	switch {
	case first.IsZero():
		return first
	case l.failures > 0:
		return l.retryAt
	case l.d.closing:
		return now
	}
	return l.pacer.next(first)
}

// send sends one message with what is due, and notes the answer.
func (l *lane) send(ctx context.Context, now time.Time) {
	notices, m := l.gather()
	defer l.landed(notices)
	if err := l.d.Persist(); err != nil {
		l.d.log.Error("alert state", "error", err)
	}
	err := l.attempt(ctx, func(ctx context.Context) error { return l.channel.Send(ctx, m) })
	if err != nil && ctx.Err() != nil {
		return // stopped meanwhile: it stays due
	}
	if errors.Is(err, ErrRefused) && len(notices) > 1 {
		// One of them spoils the others: they are tried one by one.
		notices = notices[:1]
		err = l.attempt(ctx, func(ctx context.Context) error { return l.channel.Send(ctx, l.message(notices)) })
	}
	l.answered(notices, err, now)
	if err := l.d.Persist(); err != nil {
		l.d.log.Error("alert state", "error", err)
	}
}

// attempt bounds one call of the channel, and takes a panic for an error.
func (l *lane) attempt(ctx context.Context, call func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the channel panicked; this is a bug in tailwater")
			why := fmt.Sprintf("%T", r) // its text may hold an address
			if e, ok := r.(runtime.Error); ok {
				why = e.Error()
			}
			l.d.log.Error("channel panicked", "channel", l.name, "panic", why)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, sendTimeout, errors.New("no answer within "+sendTimeout.String()))
	defer cancel()
	err = call(ctx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// gather takes what is due, the oldest first.
func (l *lane) gather() ([]*Notice, *Message) {
	l.d.mu.Lock()
	var notices []*Notice
	for _, n := range l.d.notices {
		if s := n.Sent[l.name]; s != nil && s.State == Waiting {
			if n.Report != nil && len(notices) > 0 {
				break // a report comes alone
			}
			s.underWay = true
			if notices = append(notices, n); len(notices) == mostItems || n.Report != nil {
				break
			}
		}
	}
	l.d.mu.Unlock()
	return notices, l.message(notices)
}

// message puts notices into one message.
func (l *lane) message(notices []*Notice) *Message {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	m := &Message{Host: l.d.host}
	for _, n := range notices {
		switch {
		case n.Item != nil:
			m.Items = append(m.Items, *n.Item)
		case n.Report != nil:
			m.Report = n.Report
		default:
			m.Texts = append(m.Texts, n.Text)
		}
		if s := n.Sent[l.name]; s.For != "" && !slices.Contains(m.Instead, s.For) {
			m.Instead = append(m.Instead, s.For)
		}
	}
	return m
}

// landed notes that nothing is under way any more.
func (l *lane) landed(notices []*Notice) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	for _, n := range notices {
		n.Sent[l.name].underWay = false
	}
	l.d.tellNews()
}

// answered notes what became of the notices.
func (l *lane) answered(notices []*Notice, err error, began time.Time) {
	now := time.Now()
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	defer l.d.tellNews()
	switch {
	case err == nil:
		l.failures = 0
		l.pacer.left(now, len(notices) == mostItems)
		l.settle(notices, Delivered, "", now)
	case errors.Is(err, ErrRefused):
		l.failures = 0
		l.pacer.left(now, false)
		l.settle(notices, Refused, err.Error(), now)
		told := l.handOn(notices)
		l.d.log.Error("notice refused; it is not sent again", "channel", l.name, "error", err, "notices", len(notices), "fallback", l.fallback, "told", told)
	default:
		l.failures++
		wait := retries.Delay(l.failures)
		if later := (*Later)(nil); errors.As(err, &later) {
			wait = max(wait, later.After)
		}
		l.retryAt = now.Add(wait)
		l.d.counts[[2]string{l.name, "retried"}] += uint64(len(notices))
		for _, n := range notices {
			n.Sent[l.name].Error = err.Error()
			l.d.mark(n.key())
			if began.Sub(n.At) > abandonAfter {
				l.settle([]*Notice{n}, Abandoned, err.Error(), now)
			}
		}
		l.d.log.Warn("notices not delivered; they are tried again", "channel", l.name, "error", err, "notices", len(notices), "again_in", wait.Round(time.Millisecond))
	}
}

// settle gives the notices their final state on the channel.
func (l *lane) settle(notices []*Notice, state State, why string, now time.Time) {
	for _, n := range notices {
		s := n.Sent[l.name]
		s.State, s.At, s.Error = state, now.UTC(), why
		l.d.mark(n.key())
	}
	l.d.counts[[2]string{l.name, string(state)}] += uint64(len(notices))
}

// handOn makes the notices due on the fallback.
func (l *lane) handOn(notices []*Notice) (told int) {
	for _, n := range notices {
		if l.fallback != "" && l.d.due(n, l.fallback, l.name) {
			told++
		}
	}
	if told > 0 {
		l.d.counts[[2]string{l.name, "fallback"}] += uint64(told)
	}
	return told
}

// fallBack hands on what has waited too long for a channel that fails, and returns
// when there will be more of that; the zero time for never.
func (l *lane) fallBack(now time.Time) (next time.Time) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.failures == 0 || l.fallback == "" {
		return next
	}
	var overdue []*Notice
	for _, n := range l.d.notices {
		s := n.Sent[l.name]
		if s == nil || s.State != Waiting || n.Sent[l.fallback] != nil {
			continue
		}
		if at := s.At.Add(fallbackAfter); at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		} else {
			overdue = append(overdue, n)
		}
	}
	if told := l.handOn(overdue); told > 0 {
		l.d.log.Warn("channel does not deliver; its fallback is told", "channel", l.name, "fallback", l.fallback, "notices", told)
	}
	return next
}

// keep tells a Keeper what goes on. What fails is done again in the next round.
func (l *lane) keep(ctx context.Context) {
	firing := l.d.firing(l.name)
	if len(firing) == 0 {
		return
	}
	if err := l.attempt(ctx, func(ctx context.Context) error { return l.keeper.Keep(ctx, firing) }); err != nil && ctx.Err() == nil {
		l.d.log.Warn("what fires could not be kept alive; it is tried again", "channel", l.name, "error", err, "again_in", keepEvery)
	}
}
