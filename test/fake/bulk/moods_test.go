package bulk

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/queue"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/elastic"
	"github.com/tailwater/tailwater/test/rig"
)

// output is an Elasticsearch output as the agent runs it.
type output struct {
	t         *testing.T
	queue     *queue.Memory
	deliverer *sink.Deliverer
	deadDir   string
	ended     chan error
	put       int // documents

	mu     sync.Mutex
	blocks int // not done
	counts counts
}

// counts are what the deliverer's meter was told.
type counts struct {
	delivered, parked int
	failed            map[string]int
}

func (o *output) Delivered(lines, _ int) { o.count(func(c *counts) { c.delivered += lines }) }
func (o *output) Failed(reason string, _ int) {
	o.count(func(c *counts) { c.failed[reason]++ })
}
func (o *output) Parked(_ string, lines int) { o.count(func(c *counts) { c.parked += lines }) }

func (o *output) count(f func(*counts)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.counts)
}

func open(t *testing.T, change func(*elastic.Config), urls ...string) *output {
	t.Helper()
	c := elastic.Config{URLs: urls, Index: "logs-{project}", Timeout: 30 * time.Second}
	if change != nil {
		change(&c)
	}
	s, err := elastic.New(c)
	if err != nil {
		t.Fatal(err)
	}
	o := &output{t: t, queue: queue.New(16<<20, nil), deadDir: filepath.Join(t.TempDir(), "dead"), ended: make(chan error, 1)}
	o.counts.failed = make(map[string]int)
	log := slog.New(slog.DiscardHandler)
	o.deliverer = sink.NewDeliverer(sink.DeliverConfig{Name: "es", Sink: s, Queue: o.queue, Meter: o, Log: log, MaxBatchBytes: 64 << 10,
		Dead: sink.NewDeadLetters(sink.DeadConfig{Dir: o.deadDir, Log: log})})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { o.ended <- o.deliverer.Run(ctx) }()
	t.Cleanup(func() { cancel(); s.Close() })
	return o
}

// send puts a block with n documents of a project, whose ids are m-PROJECT-0 and so on.
func (o *output) send(project string, from, n int) {
	origin := record.NewOrigin(record.OriginFields{Machine: "m", Generation: project, Project: project})
	b := record.NewBlock(nil, nil, nil)
	r := new(record.Record)
	for i := range n {
		r.Reset()
		r.Put("message", fmt.Appendf(nil, "line %d %s", from+i, strings.Repeat("x", 100)), record.Text)
		b.Append(origin, r, time.Now().UnixMilli(), true, int64(from+i))
	}
	o.mu.Lock()
	o.blocks++
	o.mu.Unlock()
	o.put += n
	o.queue.Put(record.Parcel{Block: b, Done: func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.blocks--
	}})
}

// finish waits until all is delivered or parked, and checks that each document counts
// once.
func (o *output) finish() counts {
	o.t.Helper()
	o.settle()
	o.queue.Close()
	if err := <-o.ended; err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts.delivered+o.counts.parked != o.put || o.blocks != 0 {
		o.t.Errorf("of %d documents %d are delivered and %d parked; %d blocks are open", o.put, o.counts.delivered, o.counts.parked, o.blocks)
	}
	return o.counts
}

// settle waits until nothing is under way, without hurrying anybody.
func (o *output) settle() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	if err := rig.Poll(ctx, "all deliveries", func() error {
		if n := o.queue.Lines(); n > 0 {
			return fmt.Errorf("%d documents are under way: %+v", n, o.deliverer.State())
		}
		return nil
	}); err != nil {
		o.t.Fatal(err)
	}
}

// await waits until the deliverer's state is so.
func (o *output) await(what string, so func(sink.State) bool) sink.State {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 30*time.Second)
	defer cancel()
	var s sink.State
	if err := rig.Poll(ctx, what, func() error {
		if s = o.deliverer.State(); !so(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}); err != nil {
		o.t.Fatal(err)
	}
	return s
}

func start(t *testing.T) *Server {
	s := New()
	t.Cleanup(s.Close)
	return s
}

// stored checks that the server has documents 0 to n-1 of the project.
func (s *Server) stored(t *testing.T, project string, n int, but ...int) {
	t.Helper()
	docs := s.Docs()
	excused := make(map[int]bool)
	for _, i := range but {
		excused[i] = true
	}
	for i := range n {
		if doc, ok := docs[fmt.Sprintf("logs-%s/m-%s-%d", project, project, i)]; ok == excused[i] || ok && !strings.Contains(doc, fmt.Sprintf("line %d ", i)) {
			t.Fatalf("document %d of %s: stored %v: %s", i, project, ok, doc)
		}
	}
}

