package kafka

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestBatchesOfAPartitionFollowEachOtherWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.distance = 100 * time.Millisecond
		s := testSink(t, c)
		began := time.Now()
		allDelivered(t, ship(s, 1, 50, 30)) // of about 4 KiB each
		if took, alone := time.Since(began), 50*c.distance; took > alone/maxFlights*2 {
			t.Errorf("it took %v; one by one it would be about %v", took, alone)
		}
		c.verify(t, 1, 1500)
		s.Close()
	})
}

// Whatever becomes of those that are under way together: lost answers, moved leaders,
// lost producers, too large ones.
func TestManyUnderWayKeepTheirOrderThroughEverything(t *testing.T) {
	for seed := range uint64(16) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 7))
			c := newFakeCluster(t)
			c.distance = 30 * time.Millisecond
			c.mood = func(int, int, []string) (bool, error) {
				switch chance.IntN(12) {
				case 0: // with a producer lost before the answer comes again, it would be there twice
					return seed%2 == 0, errors.New("connection reset: stored perhaps, and the answer lost")
				case 1:
					return false, errors.New("connection reset: not stored")
				case 2:
					return false, kafka.NotLeaderForPartition
				case 3:
					if seed%2 == 1 {
						return false, kafka.InvalidProducerEpoch
					}
				}
				return true, nil
			}
			s := testSink(t, c)
			allDelivered(t, ship(s, 3, 25, 30))
			c.verify(t, 3, 750)
			s.Close()
		})
	}
}

func TestTheOneThatIsTooLargeIsFoundAmongManyUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.distance = 50 * time.Millisecond
		c.mood = func(_, _ int, values []string) (bool, error) {
			if slices.ContainsFunc(values, func(v string) bool { return bytes.Contains([]byte(v), []byte(`-file0-313"`)) }) {
				return false, kafka.MessageSizeTooLarge
			}
			return true, nil
		}
		s := testSink(t, c)
		refusals, total := 0, 0
		for _, r := range ship(s, 1, 30, 30) {
			refusals += len(r.Refused)
			if r.Err != nil || len(r.Retry) > 0 {
				t.Errorf("%+v", r)
			}
		}
		for _, v := range c.stored {
			total += len(v)
		}
		if refusals != 1 || total != 899 {
			t.Errorf("%d refused, %d of 899 stored", refusals, total)
		}
		s.Close()
	})
}

func TestWhatIsUnderWayAtTheEndIsAnsweredFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.distance = time.Second
		s := testSink(t, c)
		go func() {
			time.Sleep(2500 * time.Millisecond)
			s.Close()
		}()
		again := 0
		for _, r := range ship(s, 1, 100, 30) {
			again += len(r.Retry)
		}
		if stored := len(slices.Concat(c.stored[0], c.stored[1], c.stored[2])); again == 0 || again+stored < 3000 {
			t.Errorf("%d stored, %d to be tried again", stored, again)
		}
	})
}

// TestFirstBatchOfAProducerGoesAlone: a broker that has nothing of a producer takes any
// sequence for its first, so that a second batch could be stored before the first.
func TestFirstBatchOfAProducerGoesAlone(t *testing.T) {
	l := newLane(nil, &Config{Acks: AcksAll}, "new", 0)
	if n := l.window(); n != 1 {
		t.Errorf("%d batches without a producer", n)
	}
	for _, p := range []producer{{id: 0, epoch: 0}, {id: 7, epoch: 0}, {id: 7, epoch: 1}} { // ids begin at 0
		l.producer, l.known = p, true
		if n := l.window(); n != 1 {
			t.Errorf("%v: %d batches before the first is stored", p, n)
		}
		l.heard = p
		if n := l.window(); n != maxFlights {
			t.Errorf("%v: %d batches", p, n)
		}
	}
}
