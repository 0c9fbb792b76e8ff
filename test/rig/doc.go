// Package rig runs the real tailwater as a process, watches it through its socket,
// and compares what it delivered with what was written. The end-to-end tests and the
// benchmarks stand on it.
package rig
