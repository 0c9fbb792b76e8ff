//go:build race

package alert

// slow is set where everything takes ten times as long.
const slow = true
