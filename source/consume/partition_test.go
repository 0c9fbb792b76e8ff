package consume

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// testSource is one that hands everything to deliver.
func testSource(t *testing.T, deliver func(ctx context.Context, p record.Parcel) error) *Source {
	c := testDocuments(all).cfg
	c.Deliver, c.Count, c.Topics = deliver, func(Counts) {}, []string{"logs-*"}
	s := New(*c)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s.reading = ctx
	return s
}

func TestOffsetsAreCommittedUpToTheFirstThatIsUnderWay(t *testing.T) {
	p := newPartition(testSource(t, nil), partitionID{"t", 0}, readMark(5, ""))
	p.tally.Records = 5
	_, first := p.begin(10, 5)
	p.tally.Records, p.tally.Void = 7, 3
	refused, second := p.begin(20, 6)
	p.tally.Void = 5
	p.pass(25)
	p.pass(25)
	if len(p.steps) != 3 {
		t.Errorf("nothing new is noted as %d steps", len(p.steps))
	}
	if _, moved := p.toCommit(); moved {
		t.Error("something is to be committed before anything is delivered")
	}
	refused(3, "too_large", "")
	second()
	if at, moved := p.toCommit(); moved {
		t.Errorf("committed to %+v while 5 to 10 is under way", at)
	}
	first()
	at, moved := p.toCommit()
	if !moved || at.offset != 25 || p.busy() {
		t.Errorf("committed to %+v", at)
	}
	if want := (Sum{From: 5, Records: 12, Void: 8, Docs: 11, Refused: 1}); !reflect.DeepEqual(at.sum, want) || !reflect.DeepEqual(readMark(25, at.text()), at) {
		t.Errorf("the sum is %+v, and read again %+v", at.sum, readMark(25, at.text()))
	}
	p.committed(at)
	if _, moved := p.toCommit(); moved {
		t.Error("committed twice")
	}
}

func TestAPartitionThatBeginsAnewCommitsLowerOffsets(t *testing.T) {
	s := testSource(t, nil)
	lost := int64(0)
	s.Lost = func(_ string, n int64) { lost += n }
	p := newPartition(s, partitionID{"t", 0}, readMark(1000, ""))
	_, late := p.begin(1010, 10)
	p.failed(1) // the offset is out of range
	p.begins(0)
	late()
	if at, moved := p.toCommit(); !moved || at.offset != 0 || lost != 0 {
		t.Errorf("it is to commit %+v, %v; %d are lost", at, moved, lost)
	}
	p.next, p.tally.Records = 40, 40
	_, late = p.begin(40, 40)
	p.failed(1)
	p.begins(100) // retention was faster
	if lost != 60 || p.next != 100 {
		t.Errorf("%d of 60 records are counted as lost", lost)
	}
	if a, _ := p.account(); a.Safe != 0 || a.ReadTo != 100 || a.Read.End() != 100 {
		t.Errorf("what is under way is forgotten, or not counted: %+v", a)
	}
	late()
	if at, _ := p.toCommit(); at.offset != 100 || !reflect.DeepEqual(at.sum, Sum{Records: 40, Docs: 40, Lost: 60, Gaps: []Gap{{40, 100, "retention"}}}) {
		t.Errorf("it is to commit %+v", at)
	}
}

func TestWhatIsNotDeliveredIsNotCommitted(t *testing.T) {
	var put []func()
	full := errors.New("the agent stops")
	s := testSource(t, func(_ context.Context, p record.Parcel) error {
		if len(put) == 1 {
			return full
		}
		put = append(put, p.Done)
		return nil
	})
	p := newPartition(s, partitionID{"logs-a", 0}, mark{})
	for range 2 {
		p.add(received(p.next, "words", ""))
		if err := p.handOn(); err != nil && !errors.Is(err, errLeft) {
			t.Fatal(err)
		}
	}
	put[0]()
	if at, _ := p.toCommit(); at.offset != 1 || at.sum.End() != 1 || p.busy() {
		t.Errorf("committed to %+v, busy %v", at, p.busy())
	}
}

func TestNothingIsBegunOfAPartitionThatLeft(t *testing.T) {
	s := testSource(t, func(context.Context, record.Parcel) error {
		t.Error("it was delivered")
		return nil
	})
	p := newPartition(s, partitionID{"logs-a", 0}, mark{})
	p.add(received(0, "words", ""))
	p.leave()
	if err := p.handOn(); !errors.Is(err, errLeft) {
		t.Error(err)
	}
	if p.ready(time.Now()) {
		t.Error("it is still to be read")
	}
}

func TestAPartitionIsLentToOneFetcherAtATime(t *testing.T) {
	s := testSource(t, nil)
	id := partitionID{"logs-a", 0}
	p := newPartition(s, id, mark{})
	s.partitions[id] = p
	s.there = layout{"logs-a": {1}}
	s.reading = t.Context()
	lent, _, _ := s.borrow(&fetcher{fetcherID: fetcherID{broker: 1, lane: p.lane}})
	s.there = layout{"logs-a": {2}} // its leader is another, and the first reader has not noticed
	next := &fetcher{fetcherID: fetcherID{broker: 2, lane: p.lane}}
	if again, _, any := s.borrow(next); len(lent) != 1 || len(again) != 0 || !any {
		t.Errorf("lent %d times, then %d times", len(lent), len(again))
	}
	s.giveBack(lent)
	if again, _, _ := s.borrow(next); len(again) != 1 {
		t.Error("it is not lent any more")
	}
}

