//go:build race

package main

// memoryFactor is how much more memory a daemon takes that has the race detector.
const memoryFactor = 5
