// Package ack turns deliveries that end out of order into one safe position for each
// file and output.
//
// Invariants:
//   - A position is safe only when every document that begins before it is delivered
//     or parked.
//   - The safe position never goes back.
package ack
