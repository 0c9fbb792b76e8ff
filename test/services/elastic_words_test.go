package services

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/sink/elastic"
)

// says waits until the output is down and its error says that.
func (l *line) says(what string) {
	l.t.Helper()
	pollFor(l.t, 40*time.Second, "the output to say "+what, func() error {
		if s := l.deliverer.State(); s.Up || !strings.Contains(s.LastError, what) || strings.Contains(s.LastError, "\n") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// fresh is a name that no run before has had.
func fresh(name string) string { return fmt.Sprint(name, "-", rand.Uint32()) }

// An index whose primary shard may be nowhere is red, and with it the cluster. Its
// documents wait, those of other indexes do not.
func TestElasticsearchIndexIsRed(t *testing.T) {
	es := plainServer()
	const where = `{"index.routing.allocation.require._name":%s}`
	red, green := newFile(fresh("red"), "a"), newFile(fresh("green"), "a")
	index := "/logs-" + red.origin.Project
	es.do(t, "PUT", index+"?wait_for_active_shards=0", fmt.Sprintf(`{"settings":`+where+`}`, `"nobody"`))
	if health := es.do(t, "GET", "/_cluster/health"+index+"?filter_path=status", ""); !strings.Contains(string(health), "red") {
		t.Fatalf("the index is not red: %s", health)
	}
	s := elasticSink(t, func(c *elastic.Config) { c.Index = "logs-{project}" })
	l := newLine(t, s)
	l.put(red.block(50))
	l.says("the index is red: GET _cluster/allocation/explain")
	l.put(green.block(50))
	pollFor(t, 60*time.Second, "the documents of another index", func() error {
		es.do(t, "POST", "/logs-"+green.origin.Project+"*/_refresh", "")
		got, err := es.try(t.Context(), "GET", "/logs-"+green.origin.Project+"*/_count?filter_path=count", "")
		if err == nil && got != `{"count":50}` {
			err = fmt.Errorf("%s of 50", got)
		}
		return err
	})
	es.do(t, "PUT", index+"/_settings", fmt.Sprintf(where, "null"))
	l.finish()
	if n := len(l.letters()); n > 0 {
		t.Errorf("%d documents were parked", n)
	}
	es.verify(t, index[1:], nil, red)
	es.verify(t, "logs-"+green.origin.Project, nil, green)
}

// Without a template the types of fields are guessed, which nobody notices until it is
// too late: it is said once, and not any more when there is one.
func TestElasticsearchIndexesHaveNoTemplate(t *testing.T) {
	said, name := make(chan string, 10), fresh("untyped")
	open := func() *elastic.Sink {
		return elasticSink(t, func(c *elastic.Config) {
			c.Name, c.Index = "search", name+"-{project}-{date}"
			c.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
				said <- string(p)
				return len(p), nil
			}), nil))
		})
	}
	s, f := open(), newFile("words", "a")
	for range 3 {
		mustTake(t, s, batch(5, f))
	}
	select {
	case text := <-said:
		for _, want := range []string{"level=WARN", "no template", "tailwater setup -c FILE", "output=search", name + "-words-"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q: %s", want, text)
			}
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was said")
	}
	if err := s.Setup(t.Context(), name, func(string) {}); err != nil {
		t.Fatal(err)
	}
	next := open()
	mustTake(t, next, batch(5, f))
	if err := next.Close(); err != nil { // it waits for the look
		t.Fatal(err)
	}
	if len(said) > 0 {
		t.Errorf("said again: %s", <-said)
	}
}

// An alias that is not there is not made by writing to it.
func TestElasticsearchAliasIsMissing(t *testing.T) {
	alias := fresh("rolling")
	s := elasticSink(t, func(c *elastic.Config) { c.Index, c.Target = alias, elastic.ToAlias })
	l, f := newLine(t, s), newFile("rolling", "a")
	l.put(f.block(20))
	l.says("run tailwater setup")
	if err := s.Setup(t.Context(), alias, func(string) {}); err != nil {
		t.Fatal(err)
	}
	l.finish()
	es := plainServer()
	es.do(t, "POST", "/"+alias+"/_refresh", "")
	if got := es.do(t, "GET", "/"+alias+"-000001/_count?filter_path=count", ""); string(got) != `{"count":20}` {
		t.Errorf("behind the alias are %s of 20", got)
	}
}
