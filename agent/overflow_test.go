package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

func TestGroupsBeyondTheLimitAreNamedInTheLog(t *testing.T) {
	rule, err := alert.Compile(alert.RuleConfig{Name: "errors", Per: []string{"project"}, When: "error >= 10", MaxGroups: 2})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	al := &alerts{agent: &Agent{log: slog.New(slog.NewTextHandler(&log, nil))}}
	al.engine = alert.New([]*alert.Rule{rule}, time.Now, func(alert.Event) {})
	line := new(record.Record)
	line.Reset()
	line.Level = record.LevelError
	write := func(project string) {
		tap := al.engine.Tap(project, "apps", false, record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Input: "apps", Project: project}))
		defer tap.Close()
		tap.Observe(line, time.Now().UnixMilli(), nil)
		tap.Flush(record.Pos{}, true)
	}
	now := time.Now()
	write("p0")
	write("p1")
	al.tellOverflows(now)
	if log.Len() > 0 {
		t.Errorf("without reason: %s", &log)
	}
	write("p2")
	al.tellOverflows(now.Add(overflowEvery / 2))
	al.tellOverflows(now.Add(overflowEvery))
	al.tellOverflows(now.Add(2 * overflowEvery))
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "lines=1 such_as=\"[project=p2]\"") {
		t.Errorf("%s", text)
	}
	for i := range 3 {
		write(fmt.Sprint("p", i+3))
	}
	al.tellOverflows(now.Add(3 * overflowEvery))
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "lines=4") {
		t.Errorf("%s", text)
	}
}
