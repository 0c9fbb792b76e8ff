package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/fake/bulk"
	"github.com/tailwater/tailwater/test/rig"
)

// An indexer is drained while Elasticsearch is silent: it says what is left and goes on.
// Drained just after its start, before the group has given it anything to read, it
// delivers all there is first.
func TestADrainedIndexerHasDeliveredWhatThereIs(t *testing.T) {
	t.Parallel()
	topic := freshTopic(t, "drained")
	var words []string
	for i := range 500 {
		words = append(words, fmt.Sprint("word ", i))
	}
	say(t, topic, 0, words...)
	es := bulk.New()
	t.Cleanup(es.Close)
	es.Set(bulk.Mood{Hang: true})
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &rig.Home{Bin: bin, Dir: dir}
	if err := h.WriteConfig(fmt.Sprintf(`
shutdown_timeout: 2s
inputs: {relay: {kafka: {brokers: ['%s'], topics: [%s], group: %[2]s}}}
outputs: {search: {elasticsearch: {urls: ['%[3]s'], index: 'idx-{date}'}}}
`, servers.Brokers("KAFKA_BROKERS")[0], topic, es.URL)); err != nil {
		t.Fatal(err)
	}
	start := func() *rig.Agent {
		t.Helper()
		a, err := h.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Kill)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := a.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		return a
	}
	drain := func(timeout string) (code int, said string) {
		t.Helper()
		cmd := h.Command(t.Context(), "drain", "-c", h.Config(), "--timeout", timeout)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		var failed *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	status := func() string {
		t.Helper()
		out, err := h.Command(t.Context(), "status", "-c", h.Config()).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	a := start()
	pollFor(t, 30*time.Second, "the lag in the status", func() error {
		if text := status(); !strings.Contains(text, "500 records") {
			return errors.New(text)
		}
		return nil
	})
	if code, said := drain("2s"); code != 3 || !strings.Contains(said, "kafka:"+topic+"/0\t500 records\n") || !a.Running() {
		t.Fatalf("code %d, %s", code, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code, err := a.Stop(ctx); code != 3 || err != nil {
		t.Fatalf("code %d, %v", code, err)
	}
	es.Set(bulk.Mood{})
	a = start()
	if code, said := drain("50s"); code != 0 {
		t.Fatalf("code %d, %s\n%s", code, said, h.LogTail())
	}
	if n := len(es.Docs()); n != 500 {
		t.Errorf("%d of 500 documents are there when it is drained", n)
	}
	if code, err := a.Wait(ctx); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}