// TestAThirdOfTheDocumentsIsPutOff: a busy server takes two thirds of what one project
// sends, for a while; the other project's documents do not wait for that.
func TestAThirdOfTheDocumentsIsPutOff(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := start(t)
			var mu sync.Mutex
			refused := make(map[string]int)
			rng := rand.New(rand.NewPCG(1, uint64(status)))
			s.Set(Mood{Item: func(id, _ string) (int, string) {
				mu.Lock()
				defer mu.Unlock()
				if strings.Contains(id, "busy") && rng.IntN(100) < 30 {
					refused[id]++
					return status, "es_rejected_execution_exception"
				}
				return 0, ""
			}})
			o := open(t, nil, s.URL)
			const rounds, each = 40, 100
			var sentAt []time.Time
			for i := range rounds {
				sentAt = append(sentAt, time.Now())
				o.send("busy", i*each, each)
				o.send("calm", i*each, each)
				time.Sleep(10 * time.Millisecond) // the pace of the source
			}
			c := o.finish()
			s.stored(t, "busy", rounds*each)
			s.stored(t, "calm", rounds*each)
			payload := int64(0)
			for _, doc := range s.Docs() {
				payload += int64(len(doc)) + 60 // with its action line
			}
			if _, bytes := s.Seen(); float64(bytes) > 1.6*float64(payload) {
				t.Errorf("%d bytes were sent for %d", bytes, payload)
			}
			for i := range rounds * each {
				for _, project := range []string{"busy", "calm"} {
					id := fmt.Sprintf("m-%s-%d", project, i)
					if times := s.Sent(id); times != 1+refused[id] {
						t.Fatalf("%s came %d times, it was put off %d times", id, times, refused[id])
					}
				}
				if waited := s.StoredAt(fmt.Sprintf("m-calm-%d", i)).Sub(sentAt[i/each]); waited > time.Second {
					t.Errorf("document %d that nobody put off waited %v", i, waited)
				}
			}
			if len(refused) == 0 || c.failed[map[int]string{429: "overloaded", 503: "unavailable"}[status]] == 0 {
				t.Errorf("nothing was put off: %v", c.failed)
			}
		})
	}
}

// TestRequestsAreRefusedForLoad: the waits grow, and no request comes right after
// another.
func TestRequestsAreRefusedForLoad(t *testing.T) {
	s := start(t)
	s.Set(Mood{Request: func(n int) int {
		if n <= 4 {
			return http.StatusTooManyRequests
		}
		return 0
	}})
	o := open(t, nil, s.URL)
	o.send("a", 0, 10)
	o.settle()
	at, _ := s.Seen()
	for i := 1; i < len(at); i++ {
		if gap := at[i].Sub(at[i-1]); gap < 90*time.Millisecond {
			t.Errorf("request %d came %v after the one before", i+1, gap)
		}
	}
	if len(at) != 5 {
		t.Errorf("%d requests", len(at))
	}
	if c := o.finish(); c.failed["overloaded"] != 4 {
		t.Errorf("%v", c.failed)
	}
	if state := o.deliverer.State(); !state.Up || !strings.Contains(state.LastError, "too much to do") {
		t.Errorf("%+v", state)
	}
	s.stored(t, "a", 10)
}

func TestAnswersAreLostAfterEverythingWasStored(t *testing.T) {
	s := start(t)
	s.Set(Mood{LoseAnswer: func(n int) bool { return n%3 != 0 }})
	o := open(t, nil, s.URL)
	for i := range 20 {
		o.send("a", i*50, 50)
	}
	o.finish()
	s.stored(t, "a", 1000)
	if n := len(s.Docs()); n != 1000 {
		t.Errorf("%d documents are stored", n)
	}
}

func TestOneBadDocumentInAThousand(t *testing.T) {
	s := start(t)
	const bad = 617
	s.Set(Mood{Item: func(id, _ string) (int, string) {
		if id == fmt.Sprint("m-a-", bad) {
			return http.StatusBadRequest, "mapper_parsing_exception"
		}
		return 0, ""
	}})
	o := open(t, nil, s.URL)
	for i := range 10 {
		o.send("a", i*100, 100)
	}
	o.send("next", 0, 100)
	if c := o.finish(); c.parked != 1 || len(c.failed) != 0 {
		t.Errorf("%+v", c)
	}
	s.stored(t, "a", 1000, bad)
	s.stored(t, "next", 100)
	for i := range 1000 {
		if n := s.Sent(fmt.Sprint("m-a-", i)); n != 1 {
			t.Fatalf("document %d was sent %d times", i, n)
		}
	}
	letters := 0
	if _, err := sink.EachLetter(o.deadDir, sink.Pick{}, func(l *sink.Letter) error {
		letters++
		if l.ID != fmt.Sprint("m-a-", bad) || l.Reason != "mapper_parsing_exception" || !strings.Contains(l.Detail, "as the test wants") {
			t.Errorf("%+v", l)
		}
		return nil
	}); err != nil || letters != 1 {
		t.Errorf("%d letters, %v", letters, err)
	}
}

