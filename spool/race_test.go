//go:build race

package spool_test

// The race detector makes sync.Pool forget at random, and the tests that crash ten times slower.
const (
	raceEnabled = true
	crashStep   = 5
)