func TestAnswersShareTheirMemory(t *testing.T) {
	m := newMemory(100)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	first, _ := m.take(ctx, 60)
	if _, err := m.take(ctx, 60); err == nil {
		t.Error("120 of 100 bytes were lent")
	}
	m.give(first)
	if all, err := m.take(t.Context(), 1000); err != nil || all != 100 {
		t.Errorf("an answer that is larger than all: %d, %v", all, err)
	}
}

func TestAPartitionIsGoneAfterSomeLooks(t *testing.T) {
	s := testSource(t, nil)
	s.basis = layout{"logs-a": {1, 1}, "logs-b": {1}}
	fewer := layout{"logs-a": {1, 1}}
	if got := []bool{s.outdated(fewer), s.outdated(s.basis), s.outdated(fewer), s.outdated(fewer), s.outdated(fewer)}; !slices.Equal(got, []bool{false, false, false, false, true}) {
		t.Error(got)
	}
	if !s.outdated(layout{"logs-a": {1, 1, -1}, "logs-b": {1}}) {
		t.Error("a new partition is not seen")
	}
}

// watched notes what a watcher is told.
type watched struct {
	shown   []int64
	flushed int64
	closed  bool
}

func (w *watched) Document(offset int64, _ []byte, _ int, _ int64) { w.shown = append(w.shown, offset) }
func (w *watched) Record(offset int64, _ *record.Record, _ int64, _ []byte) {
	w.shown = append(w.shown, offset)
}
func (w *watched) Flush(next int64, _ bool) { w.flushed = next }
func (w *watched) Begin(int64)              {}
func (w *watched) Close()                   { w.closed = true }

// What is delivered before it was counted waits with its offset; what is not handed on
// does not count.
func TestWhatIsNotCountedIsNotCommitted(t *testing.T) {
	w, full := new(watched), errors.New("the agent stops")
	var p *partition
	refuse := false
	s := testSource(t, func(_ context.Context, parcel record.Parcel) error {
		if refuse {
			return full
		}
		parcel.Done() // at once, before it is counted
		if at, moved := p.toCommit(); moved {
			t.Errorf("%+v is to be committed, and counted up to %d", at, w.flushed)
		}
		return nil
	})
	s.Watch = func(string, int, int64) Watcher { return w }
	p = newPartition(s, partitionID{"logs-a", 0}, readMark(5, ""))
	text, id := own(record.LevelDebug)
	for i, value := range []string{text, "not one of ours"} {
		if err := p.add(received(int64(5+i), value, id)); err != nil {
			t.Fatal(err)
		}
	}
	if w.flushed != 0 {
		t.Error("counted before it is handed on")
	}
	if err := p.handOn(); err != nil {
		t.Fatal(err)
	}
	if at, moved := p.toCommit(); !moved || at.offset != 7 || at.sum.End() != 7 || w.flushed != 7 || len(w.shown) != 2 {
		t.Errorf("commit %+v, %v; counted up to %d of %v", at, moved, w.flushed, w.shown)
	}
	refuse = true
	p.add(received(7, text, id))
	if err := p.handOn(); !errors.Is(err, full) || w.flushed != 7 {
		t.Errorf("%v; counted up to %d", err, w.flushed)
	}
	s.partitions[p.id], p.lent = p, new(fetcher)
	s.mu.Lock()
	s.letGoLocked(p)
	s.mu.Unlock()
	if w.closed {
		t.Error("the watcher is closed while it is in use")
	}
	s.giveBack([]reader{p})
	if !w.closed {
		t.Error("the watcher stays open")
	}
}

// What stands beside an offset may be anybody's: only our own sum of just that offset is
// gone on with.
func TestCountingBeginsWhereNobodyHasCounted(t *testing.T) {
	own := Sum{From: 10, Records: 20, Void: 3, Lost: 7, Docs: 19}
	for text, want := range map[string]Sum{
		mark{40, own, 40}.text(): own, mark{40, own, 70}.text(): own, "": {From: 40}, "{}": {From: 40}, "another program's": {From: 40}, `{"from":10,"records":20}`: {From: 40}, `{"from":"x"}`: {From: 40},
	} {
		if m := readMark(40, text); m.offset != 40 || !reflect.DeepEqual(m.sum, want) {
			t.Errorf("%q: %+v", text, m)
		}
	}
	if m := readMark(unknownOffset, ""); m.offset != unknownOffset {
		t.Errorf("nothing committed: %+v", m)
	}
	var s Sum
	for i := range int64(100) {
		s.lose(i*2, i*2+1, "retention")
	}
	if text := (mark{sum: s}).text(); s.Lost != 100 || len(s.Gaps) != maxGaps || s.Gaps[maxGaps-1].From != 198 || len(text) > 2048 {
		t.Errorf("%d gaps are kept, %d lost, in %d bytes", len(s.Gaps), s.Lost, len(text))
	}
}
