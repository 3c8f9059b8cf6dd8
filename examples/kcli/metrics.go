package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
)

// sample is one line of Prometheus' text form.
type sample struct {
	family string
	kind   string // counter, gauge or histogram
	part   string // of a histogram: bucket, sum or count
	labels []label
	value  float64
}

type label struct{ name, value string }

// label is the value of a label, "" where there is none.
func (s *sample) label(name string) string {
	for _, l := range s.labels {
		if l.name == name {
			return l.value
		}
	}
	return ""
}

// metrics reads the daemon's counters, see readMetrics.
func (c *client) metrics(ctx context.Context, want func(family, kind string) bool, f func(*sample)) error {
	resp, err := c.do(ctx, "GET", "/metrics", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.unreachable(readMetrics(resp.Body, want, f))
}

// maxMetricsLine is the longest line of metrics that is looked at; longer ones are passed over.
const maxMetricsLine = 64 << 10

// readMetrics calls f for each sample of the families that want chooses, in their order. The sample is f's until f returns, its strings
// for longer. Only one line is in memory at a time, and a family that is not wanted costs no more than finding the ends of its lines; lines
// that are not understood are passed over.
func readMetrics(r io.Reader, want func(family, kind string) bool, f func(*sample)) error {
	br := bufio.NewReaderSize(r, maxMetricsLine)
	var s sample
	wanted := false
	for {
		line, err := br.ReadSlice('\n')
		long := false
		for errors.Is(err, bufio.ErrBufferFull) {
			long = true
			_, err = br.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return nil // a line without its end is half a line
		}
		if err != nil {
			return err
		}
		switch line = bytes.TrimRight(line, "\r\n"); {
		case long || len(line) == 0:
		case line[0] == '#':
			if fields := strings.Fields(string(line)); len(fields) == 4 && fields[1] == "TYPE" {
				s.family, s.kind = fields[2], fields[3]
				wanted = want(s.family, s.kind)
			}
		case wanted && s.parse(line):
			f(&s)
		}
	}
}

// parse reads the line of a sample of the family in s: name{label="value",…} number.
func (s *sample) parse(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(s.family))
	space := bytes.LastIndexByte(rest, ' ')
	if !ok || space < 0 {
		return false
	}
	value, err := strconv.ParseFloat(string(rest[space+1:]), 64)
	if err != nil {
		return false
	}
	s.value, s.part, s.labels = value, "", s.labels[:0]
	rest = rest[:space]
	if s.kind == "histogram" {
		end := bytes.IndexByte(rest, '{')
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return false
		}
		s.part, rest = string(rest[1:end]), rest[end:]
	}
	if len(rest) == 0 {
		return true
	}
	if rest[0] != '{' || rest[len(rest)-1] != '}' {
		return false
	}
	return s.parseLabels(string(rest[1 : len(rest)-1]))
}

// parseLabels reads a list of labels. Values are escaped or not, depending on the family: one that has no end as an escaped one is
// taken as it is.
func (s *sample) parseLabels(list string) bool {
	for list != "" {
		name, rest, ok := strings.Cut(list, `="`)
		if !ok {
			return false
		}
		end, escaped := 0, false
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				escaped = true
				end++
			}
			end++
		}
		if end >= len(rest) {
			if end, escaped = strings.IndexByte(rest, '"'), false; end < 0 {
				return false
			}
		}
		value := rest[:end]
		if escaped {
			value = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`).Replace(value)
		}
		s.labels = append(s.labels, label{strings.TrimSpace(name), value})
		list = strings.TrimLeft(rest[end+1:], ", ")
	}
	return true
}

// readyQueueOf is the name of the ready queue in a label service, which also has the protocol's roll-ups.
func readyQueueOf(service string) (string, bool) {
	_, name, ok := strings.Cut(service, ":")
	return name, ok
}
