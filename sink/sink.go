// Package sink delivers documents. It holds the contract that every destination
// fulfils, the stage that feeds one (Deliverer: retry, back-off, parking), and the
// destinations that need nothing but the standard library: file, stdout, discard.
//
// Invariants:
//   - A sink tries once and answers; it never retries and never drops.
//   - A refused document is parked with the reason, and never holds up the others.
//   - A batch is acknowledged only when every document of it is delivered or parked.
package sink

import (
	"context"
	"encoding/json"

	"github.com/tailwater/tailwater/record"
)

// Sink is one destination.
type Sink interface {
	// Send begins one try to deliver the documents of batch and returns; it may
	// block while the destination is busy. done is called exactly once, from any
	// goroutine and possibly before Send returns, with what came of it. batch and
	// everything it points into stay unchanged until then and belong to the caller
	// again afterwards. One goroutine at a time calls Send, in the order of the
	// queue; the same batch may be sent again when the answer asked for it.
	Send(ctx context.Context, batch *Batch, done func(Result))
	// Close gives up what the sink holds. No Send is under way.
	Close() error
}

// Batch is the documents of one try.
type Batch struct {
	Refs []record.Ref
	// Bytes is the length of the documents' JSON with their newlines.
	Bytes int
	// Try counts the tries of these documents before this one.
	Try int
	// State is the sink's own, kept between the tries of one batch.
	State any
}

// Result is a sink's answer for one batch. What is neither refused nor to be tried
// again is delivered.
type Result struct {
	// Err is set when the try failed as a whole (unreachable, overloaded): every
	// document is to be tried again. It is an error for the person on call.
	Err error
	// Retry are the indexes of the documents to be tried again alone.
	Retry []int
	// Refused are the documents that will never be taken.
	Refused []Refusal
	// Reason labels Err or Retry in metrics: one of a small set, such as
	// "unreachable", "overloaded", "timeout".
	Reason string
	// Why tells the person on call what the documents of Retry wait for, when the
	// destination has said so.
	Why string
}

// Refusal is one document that the destination will not take.
type Refusal struct {
	Index int
	// Reason labels metrics: one of a small set.
	Reason string
	// Detail is the destination's own words.
	Detail string
}

// Troubled is a Sink that keeps documents through errors, and tries again itself,
// where only it can do so without doubling them.
type Troubled interface {
	Sink
	// OnTrouble has f called, from any goroutine, with each error that keeps
	// documents waiting, and with nil when none does any more. f does not block. It is
	// called once, before the first Send.
	OnTrouble(f func(error))
}

// Committer is a Sink whose deliveries become durable only with its own state saved
// beside the read positions: the file sink, whose files are cut back to the length
// of the last checkpoint. It takes a batch whole or not at all, and its Deliverer
// sends one at a time, so that between two of them its state is that of a position.
type Committer interface {
	Sink
	// Restore is called once, before the first Send, with the state that was last
	// saved (nil at the very first start), and takes back what was delivered after
	// it: those lines will be read and sent again.
	Restore(state json.RawMessage) error
	// Prepare does the long part of a Commit beforehand, while deliveries go on.
	Prepare()
	// Commit makes everything delivered so far durable and returns the state to be
	// saved together with the positions. The caller holds deliveries back while it
	// runs (Deliverer.Hold). After an error the positions of before stay the safe
	// ones.
	Commit() (json.RawMessage, error)
	// Saved tells that the state of the last Commit is on disk with its positions:
	// what was kept to get back behind it may go.
	Saved()
}
