package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit/metrics/metricstest"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// reference is what KumoMTA exposes, in its own order, as far as it applies. Histograms have the default buckets or those of the letter.
var reference = []struct{ name, typ, labels, help string }{
	{"bind_failures", "counter", "", "direct source-address bind failures"},
	{"bounce_classify_latency", "histogram", "", "bounce classification time"},
	{"connection_count", "gauge", "service", "open connections now"},
	{"connection_count_by_provider", "gauge", "provider", "open outbound connections"},
	{"connection_count_by_provider_and_pool", "gauge", "provider, pool", "open outbound connections, split by pool"},
	{"delayed_due_to_message_rate_throttle", "counter", "queue", "put back because of the message rate limit"},
	{"delayed_due_to_ready_queue_full", "counter", "queue", "put back because the ready queue was full"},
	{"delayed_due_to_throttle_insert_ready", "counter", "queue", "put back by the throttle event"},
	{"deliver_message_latency_rollup", "histogram", "service", "time per delivery call; service = protocol"},
	{"disk_free_bytes", "gauge", "name", "available bytes"},
	{"disk_free_inodes", "gauge", "name", "available inodes"},
	{"disk_free_inodes_percent", "gauge", "name", "available inodes, floored percent"},
	{"disk_free_percent", "gauge", "name", "available space, floored percent"},
	{"dispatcher_watchdog_aborted_total", "counter", "service", "dispatchers aborted for lack of progress"},
	{"dns_mx_resolve_cache_hit", "counter", "", "MX resolution served from cache"},
	{"dns_mx_resolve_cache_miss", "counter", "", "MX resolution needing a query"},
	{"dns_mx_resolve_in_progress", "gauge", "", "MX resolutions running"},
	{"dns_mx_resolve_status_fail", "counter", "", "failed MX resolutions"},
	{"dns_mx_resolve_status_ok", "counter", "", "successful MX resolutions"},
	{"egress_source_connection_failures_total", "counter", "source, kind", "source-side failures"},
	{"egress_source_health_suspended", "gauge", "source, reason", "1 while a source is auto-suspended"},
	{"egress_source_health_suspensions_total", "counter", "source, reason", "transitions into auto-suspension"},
	{"log_submit_full", "counter", "logger", "logger queue was full"},
	{"log_submit_latency", "histogram", "logger", "time to hand a record to the logger"},
	{"memory_limit", "gauge", "", "soft limit, bytes"},
	{"memory_low_count", "counter", "", "times the low-memory threshold was crossed"},
	{"memory_low_thresh", "gauge", "", "low-memory threshold, bytes"},
	{"memory_over_limit_count", "counter", "", "times the soft limit was crossed"},
	{"memory_usage", "gauge", "", "bytes used"},
	{"message_count", "gauge", "", "message objects alive"},
	{"message_data_load_latency", "histogram", "", "body load time from spool"},
	{"message_data_resident_count", "gauge", "", "messages with body in memory"},
	{"message_meta_load_latency", "histogram", "", "metadata load time from spool"},
	{"message_meta_resident_count", "gauge", "", "messages with metadata in memory"},
	{"message_save_latency", "histogram", "", "spool save time"},
	{"process_cpu_usage_normalized", "gauge", "", "process CPU percent divided by CPU count"},
	{"process_cpu_usage_sum", "gauge", "", "process CPU percent summed over CPUs"},
	{"proxy_connection_failures", "counter", "", "failed connections to egress proxies"},
	{"queue_insert_latency", "histogram", "", "queue manager insert time"},
	{"queue_resolve_latency", "histogram", "", "queue manager resolve time"},
	{"queued_count_by_provider", "gauge", "provider", "scheduled + ready messages"},
	{"queued_count_by_provider_and_pool", "gauge", "provider, pool", "scheduled + ready messages, split by pool"},
	{"ready_count", "gauge", "service", "messages in ready queue"},
	{"ready_full", "counter", "service", "inserts refused because the ready queue was full"},
	{"ready_queue_insert_latency", "histogram", "", "ready queue insert time"},
	{"rocks_spool_load_shed_active", "gauge", "path", "0/1 spool health gate latched"},
	{"scheduled_by_domain", "gauge", "domain", "scheduled messages per domain"},
	{"scheduled_by_tenant", "gauge", "tenant", "scheduled messages per tenant"},
	{"scheduled_by_tenant_campaign", "gauge", "tenant, campaign", "scheduled messages per tenant and campaign"},
	{"scheduled_count", "gauge", "queue", "scheduled messages per queue"},
	{"scheduled_count_total", "gauge", "", "scheduled messages overall"},
	{"scheduled_queue_count", "gauge", "", "scheduled queues in memory"},
	{"scheduled_queue_maintainer_count", "gauge", "", "queue maintainer tasks"},
	{"smtp_server_rejections", "counter", "service", "Rejection records"},
	{"smtpsrv_process_data_duration", "histogram", "", "DATA processing and enqueue time"},
	{"smtpsrv_read_data_duration", "histogram", "", "DATA receive time"},
	{"smtpsrv_transaction_duration", "histogram", "", "whole inbound transaction"},
	{"system_cpu_usage_normalized", "gauge", "", "host CPU percent divided by CPU count"},
	{"system_cpu_usage_sum", "gauge", "", "host CPU percent summed"},
	{"timeq_pop_tardiness", "histogram B2", "", "lateness of due messages when popped"},
	{"timeq_reinsert_tardiness", "histogram B3", "", "lateness when reinserted"},
	{"total_connection_count", "counter", "service", "outbound connections ever opened"},
	{"total_connections_denied", "counter", "service", "inbound connections refused"},
	{"total_messages_delivered", "counter", "service", "deliveries"},
	{"total_messages_delivered_by_provider", "counter", "provider", "deliveries"},
	{"total_messages_delivered_by_provider_and_source", "counter", "provider, source, pool", "deliveries"},
	{"total_messages_fail", "counter", "service", "permanent failures"},
	{"total_messages_fail_by_provider", "counter", "provider", "permanent failures"},
	{"total_messages_fail_by_provider_and_source", "counter", "provider, source, pool", "permanent failures"},
	{"total_messages_received", "counter", "service", "messages received"},
	{"total_messages_transfail", "counter", "service", "transient failures"},
	{"total_messages_transfail_by_provider", "counter", "provider", "transient failures"},
	{"total_messages_transfail_by_provider_and_source", "counter", "provider, source, pool", "transient failures"},
}

