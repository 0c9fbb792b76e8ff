// Package journal keeps small named records on disk: the agent's whole state.
//
// A journal is a file of lines, each the CRC-32C of the rest in eight hexadecimal
// digits, a space, and one JSON object. The first line is the header, then come the
// lines of the snapshot that this generation began with, then a line that ends the
// snapshot, then one line for each Commit:
//
//	1c291ca3 {"journal":1,"generation":7}
//	9a71bb4c {"set":{"file/x":{"off":10},..}}
//	03ffd2aa {"snapshot":1}
//	77aa01e2 {"set":{"file/x":{"off":90}},"del":["file/y"]}
//
// Invariants:
//   - A line is one atomic change: it is on disk as a whole or it does not count.
//   - A file is only ever appended to, or cut back to the end of its last good line.
//     It is replaced by the next generation, whose content is on disk before its
//     name; the generation before it stays until there is one more.
//   - What is unreadable is skipped, reported and set aside. It is neither erased nor
//     a reason not to start.
package journal
