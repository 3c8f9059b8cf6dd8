//go:build !race

package smtpclient_test

const raceEnabled = false
