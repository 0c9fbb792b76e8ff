package quietlog

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestARepeatingErrorIsCountedAndNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(New(slog.NewTextHandler(&out, nil)))
		for i := range 100 {
			log.Error("disk full", "file", "a", "bytes", i)
			log.Error("disk full", "file", "b", "bytes", i)
			log.Info("all is well")
		}
		if n := strings.Count(out.String(), "disk full"); n != 2 {
			t.Errorf("%d lines for two files", n)
		}
		if n := strings.Count(out.String(), "all is well"); n != 100 {
			t.Errorf("%d of 100 informations", n)
		}
		time.Sleep(Every)
		log.Error("disk full", "file", "a")
		if !strings.Contains(out.String(), "repeated=99") {
			t.Errorf("not counted: %s", out.String())
		}
	})
}

func TestAThousandSubjectsDoNotFillTheMemory(t *testing.T) {
	h := New(slog.NewTextHandler(new(bytes.Buffer), nil)).(*handler)
	log := slog.New(h)
	for i := range 10 * maxKnown {
		log.Warn("unreadable", "file", strconv.Itoa(i))
	}
	if n := len(h.known); n > maxKnown {
		t.Errorf("%d subjects are known", n)
	}
}
