package smtpclient_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// sink is the least that looks like an SMTP server: it takes everything and keeps nothing.
func sink(nc net.Conn) {
	defer nc.Close()
	in, out := make([]byte, 256<<10), make([]byte, 0, 4096)
	nc.Write([]byte("220 sink\r\n"))
	n, data := 0, false
	for {
		k, err := nc.Read(in[n:])
		if err != nil {
			return
		}
		b := in[:n+k]
		for len(b) > 0 {
			if data {
				if i := bytes.Index(b, []byte("\r\n.\r\n")); i >= 0 {
					b, data = b[i+5:], false
					out = append(out, "250 2.0.0 ok\r\n"...)
					continue
				}
				b = b[max(0, len(b)-4):]
				break
			}
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				break
			}
			switch b[0] {
			case 'E':
				out = append(out, "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"...)
			case 'D':
				out = append(out, "354 go\r\n"...)
				data = true
			default:
				out = append(out, "250 2.0.0 ok\r\n"...)
			}
			b = b[i+1:]
		}
		n = copy(in, b)
		if _, err := nc.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

func sinkPath(b testing.TB, l net.Listener) *mtakit.Path {
	b.Helper()
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go sink(nc)
		}
	}()
	c := mtakit.DefaultPathConfig()
	c.ProhibitedHosts, c.EnableTLS = nil, mtakit.TLSDisabled
	a := l.Addr().(*net.TCPAddr).AddrPort()
	return &mtakit.Path{Name: "bench", PathConfig: &c, Site: &mtakit.Site{Hosts: []mtakit.Host{{Name: "sink", Port: a.Port(), Addrs: []netip.Addr{a.Addr()}}}}}
}

// BenchmarkSession sends one message after the other over a kept connection.
func BenchmarkSession(b *testing.B) {
	for _, network := range []string{"tcp", "memory"} {
		for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
			for _, overlap := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/%dk/overlap=%v", network, size>>10, overlap), func(b *testing.B) {
					var n *smtptest.Network
					var l net.Listener
					var err error
					if network == "tcp" {
						l, err = net.Listen("tcp", "127.0.0.1:0")
					} else {
						n = &smtptest.Network{}
						l, err = n.Listen("192.0.2.1:25")
					}
					if err != nil {
						b.Fatal(err)
					}
					s := connect(b, egress(n), sinkPath(b, l))
					body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78)
					two := [2]*mtakit.Delivery{delivery("a@x.test", body, "b@y.test"), delivery("a@x.test", body, "b@y.test")}
					var next func() *mtakit.Delivery
					i := 0
					if overlap {
						next = func() *mtakit.Delivery { return two[(i+1)%2] }
					}
					ctx, cancel := context.WithCancel(b.Context())
					defer cancel()
					b.SetBytes(int64(size))
					b.ReportAllocs()
					for b.Loop() {
						d := two[i%2]
						d.Results = d.Results[:0]
						if err := s.Send(ctx, d, next); err != nil || !d.Results[0].Response.OK() {
							b.Fatal(err, d.Results)
						}
						i++
					}
				})
			}
		}
	}
}
