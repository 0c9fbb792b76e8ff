package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestSecondInstanceIsToldWhoTheFirstIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	release, err := Acquire(expired(), dir)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = Acquire(expired(), dir)
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Pid != os.Getpid() {
		t.Fatalf("got %v", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v to say so", d)
	}
	release()
	release, err = Acquire(expired(), dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	release()
}

func TestRollingUpdateWaitsForTheOldInstance(t *testing.T) {
	dir := t.TempDir()
	release, err := Acquire(expired(), dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		again, err := Acquire(ctx, dir)
		if err == nil {
			again()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(3 * retryEvery):
	}
	release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}
