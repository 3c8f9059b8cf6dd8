package shaping

import (
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

var (
	optionNames  = datafile.Fields(&mtakit.PathConfig{})
	domainKeys   = append([]string{"mx_rollup", "replace_base", "automation", "sources"}, optionNames...)
	providerKeys = append([]string{"match", "provider_connection_limit", "provider_max_message_rate", selectionRate, "replace_base",
		"automation", "sources"}, optionNames...)
)

// readOption puts o into the options if it is one, with a good value.
func readOption(options *datafile.Value, o datafile.Entry, known []string, r *datafile.Report) {
	if checkOption(o, known, r) {
		options.Put(o)
	}
}

// checkOption reports an option that does not exist or has a bad value.
func checkOption(o datafile.Entry, known []string, r *datafile.Report) bool {
	var c mtakit.PathConfig
	exists, good := datafile.DecodeField(o, &c, r)
	if !exists {
		datafile.Unknown(o, known, r)
	}
	if !good {
		return false
	}
	why := ""
	switch o.Key {
	case "max_ready", "max_deliveries_per_connection", "max_recipients_per_batch", "smtp_port":
		if o.Value.Int < 1 {
			why = "it must be 1 or larger"
		}
	case "openssl_options":
		for name := range strings.SplitSeq(c.OpenSSLOptions, "|") {
			if !slices.Contains(openSSLOptions, strings.TrimSpace(name)) {
				why = name + " is not an OpenSSL option"
			}
		}
	case "rustls_cipher_suites":
		for i, name := range c.RustlsCipherSuites {
			if !slices.Contains(rustlsSuites, strings.ToUpper(name)) {
				r.Errorf(o.Value.Items[i].Place, "%s: %s is not a valid rustls cipher suite", o.Key, name)
				good = false
			}
		}
	}
	if why != "" {
		r.Errorf(o.Value.Place, "%s: %s", o.Key, why)
		return false
	}
	if why := withoutEffect(o); why != "" {
		r.Warnf(o.Place, "%s has no effect: %s", o.Key, why)
	}
	return good
}

// withoutEffect says why an option that is accepted changes nothing; "" if it does.
func withoutEffect(o datafile.Entry) string {
	switch {
	case o.Key == "readyq_pool_name":
		return "there are no thread pools"
	case o.Key == "dispatcher_wakeup_strategy", o.Key == "maintainer_wakeup_strategy":
		return "a message always wakes one session, or opens one"
	case o.Key == "tls_prefer_openssl":
		return "there is one TLS stack; the options of both are heeded"
	case o.Key == "enable_dane" && o.Value.Bool:
		return "DANE is not done yet; enable_tls decides"
	case o.Key == "enable_mta_sts" && o.Value.Bool:
		return "MTA-STS is not done yet; enable_tls decides"
	}
	return ""
}

var openSSLOptions = strings.Fields(`ALL NO_QUERY_MTU COOKIE_EXCHANGE NO_TICKET NO_SESSION_RESUMPTION_ON_RENEGOTIATION NO_COMPRESSION
	ALLOW_UNSAFE_LEGACY_RENEGOTIATION SINGLE_ECDH_USE SINGLE_DH_USE CIPHER_SERVER_PREFERENCE TLS_ROLLBACK_BUG NO_SSLV2 NO_SSLV3
	NO_TLSV1 NO_TLSV1_1 NO_TLSV1_2 NO_TLSV1_3 NO_DTLSV1 NO_DTLSV1_2 NO_RENEGOTIATION ENABLE_MIDDLEBOX_COMPAT PRIORITIZE_CHACHA`)

var rustlsSuites = strings.Fields(`TLS13_AES_256_GCM_SHA384 TLS13_AES_128_GCM_SHA256 TLS13_CHACHA20_POLY1305_SHA256
	TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256`)
