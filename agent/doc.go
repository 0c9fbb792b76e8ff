// Package agent puts the pipeline together and owns its life: start, reload, drain,
// stop, and what it tells over HTTP.
//
// A flow is one file generation on its way to the outputs. Its chains read it: the
// lead chain for every output that keeps up, and one lagging chain for each output
// that does not, from that output's own position until it has caught up. Flows take
// turns in as many workers as limits.cpus, so that one loud file starves nobody.
//
// Invariants:
//   - Only positions flow back: a position is saved after the output has said that
//     it has everything before it.
//   - What names or bounds a document (a generation, a cut by a time limit) is on
//     disk before the document leaves.
//   - One flow is run by one worker at a time.
//   - An output gets the generations of a log one after the other, as far as they have
//     been read, also when it comes back after rotations.
//   - A flow has no more than about a quarter of an output's room while others want it.
package agent
