//go:build race

package smtpclient_test

const raceEnabled = true
