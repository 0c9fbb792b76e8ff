// Package parser turns the bytes of a log into records: a Framer cuts them into
// events (lines, joined stack traces, unwrapped container lines), and a Parser
// splits an event into fields.
//
// Invariants:
//   - No parser panics, reads past its event, or allocates per event once warm.
//   - What does not parse is not lost: the record carries the text as message and
//     says in ParseError why.
//   - The same bytes give the same events: where a time limit and not the bytes end
//     an event, the caller keeps the place as a record.Cut.
package parser
