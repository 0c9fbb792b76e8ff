// Package record holds the nouns that all stages share: the Record that a parser
// fills, the Pos that says how far a file has been read, and the Block of encoded
// documents that travels to the outputs.
//
// Invariants:
//   - A Record lives for one line. Its fields are slices of the line or of its own
//     scratch memory; whoever wants to keep one copies it.
//   - A document is encoded once, into a Block, and every output sends those bytes.
//   - What is encoded is valid JSON in valid UTF-8, whatever bytes the line held,
//     and no key stands in it twice.
//
// The package imports nothing but the standard library.
package record
