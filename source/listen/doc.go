// Package listen takes log lines from senders: over HTTP, Fluentd's forward protocol,
// syslog, and OTLP over HTTP. What it takes it puts into a spool, and only then says
// that it has it.
//
// Invariants:
//   - An answer that says yes comes after the spool has synced what it is about.
//   - A sender that repeats what it had no answer for, under the same key, is not
//     doubled: the spool remembers the key with the frame.
//   - A spool that is full, or memory that is used up, is told to the sender (429, no
//     ack, a connection that is not read from); only datagrams are dropped then, and
//     counted.
//   - Every length that a sender gives is checked against a limit before memory is
//     taken for it, and every read has a time limit while something is expected.
package listen
