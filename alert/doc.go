// Package alert decides, while lines are read, when somebody must be told: rules
// over sliding windows of event time, and the incidents that they open, repeat and
// resolve. It does no input and no output and starts no goroutine; the clock and the
// receiver of events are given to it, so that the same engine serves a running
// agent, the fleet's evaluator and a backtest over old logs.
//
// A line goes this way: a chain's Tap compares it with the compiled rules and adds it
// to counters of its own (Observe: no lock, no allocation); at the end of a turn Flush
// adds those to the engine's windows, and conditions that more lines can only make
// true are decided at once. Tick, a few times a second, lets time pass: it moves the
// windows on and decides what had to wait.
//
// Conditions (`when`) compare terms with numbers and join the comparisons with and, or,
// not and parentheses. Terms are
//
//	count(PREDICATE)  count()        lines in the window
//	share(PREDICATE)                 their part of all lines of the group, 0% to 100%
//	rate(PREDICATE)   rate()         count over the window in seconds
//	p50 p90 p95 p99 (FIELD)          percentiles, within 1 % of the value (RelativeError)
//	max avg (FIELD)
//	debug info warn error fatal      count(level == "error") and so on
//
// and a predicate (also `where`) compares fields of one line with == != < <= > >= =~,
// joined likewise. A comparison with a field that the line does not have is false.
// Numbers may have units: 5% 500ms 1m30s 64KiB; times are in seconds, sizes in bytes.
//
// Invariants:
//   - Lines count in the second of their own time. What is over is never notified,
//     however late it is read; what is late may open an incident, never withdraw one.
//   - Memory is bounded: by max_groups, and by the window and the lateness of each
//     group. What is not counted is counted as such, with its reason.
//   - Emitted events and Snapshot agree: a snapshot holds an incident as notified only
//     after its event was emitted.
//   - Counts are sums: the same windows come from one node's lines and from the
//     Partials of many nodes, in any order and any number of times.
package alert
