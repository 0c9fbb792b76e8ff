package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A machine's log said "again_in":5000000000, which no operator reads as five seconds.
func TestDurationsInTheLogAreReadable(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: readableDuration})).Warn("x", "again_in", 5*time.Second, "n", 7)
	if got := b.String(); !strings.Contains(got, `"again_in":"5s","n":7`) {
		t.Error(got)
	}
}
