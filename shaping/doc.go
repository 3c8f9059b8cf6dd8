// Package shaping reads shaping files: for each destination domain, provider and source how many connections, how many
// messages a second, which TLS, which time limits. They are those of KumoMTA, in TOML or JSON.
//
//	["default"]
//	connection_limit = 10
//
//	["dest.example"]                       # and every domain with the same MX hosts
//	max_message_rate = "50/s"
//
//	["dest.example".sources."ip-1"]        # from that source only
//	connection_limit = 2
//
//	[provider."bigmail"]                   # all domains whose hosts are theirs
//	match = [{MXSuffix = ".mx.bigmail.example"}]
//	provider_connection_limit = 20
//
// [Load] reads a list of files, later ones merged over earlier ones, and tells everything that is wrong with them as
// FILE:LINE:COL: text ([mtakit.Findings]). [Shaping.Path] is what a queue asks for its paths:
//
//	live, err := shaping.Watch(ctx, shaping.Config{Files: files, Router: router}, nil)
//	go live.Run(ctx)
//	queue.New(queue.Config{Policy: queue.Policy{Path: live.Path}, …})
//
// # What wins
//
// From weak to strong: default; providers that match the domain, in the order of the files; the blocks of these providers for
// the source; the block of the site; the block of the domain (mx_rollup = false); the site's and then the domain's block for the
// source. A block with replace_base = true, in the first file that has it, forgets everything before it.
//
// # Automation
//
// Rules under automation are read, checked and handed out by [Shaping.Rules]; they have an effect where traffic shaping automation
// evaluates them. Names of files that begin with http:// or https:// are refused.
//
// A [Shaping] does not change and starts no goroutine; [Live.Run] is the caller's. After a match of a [Pattern] that needs backtracking
// the clock of regexp2 runs for a second more, in a goroutine of that module.
package shaping
