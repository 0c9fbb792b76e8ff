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
package agent
