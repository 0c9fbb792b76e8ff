package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/record"
)

const kib = 1 << 10

// parcelOf returns a parcel of size bytes that counts in *done when it is done.
func parcelOf(size int, done *atomic.Int64) record.Parcel {
	b := record.NewBlock(make([]byte, 0, size), nil, nil)
	b.Data = b.Data[:size]
	return record.Parcel{Block: b, Done: func() { done.Add(1) }}
}

func TestTakeWaitsForAParcel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(4<<20, nil)
		var done atomic.Int64
		got := make(chan int)
		go func() {
			ps, ok := q.Take(t.Context(), 1<<20)
			if !ok {
				t.Error("the queue ended")
			}
			got <- len(ps)
		}()
		synctest.Wait()
		q.Put(parcelOf(kib, &done))
		if n := <-got; n != 1 {
			t.Fatalf("took %d", n)
		}
	})
}

func TestTakeReturnsAsManyAsFit(t *testing.T) {
	q := New(4<<20, nil)
	var done atomic.Int64
	for range 5 {
		q.Put(parcelOf(100*kib, &done))
	}
	q.Put(parcelOf(900*kib, &done))
	for _, want := range []int{3, 2, 1} {
		ps, ok := q.Take(t.Context(), 300*kib)
		if !ok || len(ps) != want {
			t.Fatalf("took %d, %v; want %d", len(ps), ok, want)
		}
	}
}

func TestBytesCountUntilTheyAreDone(t *testing.T) {
	rooms := 0
	q := New(minBytes, func() { rooms++ })
	var done atomic.Int64
	for range 4 {
		if !q.Room() {
			t.Fatal("no room in an empty queue")
		}
		q.Put(parcelOf(256*kib, &done))
	}
	if q.Room() {
		t.Fatal("room in a full queue")
	}
	ps, _ := q.Take(t.Context(), 512*kib)
	if w, f := q.Bytes(); w != 512*kib || f != 512*kib || q.Room() || rooms != 0 {
		t.Fatalf("%d wait, %d in flight, room %v after a take", w, f, q.Room())
	}
	for _, p := range ps {
		p.Done()
	}
	if w, f := q.Bytes(); w != 512*kib || f != 0 || done.Load() != 2 || rooms != 1 || !q.Room() {
		t.Fatalf("%d wait, %d in flight, %d done, told of room %d times", w, f, done.Load(), rooms)
	}
}

func TestCloseDrains(t *testing.T) {
	q := New(4<<20, nil)
	var done atomic.Int64
	q.Put(parcelOf(kib, &done))
	q.Put(parcelOf(kib, &done))
	q.Close()
	if q.Put(parcelOf(kib, &done)) {
		t.Fatal("a closed queue took a parcel")
	}
	for range 2 {
		if ps, ok := q.Take(t.Context(), 1); !ok || len(ps) != 1 {
			t.Fatalf("took %d, %v", len(ps), ok)
		}
	}
	for range 2 {
		if _, ok := q.Take(t.Context(), 1); ok {
			t.Fatal("took from an empty closed queue")
		}
	}
}

func TestCloseWakesTheTaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(4<<20, nil)
		ended := make(chan bool)
		go func() {
			_, ok := q.Take(t.Context(), 1)
			ended <- ok
		}()
		synctest.Wait()
		q.Close()
		if <-ended {
			t.Fatal("took from an empty queue")
		}
	})
}

func TestTheTakersContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(4<<20, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := q.Take(ctx, 1); ok {
			t.Fatal("took from an empty queue")
		}
	})
}

// deliver takes from q as an output would that takes bytesPerSecond, and answers
// after latency.
func deliver(ctx context.Context, q *Memory, bytesPerSecond int64, latency time.Duration) {
	for {
		ps, ok := q.Take(ctx, 1<<20)
		if !ok {
			return
		}
		for _, p := range ps {
			time.Sleep(time.Duration(p.Block.Size()) * time.Second / time.Duration(bytesPerSecond))
			time.AfterFunc(latency, p.Done)
		}
	}
}

// A loud file fills the queue at any rate; a quiet one puts a line now and then, and
// that must not wait much longer than a second.
func TestAQuietFileDoesNotWaitForALoudOne(t *testing.T) {
	for _, c := range []struct {
		rate    int64
		latency time.Duration
		wait    time.Duration
	}{
		{1 << 20, 10 * time.Millisecond, 1500 * time.Millisecond},
		{5 << 20, 10 * time.Millisecond, 1500 * time.Millisecond},
		{50 << 20, 500 * time.Millisecond, 1500 * time.Millisecond},
		{200 << 20, 5 * time.Millisecond, time.Second},
	} {
		t.Run(fmt.Sprint(c.rate>>20, c.latency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				room := make(chan struct{}, 1)
				q := New(64<<20, func() {
					select {
					case room <- struct{}{}:
					default:
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				var loud atomic.Int64
				var worst atomic.Int64
				var wg sync.WaitGroup
				wg.Go(func() { deliver(ctx, q, c.rate, c.latency) })
				wg.Go(func() {
					for ctx.Err() == nil {
						if q.Room() {
							q.Put(parcelOf(256*kib, &loud))
							continue
						}
						select {
						case <-room:
						case <-ctx.Done():
						}
					}
				})
				start := time.Now()
				for time.Since(start) < 40*time.Second {
					time.Sleep(300 * time.Millisecond)
					put := time.Now()
					settled := put.Sub(start) > 20*time.Second
					p := parcelOf(kib, new(atomic.Int64))
					p.Done = func() {
						if settled {
							worst.Store(max(worst.Load(), int64(time.Since(put))))
						}
					}
					q.Put(p)
				}
				cancel()
				wg.Wait()
				waited := time.Duration(worst.Load())
				if waited > c.wait {
					t.Errorf("a line waited %v", waited)
				}
				took := loud.Load() * 256 * kib / 40
				if took < c.rate*8/10 {
					t.Errorf("the output took %d bytes a second, it could have taken %d", took, c.rate)
				}
				t.Logf("waited %v, %d KiB/s, limit %d KiB", waited, took>>10, q.Limit()>>10)
			})
		})
	}
}

func TestRoomAfterAnOutageIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := make(chan struct{}, 1)
		q := New(64<<20, func() { room <- struct{}{} })
		var done atomic.Int64
		for q.Room() {
			q.Put(parcelOf(256*kib, &done))
		}
		before := done.Load()
		time.Sleep(4 * time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() { deliver(t.Context(), q, 100<<20, 0) })
		<-room
		back := time.Now()
		for time.Since(back) < 10*time.Second {
			if q.Room() {
				q.Put(parcelOf(256*kib, &done))
				continue
			}
			<-room
		}
		if took := (done.Load() - before) * 256 * kib / 10; took < 80<<20 {
			t.Fatalf("%d MiB/s after the outage", took>>20)
		}
		q.Close()
		wg.Wait()
	})
}
