// Package consume reads Kafka topics as a member of a consumer group, for the
// indexer: what agents have shipped goes on to one output.
//
// Invariants:
//   - The offset that is committed is one before which the output has taken charge of
//     everything: a crash reads again, never past.
//   - Documents of tailwater's own pass as they are, under the ids that they have.
//   - A full output stops the reading for it, not the heartbeats: the group stays as it
//     is. Nor does it stop a watcher for long, for whom the partition is read ahead.
//   - A watcher is shown each record once. How far it is stands beside the offset that is
//     committed, and is never less than that.
package consume
