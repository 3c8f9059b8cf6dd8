package route

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// resolvConf is where the system says which servers it uses (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// servers is the list of servers: given, or the system's, which is read again when it has changed.
type servers struct {
	path string // "" if the list was given

	mu      sync.Mutex
	list    []string // replaced, never changed
	checked time.Time
	changed time.Time // modification time of the file that list is from

	first atomic.Uint32 // index of the one that is asked first: it was the last that helped out
}

// current is the list, with at least one server.
func (s *servers) current() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.path == "" || s.list != nil && now.Sub(s.checked) < 5*time.Second {
		return s.list, nil
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return s.keep(err)
	}
	if s.list == nil || !info.ModTime().Equal(s.changed) {
		conf, err := dns.ClientConfigFromFile(s.path)
		if err != nil {
			return s.keep(err)
		}
		list := make([]string, 0, len(conf.Servers))
		for _, host := range conf.Servers {
			list = append(list, net.JoinHostPort(host, conf.Port))
		}
		if len(list) == 0 {
			list = []string{"127.0.0.1:53"} // as resolv.conf(5) says
		}
		s.list, s.changed = list, info.ModTime()
	}
	s.checked = now
	return s.list, nil
}

// keep goes on with what was read before, where there is something.
func (s *servers) keep(err error) ([]string, error) {
	if s.list == nil {
		return nil, fmt.Errorf("no DNS server is known: %w", err)
	}
	s.checked = time.Now()
	return s.list, nil
}