// absent are the families of KumoMTA that we have not got, by reason.
var absent = map[string]string{
	"neither DANE nor MTA-STS yet": "dane_result_count dns_mx_resolve_mta_sts_impossible",
	"messages are not signed yet":  "dkim_signer_cache_hit dkim_signer_cache_lookup_count dkim_signer_cache_miss dkim_signer_creation dkim_signer_key_cache_hit dkim_signer_key_cache_lookup_count dkim_signer_key_cache_miss dkim_signer_key_fetch dkim_signer_message_parse dkim_signer_sign",
	"no log hooks yet":             "log_hook_backlog_count",
	"its caches":                   "lruttl_cache_size lruttl_error_count lruttl_evict_count lruttl_expire_count lruttl_hit_count lruttl_insert_count lruttl_lookup_count lruttl_miss_count lruttl_populated_count lruttl_stale_count lruttl_waiting_populate memoize_cache_hit_count memoize_cache_lookup_count memoize_cache_miss_count memoize_cache_populated_count",
	"no Lua":                       "lua_count lua_event_latency lua_event_started lua_load_count lua_spare_count user_lua_latency",
	"its allocator":                "memory_usage_rust",
	"no Redis yet":                 "redis_operation_latency",
	"no RocksDB":                   "rocks_spool_actual_delayed_write_rate rocks_spool_background_errors rocks_spool_cache_total rocks_spool_compaction_pending rocks_spool_estimate_pending_compaction_bytes rocks_spool_mem_table_readers_total rocks_spool_mem_table_total rocks_spool_mem_table_unflushed rocks_spool_num_running_compactions rocks_spool_write_stopped",
	"no pools of threads":          "thread_pool_parked thread_pool_size",
	"its timer task":               "timeq_pop_interval timeq_pop_latency",
	"no task for each queue":       "total_qmaint_runs total_readyq_runs",
}

// buckets are the upper bounds, in seconds.
var buckets = map[string]string{
	"histogram":    "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf",
	"histogram B2": "0.25 0.5 1 2.5 3 5 10 15 +Inf",
	"histogram B3": "0.25 0.5 1 2.5 3 5 10 15 30 45 60 90 180 360 720 +Inf",
}

// onlyOnEvents are families that have no series before there was something to count.
var onlyOnEvents = []string{
	"delayed_due_to_message_rate_throttle", "delayed_due_to_ready_queue_full", "delayed_due_to_throttle_insert_ready",
	"egress_source_connection_failures_total", "egress_source_health_suspended", "egress_source_health_suspensions_total",
	"process_cpu_usage_normalized", "process_cpu_usage_sum", "system_cpu_usage_normalized", "system_cpu_usage_sum", // a second after the first look
}

