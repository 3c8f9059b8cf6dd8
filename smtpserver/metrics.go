package smtpserver

import "github.com/mtakit/mtakit"

const service = "esmtp_listener"

// metrics are what a Server counts; those by listener are in listener.
type metrics struct {
	connections, denied, received, rejections mtakit.Counter
	transaction, readData, processData        *mtakit.Histogram
}

func (m *metrics) init() {
	m.transaction, m.readData, m.processData = mtakit.NewHistogram(), mtakit.NewHistogram(), mtakit.NewHistogram()
}

var families = []mtakit.MetricFamily{
	{Name: "connection_count", Help: "open connections", Type: mtakit.GaugeType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_connections_denied", Help: "connections refused for want of room", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "total_messages_received", Help: "messages received", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "smtp_server_rejections", Help: "commands answered with 4xx or 5xx", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "smtpsrv_transaction_duration", Help: "seconds from MAIL to the reply to the data", Type: mtakit.HistogramType},
	{Name: "smtpsrv_read_data_duration", Help: "seconds to receive data", Type: mtakit.HistogramType},
	{Name: "smtpsrv_process_data_duration", Help: "seconds from the end of the data to the reply", Type: mtakit.HistogramType},
}

// Families implements [mtakit.Collector].
func (s *Server) Families() []mtakit.MetricFamily { return families }

// Collect implements [mtakit.Collector].
func (s *Server) Collect(family string, yield func(mtakit.Sample) bool) {
	s.init()
	count := func(label string, c *mtakit.Counter) bool {
		return yield(mtakit.Sample{Labels: []string{label}, Value: float64(c.Value())})
	}
	m := &s.metrics
	switch family {
	case "connection_count":
		count(service, &m.connections)
	case "total_connections_denied":
		count(service, &m.denied)
	case "total_messages_received":
		if !count(service, &m.received) {
			return
		}
		for _, l := range s.listeners() {
			if !count(service+":"+l.addr, &l.received) {
				return
			}
		}
	case "smtp_server_rejections":
		if !count("total", &m.rejections) {
			return
		}
		for _, l := range s.listeners() {
			if !count(l.addr, &l.rejections) {
				return
			}
		}
	case "smtpsrv_transaction_duration":
		yield(mtakit.Sample{Histogram: m.transaction})
	case "smtpsrv_read_data_duration":
		yield(mtakit.Sample{Histogram: m.readData})
	case "smtpsrv_process_data_duration":
		yield(mtakit.Sample{Histogram: m.processData})
	}
}
