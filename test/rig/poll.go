package rig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// final is an error that waiting does not cure.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// Final marks an error that Poll gives back at once.
func Final(err error) error { return final{err} }

// Poll calls look, first at once and then every few milliseconds, until it returns nil
// or a Final error, or ctx ends; the error then tells what look said last.
func Poll(ctx context.Context, what string, look func() error) error {
	wait := 2 * time.Millisecond
	for {
		err := look()
		if err == nil {
			return nil
		}
		var f final
		if errors.As(err, &f) {
			return fmt.Errorf("waiting for %s: %w", what, f.error)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		}
		wait = min(wait*3/2, 50*time.Millisecond)
	}
}
