package smtpclient

import (
	"github.com/mtakit/mtakit"
)

// What the fuzz tests look at.
var (
	AppendStuffed  = appendStuffed
	AppendSegments = appendSegments
	AppendPath     = appendPath
	Has8bit        = has8bit
)

// ScanReply feeds b in pieces of n bytes, and gives the reply at its start; used is 0 if it isn't whole.
func ScanReply(b []byte, n int) (used int, r mtakit.Response, err error) {
	var s replyScanner
	for end := min(n, len(b)); ; end = min(end+n, len(b)) {
		used, err := s.scan(b[:end])
		if err != nil {
			return 0, r, err
		}
		if used > 0 {
			var c Conn
			return used, c.parseReply(rawReply{s.code, b[:used]}, ""), nil
		}
		if end == len(b) {
			return 0, r, nil
		}
	}
}
