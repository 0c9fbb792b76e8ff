package main

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestCommandsThatAreNotThereFail: a script that has a typo in it must not go on.
func TestCommandsThatAreNotThereFail(t *testing.T) {
	for line, want := range map[string]string{
		"silence ad rule=slow": `unknown command "ad" for "tailwater silence"`,
		"dead lst":             `unknown command "lst" for "tailwater dead"`,
		"alert":                `unknown command "alert" for "tailwater"`,
		"silence expire":       "0 arguments do not fit; write tailwater silence expire ID",
		"silence add":          "0 arguments do not fit; write tailwater silence add MATCHER...",
		"backtest -c x.yaml":   "0 arguments do not fit; write tailwater backtest -c FILE LOGFILE...",
		"try -c x.yaml a b":    "2 arguments do not fit; write tailwater try -c FILE [LOGFILE]",
	} {
		c := root()
		c.SetArgs(strings.Fields(line))
		c.SetOut(io.Discard)
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tailwater %s: %v, want %s", line, err, want)
		}
	}
	for _, line := range []string{"silence", "dead", "dead --help", ""} {
		c := root()
		c.SetArgs(strings.Fields(line))
		var help strings.Builder
		c.SetOut(&help)
		if err := c.Execute(); err != nil || !strings.Contains(help.String(), "Available Commands") {
			t.Errorf("tailwater %s: %v, %s", line, err, help.String())
		}
	}
}

// A machine's log said "again_in":5000000000, which no operator reads as five seconds.
func TestDurationsInTheLogAreReadable(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: readableDuration})).Warn("x", "again_in", 5*time.Second, "n", 7)
	if got := b.String(); !strings.Contains(got, `"again_in":"5s","n":7`) {
		t.Error(got)
	}
}