type item map[string]map[string]any

// changed changes the items of an answer.
func changed(change func([]item) []item) func([]byte) []byte {
	return func(body []byte) []byte {
		var answer struct {
			Errors bool   `json:"errors"`
			Items  []item `json:"items"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			panic(err)
		}
		answer.Items = change(answer.Items)
		body, _ = json.Marshal(answer)
		return body
	}
}

// TestAnswersThatSayNothing: whatever is no answer for each document counts as none,
// and nothing as delivered.
func TestAnswersThatSayNothing(t *testing.T) {
	for name, answer := range map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"no items":        func([]byte) []byte { return []byte(`{}`) },
		"empty items":     func([]byte) []byte { return []byte(`{"errors":false,"items":[]}`) },
		"a login page":    func([]byte) []byte { return []byte(`<html><body>please log in</body></html>`) },
		"half":            func(b []byte) []byte { return b[:len(b)/2] },
		"one item less":   changed(func(items []item) []item { return items[1:] }),
		"one item more":   changed(func(items []item) []item { return append(items, items[0]) }),
		"another action":  changed(func(items []item) []item { items[3] = item{"index": items[3]["create"]}; return items }),
		"without status":  changed(func(items []item) []item { delete(items[3]["create"], "status"); return items }),
		"status in words": changed(func(items []item) []item { items[3]["create"]["status"] = "created"; return items }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Set(Mood{Answer: answer})
			o := open(t, nil, s.URL)
			o.send("a", 0, 20)
			state := o.await("the output to say so", func(s sink.State) bool { return s.Failures >= 2 })
			if strings.Contains(state.LastError, "\n") || !strings.Contains(state.LastError, "sent again") {
				t.Errorf("it says %q", state.LastError)
			}
			if o.queue.Lines() != 20 {
				t.Errorf("%d of 20 documents are kept", o.queue.Lines())
			}
			s.Set(Mood{})
			if c := o.finish(); c.delivered != 20 || c.failed["answer_lost"] == 0 {
				t.Errorf("%+v", c)
			}
			s.stored(t, "a", 20)
		})
	}
}

func TestCompressedBothWays(t *testing.T) {
	s := start(t)
	s.Set(Mood{Gzip: true})
	o := open(t, func(c *elastic.Config) { c.Gzip = true }, s.URL)
	o.send("a", 0, 500)
	if c := o.finish(); len(c.failed) != 0 {
		t.Errorf("%v", c.failed)
	}
	s.stored(t, "a", 500)
}

// TestANodeIsDown: its share goes to the others at once, and nobody is told of an
// outage. When it answers again, it gets its share.
func TestANodeIsDown(t *testing.T) {
	well, down := start(t), New()
	down.Close()
	o := open(t, nil, down.URL, well.URL)
	for i := range 20 {
		o.send("a", i*50, 50)
		if i%5 == 4 {
			o.settle()
		}
	}
	if c := o.finish(); len(c.failed) != 0 {
		t.Errorf("%v: %+v", c.failed, o.deliverer.State())
	}
	well.stored(t, "a", 1000)
}

func TestASlowNodeIsOneOfSeveral(t *testing.T) {
	slow, quick := start(t), start(t)
	slow.Set(Mood{Delay: 200 * time.Millisecond})
	o := open(t, nil, slow.URL, quick.URL)
	for i := range 60 {
		o.send("a", i*50, 50)
		o.queue.Room()
		time.Sleep(time.Millisecond)
	}
	if c := o.finish(); len(c.failed) != 0 {
		t.Errorf("%v", c.failed)
	}
	fromSlow, fromQuick := slow.Docs(), quick.Docs()
	if len(fromSlow) == 0 || len(fromQuick) == 0 || len(fromSlow)+len(fromQuick) != 3000 {
		t.Errorf("%d documents on the slow node, %d on the other", len(fromSlow), len(fromQuick))
	}
}

// TestAServerThatNeverAnswers: the try ends at the timeout, and all is delivered once
// when it answers again.
func TestAServerThatNeverAnswers(t *testing.T) {
	s := start(t)
	s.Set(Mood{Hang: true})
	o := open(t, func(c *elastic.Config) { c.Timeout = 300 * time.Millisecond }, s.URL)
	o.send("a", 0, 100)
	state := o.await("the timeout", func(s sink.State) bool { return !s.Up })
	if !strings.Contains(state.LastError, "no answer within 300ms") {
		t.Errorf("it says %q", state.LastError)
	}
	s.Set(Mood{})
	o.finish()
	s.stored(t, "a", 100)
}
