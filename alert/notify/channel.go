package notify

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// Channel sends messages to people. One goroutine at a time uses it.
type Channel interface {
	// Send tries once. An error that is ErrRefused says that the message will never be
	// taken; after any other it is sent again. Errors hold no address and no secret,
	// as both give access to the channel.
	Send(ctx context.Context, m *Message) error
}

// Keeper is a Channel whose receiver forgets an incident unless it is told again and
// again that it goes on.
type Keeper interface {
	// Keep tells what is firing; it is called once a minute.
	Keep(ctx context.Context, firing []Item) error
}

// ErrRefused marks the answer that the message itself cannot be taken.
var ErrRefused = errors.New("refused")

// Later is an error after which the receiver wants to be left alone for a while.
type Later struct {
	Err   error
	After time.Duration
}

// Error returns the text of Err.
func (e *Later) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Later) Unwrap() error { return e.Err }

// Bare takes the address out of an error of net/http: it may hold a token.
func Bare(err error) error {
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
