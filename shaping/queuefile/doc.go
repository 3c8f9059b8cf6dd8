// Package queuefile reads the files that say, by destination domain, tenant and campaign, how queues work: when mail is tried
// again, how long it is kept, which pool of sources carries it. They are those of KumoMTA's queue helper, in TOML, or in JSON with comments.
//
//	tenant_header = "X-Tenant"
//	remove_tenant_header = true
//	default_tenant = "acme"
//
//	[tenant.acme]
//	egress_pool = "pool-a"
//	overall_max_message_rate = "1000/s"
//
//	[queue.default]
//	max_age = "24 hours"
//
//	[queue."*.dest.example".acme]
//	retry_interval = "17 mins"
//
// Files are merged in their order: tables key by key, anything else, arrays too, is replaced. What is wrong is told as
// FILE:LINE:COL: text ([mtakit.Findings]).
//
// For a queue these count, from weak to strong: queue.default; the queue entry of the domain, which may be a wildcard; the tenant; the
// tenant's table in the entry of the domain; the campaign's table in that.
//
// A [Queues] has three parts to play: [Queues.Apply] at reception, (queue.Policy).Settings is [Queues.Settings], and
// (queue.Policy).Ready calls [Queues.Ready]. It does not change and starts no goroutine; [Live.Run] is the caller's.
package queuefile
