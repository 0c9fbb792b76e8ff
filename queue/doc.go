// Package queue holds the waiting room of an output: what has been read and encoded
// and is not delivered yet.
//
// Invariants:
//   - It is bounded in bytes. What is delivered at this moment counts as much as what
//     still waits, for both hold memory.
//   - A put never blocks: who reads the files asks for room first, and is told when
//     there is room again.
//   - Nothing waits long while the output keeps up: the room is as large as what the
//     output takes in about a second, so that a loud file is not far ahead of the
//     others.
package queue