// metricsFamily is a family of /metrics.json.
type metricsFamily struct {
	Help, Type string
	Value      any
}

// A running daemon exposes KumoMTA's families with its types and labels, in a form that a strict reader takes.
func TestReferenceMetrics(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
	for _, c := range []string{"", `,"deferred_generation":true`} {
		if status, body := d.ask("POST", "/api/inject/v1", injection(1, c), ""); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	sent := 0
	if err := pipeline(d.smtp, "Subject: x\r\nX-Ledger: m0\r\n\r\nx\r\n", func() bool { sent++; return sent == 1 }); err != nil {
		t.Fatal(err)
	}
	d.drained(30 * time.Second)
	dns := start(t, nil, "--data", t.TempDir()) // which routes by DNS, and is not asked to

	resp, err := http.Get("http://" + d.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	families, err := metricstest.Parse(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]metricstest.Family{}
	for _, f := range families {
		text[f.Name] = f
	}
	if last := families[len(families)-1]; last.Type == "histogram" {
		t.Errorf("%s ends the document, where it would be dropped", last.Name)
	}
	var doc map[string]metricsFamily
	_, body := d.get("/metrics.json")
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	var routed map[string]metricsFamily
	_, body = dns.get("/metrics.json")
	if err := json.Unmarshal([]byte(body), &routed); err != nil {
		t.Fatal(err)
	}
	for _, want := range reference {
		if j := routed[want.name]; strings.HasPrefix(want.name, "dns_mx_") {
			if j.Type != want.typ || j.Help != want.help || j.Value != 0.0 {
				t.Errorf("%s: got %+v, want a %s of 0, %q", want.name, j, want.typ, want.help)
			}
			continue
		}
		j, there := doc[want.name]
		typ, _, _ := strings.Cut(want.typ, " ")
		if !there || j.Type != typ || j.Help != want.help {
			t.Errorf("%s: got %q, %q, want %q, %q", want.name, j.Type, j.Help, typ, want.help)
		}
		f := text[want.name]
		if len(f.Samples) == 0 {
			if !slices.Contains(onlyOnEvents, want.name) && want.name != "scheduled_by_tenant" && want.name != "scheduled_by_tenant_campaign" {
				t.Errorf("%s has no series", want.name)
			}
			continue
		}
		if f.Type != typ || f.Help != want.help {
			t.Errorf("%s is a %s, %q; want a %s, %q", want.name, f.Type, f.Help, typ, want.help)
		}
		var labels, bounds []string
		for i := range f.Samples {
			s := &f.Samples[i]
			if s.Suffix != "_bucket" {
				for _, l := range s.Labels {
					labels = append(labels, l.Name)
				}
				break
			}
			le := s.Get("le")
			if v, err := strconv.ParseFloat(le, 64); err == nil && le != "+Inf" {
				le = fmt.Sprint(v)
			}
			bounds = append(bounds, le)
		}
		if got := strings.Join(labels, ", "); got != want.labels {
			t.Errorf("%s has the labels %q, want %q", want.name, got, want.labels)
		}
		if got := strings.Join(bounds, " "); got != buckets[want.typ] {
			t.Errorf("%s has the buckets %q, want %q", want.name, got, buckets[want.typ])
		}
	}
	for why, names := range absent {
		for name := range strings.FieldsSeq(names) {
			if _, there := doc[name]; there {
				t.Errorf("%s is there, although: %s", name, why)
			}
		}
	}
	for name, services := range map[string][]string{
		"total_messages_received":  {"esmtp_listener", "esmtp_listener:" + d.smtp, "http_listener"},
		"smtp_server_rejections":   {"total", d.smtp},
		"connection_count":         {"esmtp_listener", "smtp_client"},
		"total_messages_delivered": {"smtp_client"},
	} {
		f := text[name]
		for _, service := range services {
			if !slices.ContainsFunc(f.Samples, func(s metricstest.Sample) bool { return s.Get("service") == service }) {
				t.Errorf("%s of %s is not there: %+v", name, service, f.Samples)
			}
		}
	}
	for _, path := range []string{"/metrics", "/metrics.json"} { // HEAD is a right of its own, which nobody has by default
		if status, body := d.ask("HEAD", path, "", ""); status != 401 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
	}
	d.stop()
}
