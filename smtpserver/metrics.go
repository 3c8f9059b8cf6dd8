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
	{Name: "connection_count", Help: "open connections now", Type: mtakit.GaugeType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_connections_denied", Help: "inbound connections refused", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "total_messages_received", Help: "messages received", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "smtp_server_rejections", Help: "Rejection records", Type: mtakit.CounterType, Labels: []string{"service"}},
	{Name: "smtpsrv_transaction_duration", Help: "whole inbound transaction", Type: mtakit.HistogramType},
	{Name: "smtpsrv_read_data_duration", Help: "DATA receive time", Type: mtakit.HistogramType},
	{Name: "smtpsrv_process_data_duration", Help: "DATA processing and enqueue time", Type: mtakit.HistogramType},
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
