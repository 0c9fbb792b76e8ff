// Package tail follows the log files of this host through rotation, truncation and
// restarts, and lets them be read at any position as long as their bytes exist.
//
// A File is one generation of a log: the bytes that were written between two
// rotations, wherever they are now (under another name, in a copy, in a .gz, in a
// deleted file that is still open). A watched path and its rotated siblings form a
// family, whose generations follow each other.
//
// Invariants:
//   - Poll is the truth: everything is found by looking at metadata. Events of the
//     file system only make it look sooner.
//   - A generation is durable in the journal before Poll hands it out.
//   - A generation is handed out when all older ones of its family have been read to
//     their present end, or cannot be read at all.
//   - Files are recognised by device, inode and birth time, by a fingerprint of their
//     head and by the bytes before a place that is known; and never by name alone.
//   - Nothing here waits for a file: no fifo is opened, and nothing is locked while
//     bytes are read.
package tail
