//go:build race

package fleet

// slow is set where the race detector makes everything many times slower.
const slow = true
