// Package httpapi is the HTTP interface of an MTA, as KumoMTA has it: injection of mail with templates, administration, and a frame with authentication,
// permission and encodings for endpoints of others.
//
//	api, err := httpapi.New(httpapi.Config{Queue: q})
//	api.Handle("GET", "/metrics", registry.Text())
//	srv := &http.Server{Addr: "127.0.0.1:8000", Handler: api, ReadHeaderTimeout: 10 * time.Second}
//	err = srv.ListenAndServe()
//
// A request passes, in this order: decompression of its body, look-up of its path (an unknown one is 404 for everybody), authentication,
// permission, look-up of its method, and its handler. Clients from loopback may do everything unless Config says otherwise, others need a
// password and may then only inject; see [DefaultPermit].
//
// # Injection
//
// POST /api/inject/v1 makes a message for each recipient, from a whole message or from text, HTML, attachments and fields, which are
// templates (package template). The recipients of a request are never in memory all at once: a body over 256 KiB is in a temporary file,
// the request is read once to be checked, and recipients are read again one by one, in batches that share a commit of the spool. Parts
// that are the same for all are encoded once and shared. How much is worked on at the same time is bounded by Config.MaxInFlight.
//
// A request that is at fault is refused as a whole before anything is submitted; recipients that fail later are listed in the answer,
// whose status is 200. A request whose client goes away ends with the batch in hand, unless it has an [IdempotencyKey]: then it is
// completed, and its answer waits for the repeat.
//
// Config.Answers keeps these answers; package answerfile does so on disk. A repeat after a crash goes on where the request was. What is inserted into a header, be it of a field or of a whole message, can't
// bring in another field.
//
// With deferred_generation the request is a message itself, and [API.Generator] is the Egress that makes messages of it later.
//
// # Administration
//
// With Config.Queue there are the operator's orders: a bounce, a suspension or a rebind is answered when it is in force and on disk, and what it means for
// waiting mail goes on in the background. Rules hold for five minutes unless the request says otherwise. Lists are streamed. What is needed
// besides the queue (Config's Compact, SetLogFilter, Activity, Xfer, traces) adds the endpoints that it can serve, and the description of the
// API has those that are there.
//
// # Inspection
//
// With Config.Queue there are KumoMTA's endpoints that look at messages, queues and connections. Answers are written while the queue is gone through, one message
// in memory at a time. GET /api/admin/explain/v1, which KumoMTA does not have, tells for an address, a queue or the id of a message (queue.Explain):
//
//	curl 'http://127.0.0.1:8000/api/admin/explain/v1?address=user@dest.example'
//	{"queue": "dest.example", "next_attempt": "2026-01-02T03:04:05Z",
//	 "holds": [{"reason": "suspended", "text": "maintenance", "until": "2026-01-02T03:04:05Z"}],
//	 "settings": [{"option": "retry_interval", "value": "5m", "by": "queue dest.example", "place": {"file": "queues.toml", "line": 5, "column": 18}}, …],
//	 "chosen_source": "ip-1", "sources": [{"name": "ip-1", "weight": 3, "share": 0.75, "hold": null, "path": […], "limits": […], …}], …}
//
// A setting without place and by is a default; next is there where the configuration says something else by now. The schema Explanation of the OpenAPI
// document has all fields.
//
// # Traces
//
// The websockets under /api/admin/trace-smtp-client/v1 and trace-smtp-server/v1 show what sessions publish in [Config].Outbound and Inbound, to those whose
// filters match. They follow KumoMTA's protocol, with two of its faults mended: filters for ready queues and recipients work. A client that does not
// keep up loses events and is told how many; no session waits for one.
//
// # Goroutines
//
// The API has none of its own, and keeps no file open, beyond a request. A websocket is one: it lasts until its client goes away or its Traces are closed.
package httpapi
