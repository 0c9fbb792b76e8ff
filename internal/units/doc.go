// Package units reads and writes the quantities of the configuration (sizes and
// durations), and keeps secrets from being printed.
package units
