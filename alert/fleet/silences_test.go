package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
)

// drawer keeps records through restarts.
type drawer struct {
	mu      sync.Mutex
	records map[string]json.RawMessage
}

func (d *drawer) Commit(change map[string]json.RawMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, value := range change {
		if value == nil {
			delete(d.records, key)
		} else {
			d.records[key] = value
		}
	}
	return nil
}

func (d *drawer) Range(f func(key string, value []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, value := range d.records {
		f(key, value)
	}
}

// speaker is a process that shares its silences.
type speaker struct {
	*notify.Dispatcher
	broker *broker
	drawer drawer
	stop   context.CancelFunc
	ended  chan struct{}
}

func newSpeaker(b *broker) *speaker {
	s := &speaker{broker: b, drawer: drawer{records: make(map[string]json.RawMessage)}}
	s.start()
	return s
}

func (s *speaker) start() {
	s.Dispatcher = notify.New(notify.Options{Store: &s.drawer, Log: quiet()})
	share := NewSilences(SilencesConfig{Log: &port{broker: s.broker}, Silencer: s.Dispatcher, Sweeps: true, Logger: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.ended = stop, make(chan struct{})
	go func() {
		defer close(s.ended)
		share.Run(ctx)
	}()
}

func (s *speaker) end() {
	s.stop()
	<-s.ended
	s.Persist()
}

func (s *speaker) ids() (ids []string) {
	for _, one := range s.Silences() {
		ids = append(ids, one.ID)
	}
	slices.Sort(ids)
	return ids
}

func silenceFor(d time.Duration, rule string) notify.Silence {
	return notify.Silence{Matchers: []notify.Matcher{{Label: "rule", Op: "=", Value: rule}}, Author: "me", Until: time.Now().Add(d)}
}

// TestSilencesAreThoseOfAll: whatever happens to Kafka and to the processes meanwhile, in
// the end all know the silences that hold, and none that somebody has ended.
func TestSilencesAreThoseOfAll(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(uint64(seed), 3))
				b := newBroker(1 + rnd.IntN(3))
				all := []*speaker{newSpeaker(b), newSpeaker(b), newSpeaker(b)}
				holds := make(map[string]time.Time)
				for range 60 {
					s := all[rnd.IntN(len(all))]
					switch rnd.IntN(6) {
					case 0, 1:
						one, err := s.AddSilence(silenceFor(time.Duration(1+rnd.IntN(300))*time.Second, "slow"))
						if err != nil {
							t.Fatal(err)
						}
						holds[one.ID] = one.Until
					case 2:
						if ids := s.ids(); len(ids) > 0 {
							id := ids[rnd.IntN(len(ids))]
							s.ExpireSilence(id)
							delete(holds, id)
						}
					case 3:
						b.mu.Lock()
						b.down = rnd.IntN(2) == 0
						b.mu.Unlock()
					case 4:
						s.end()
						time.Sleep(time.Duration(rnd.IntN(5)) * time.Second)
						s.start()
					}
					time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
				}
				b.mu.Lock()
				b.down = false
				b.mu.Unlock()
				time.Sleep(15 * time.Second)
				maps.DeleteFunc(holds, func(_ string, until time.Time) bool { return !time.Now().Before(until) })
				want := slices.Sorted(maps.Keys(holds))
				for i, s := range all {
					if got := s.ids(); !slices.Equal(got, want) {
						t.Errorf("process %d has the silences %v, want %v", i, got, want)
					}
				}
				// When all are over nothing of them is left.
				time.Sleep(10 * time.Minute)
				for _, s := range all {
					s.end()
				}
				left := make(map[string]bool)
				for _, r := range b.topics[topicPartition{States, 0}] {
					left[string(r.Key)] = len(r.Value) > 0
				}
				for key, there := range left {
					if there {
						t.Errorf("%s is left", key)
					}
				}
			})
		})
	}
}

// What others write into the topic is no silence, and stays alone.
func TestSilencesAmongTheStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1)
		b.appendLocked(States, 0, []Record{{Key: []byte(positionKey), Value: []byte(`{"o":1}`)}, {Key: []byte("silence/x"), Value: []byte(`{`)}, {Key: []byte("silence/y"), Value: []byte(`{"id":"z"}`)}})
		one, two := newSpeaker(b), newSpeaker(b)
		s, err := one.AddSilence(silenceFor(time.Hour, "slow"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if got := two.ids(); !slices.Equal(got, []string{s.ID}) {
			t.Errorf("the other has %v", got)
		}
		one.end()
		two.end()
		var h handedOn
		h.groups = make(map[string]*groupState)
		for i := range b.topics[topicPartition{States, 0}] {
			if err := h.take(&b.topics[topicPartition{States, 0}][i]); err != nil {
				t.Error(err)
			}
		}
		if h.position == nil || len(h.groups) != 0 {
			t.Errorf("an evaluator that takes over reads %+v", h)
		}
	})
}
