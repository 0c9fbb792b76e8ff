// Package consume reads Kafka topics as a member of a consumer group, for the
// indexer: what agents have shipped goes on to one output.
//
// Invariants:
//   - The offset that is committed is one before which the output has taken charge of
//     everything: a crash reads again, never past.
//   - Documents of tailwater's own pass as they are, under the ids that they have.
//   - A full output stops the reading, not the heartbeats: the group stays as it is.
package consume
