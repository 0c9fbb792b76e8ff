// Package spool keeps on disk what senders have handed over and cannot be asked for
// again: a log of frames in segment files, to be read at any offset until every output
// has it.
//
// A frame is what one sender is answered for at once: a request, a chunk, a batch of
// datagrams. It is there as a whole or not at all: its checksum covers all of it, and a
// frame that a crash has torn is cut off at the next start, so that the sender who got
// no answer may send it again.
//
// Offsets count the bytes of all segments, their heads included, and never begin anew:
// together with the spool's generation they name a line for ever.
//
// Invariants:
//   - What Append has returned for is on disk, synced; one sync serves all who wait.
//   - Nothing is read that is not on disk: a line is not delivered and then lost.
//   - A frame's key is remembered from the moment at which the frame is on disk, and
//     outlives it: what is deleted has its keys written elsewhere before.
//   - A full disk, or a sync that fails, takes nothing and loses nothing.
//   - Damage is skipped, never read as something else, and told as bytes.
package spool
