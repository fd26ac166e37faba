package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/pod/subrequest"
)

// Of the names that the proxy's own requests go to.
var (
	descLookups = prometheus.NewDesc("kerngate_proxy_name_lookups_total",
		"Host names of external services that were looked up, by result.", []string{"result"}, nil)
	descStaleNames = prometheus.NewDesc("kerngate_proxy_stale_names_total",
		"Connections to external services by an earlier answer, because no DNS server gave one.", nil, nil)
)

func collectNames(counter func(*prometheus.Desc, uint64, ...string)) {
	s := &subrequest.Names.Stats
	counter(descLookups, s.Found.Load(), "found")
	counter(descLookups, s.Missing.Load(), "missing")
	counter(descLookups, s.Failed.Load(), "failed")
	counter(descStaleNames, s.Stale.Load())
}
