// Package routetest has a DNS server for tests: from zones written down in the test, over loopback or in memory, with faults on demand.
//
//	srv := routetest.NewServer(`
//		example.com.     MX  10 mx1.example.com.
//		mx1.example.com. A   192.0.2.1
//	`)
//	defer srv.Close()
//	router := route.New(route.Config{Resolver: srv.Resolver()})
//
// Resolver gives the real [route.Resolver], cache included, connected in memory: within a bubble of testing/synctest its time-outs and TTLs pass at
// once. For a program under test, Listen opens a port that it can be pointed to.
//
// A server in memory has goroutines for the connections that are open, one over loopback two more; Close ends them all.
package routetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/mtakit/mtakit/smtpclient/route"
)

// Server is a DNS server. It answers as a recursive server would if the zones were all there is, wildcards and CNAMEs included; what is nowhere
// in the zones does not exist. All methods may be called concurrently.
type Server struct {
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	zones     *zones
	secure    bool
	faults    map[string]*Fault // by "name/TYPE", "name" or ""
	queries   []Query
	resolvers []*route.Resolver
}

// Query is a question that the server got.
type Query struct {
	Network string // udp or tcp
	Name    string // lower case, without a trailing dot
	Type    string // MX
}

// NewServer makes a server for zones: lines of a master file (RFC 1035, 5.1), which may be indented, each with its owner. Names are absolute; the TTL
// may be left out and is 300 then. It panics if it can't read them. The caller closes it.
func NewServer(zones string) *Server {
	s := &Server{faults: make(map[string]*Fault)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.SetZones(zones)
	return s
}

// SetZones replaces the zones. It panics if it can't read them. Resolvers keep what they have in their caches.
func (s *Server) SetZones(text string) {
	z, err := parseZones(text)
	if err != nil {
		panic(fmt.Sprintf("routetest: zones: %v", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = z
}

// SetSecure says whether answers are marked as validated by DNSSEC. At first they are not.
func (s *Server) SetSecure(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Queries lists the questions so far, repeated ones included.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// Resolver makes a resolver that asks this server in memory and trusts it for DNSSEC. Close closes it.
func (s *Server) Resolver() *route.Resolver {
	r, err := route.NewResolver(route.ResolverConfig{Servers: []string{"192.0.2.53:53"}, Dial: s.Dial, TrustAD: true})
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolvers = append(s.resolvers, r)
	return r
}

// Dial opens a connection in memory; the network is udp or tcp, the address does not matter. It fits [route.ResolverConfig].
func (s *Server) Dial(_ context.Context, network, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	serve := s.serveStream
	if network == "udp" {
		serve = s.serveDatagrams
	}
	if !s.start(func() { serve(ours) }) {
		return nil, net.ErrClosed
	}
	return theirs, nil
}

// Listen opens a port of 127.0.0.1, the same for UDP and TCP, and gives its address, 127.0.0.1:5353 for example.
func (s *Server) Listen() (string, error) {
	var lastErr error
	for range 10 { // the port that one network has free may be taken in the other
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			tcp.Close()
			lastErr = err
			continue
		}
		if !s.start(func() { s.accept(tcp) }) || !s.start(func() { s.serveUDP(udp) }) {
			tcp.Close()
			udp.Close()
			return "", net.ErrClosed
		}
		return tcp.Addr().String(), nil
	}
	return "", lastErr
}

// Close ends all that the server started, and waits for it.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	resolvers := s.resolvers
	s.mu.Unlock()
	for _, r := range resolvers {
		r.Close()
	}
	s.cancel()
	s.work.Wait()
	return nil
}

// start runs f on a goroutine that Close waits for, unless the server is closed.
func (s *Server) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}

func (s *Server) accept(l net.Listener) {
	defer context.AfterFunc(s.ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !s.start(func() { s.serveStream(conn) }) {
			conn.Close()
		}
	}
}

func (s *Server) serveUDP(conn net.PacketConn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		s.handle("udp", buf[:n], func(packet []byte) { conn.WriteTo(packet, from) })
	}
}

// serveDatagrams is serveUDP for one peer on a connection that keeps the limits of messages.
func (s *Server) serveDatagrams(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		s.handle("udp", buf[:n], func(packet []byte) { conn.Write(packet) })
	}
}

func (s *Server) serveStream(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		s.handle("tcp", packet, func(reply []byte) {
			conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
		})
	}
}

// handle answers one packet, on a goroutine of its own: a delayed answer holds up no other.
func (s *Server) handle(network string, packet []byte, write func([]byte)) {
	m := new(dns.Msg)
	if m.Unpack(packet) != nil || len(m.Question) != 1 || m.Response {
		return
	}
	s.start(func() {
		fault := s.log(network, m.Question[0])
		if fault.Delay > 0 {
			select {
			case <-time.After(fault.Delay):
			case <-s.ctx.Done():
				return
			}
		}
		if reply := s.reply(network, m, fault); reply != nil {
			write(reply)
		}
	})
}

// log notes the query and gives what is to go wrong with it.
func (s *Server) log(network string, q dns.Question) Fault {
	query := Query{network, strings.ToLower(strings.TrimSuffix(q.Name, ".")), dns.TypeToString[q.Qtype]}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, query)
	for _, key := range []string{query.Name + "/" + query.Type, query.Name, ""} {
		f := s.faults[key]
		if f == nil || f.Network != "" && f.Network != network {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				delete(s.faults, key)
			}
		}
		return *f
	}
	return Fault{}
}

// reply is the packet to send; nil is none.
func (s *Server) reply(network string, q *dns.Msg, fault Fault) []byte {
	if fault.Drop {
		return nil
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	s.mu.Lock()
	z, secure := s.zones, s.secure
	s.mu.Unlock()
	if fault.Rcode != "" {
		m.Rcode = dns.StringToRcode[fault.Rcode]
	} else {
		z.answer(m)
		m.AuthenticatedData = secure && q.AuthenticatedData
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
		m.SetEdns0(dns.DefaultMsgSize, false)
	}
	fault.change(network, m)
	if network == "udp" {
		m.Truncate(size)
		m.Truncated = m.Truncated || fault.Truncate
	} else {
		m.Truncate(dns.MaxMsgSize)
	}
	packet, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("routetest: %v", err))
	}
	if fault.Packet != nil {
		packet = fault.Packet(packet)
	}
	return packet
}
