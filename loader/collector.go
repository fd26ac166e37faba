package loader

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/loader/inspect"
)

var (
	packetsDesc = prometheus.NewDesc("kerngate_kernel_packets_total",
		"Packets and connection attempts by the program that judged them and why it ended.",
		[]string{"program", "reason"}, nil)
	entriesDesc = prometheus.NewDesc("kerngate_kernel_map_entries",
		"Entries in use, those in their grace time included.", []string{"map"}, nil)
	maxEntriesDesc = prometheus.NewDesc("kerngate_kernel_map_max_entries",
		"Entries that the map can hold.", []string{"map"}, nil)
	joinsDesc = prometheus.NewDesc("kerngate_kernel_sk_msg_total",
		"Connections that proxies asked to have joined with pods of this node, and their messages, by what became of them; with --sk-msg, since the agent's start.",
		[]string{"event"}, nil)
	bytesDesc = prometheus.NewDesc("kerngate_kernel_map_bytes",
		"Memory that the kernel keeps for the map.", []string{"map"}, nil)
)

// MapUse is how full a map is.
type MapUse struct {
	Name       string
	Entries    int64 // in use; -1 where counting means nothing
	MaxEntries uint32
	Bytes      uint64 // 0: the kernel does not tell
}

// Memory returns how full the maps are and what memory they take.
func (d *Datapath) Memory() []MapUse {
	d.mu.Lock()
	defer d.mu.Unlock()
	services, backends, slots := d.registry.Len()
	entries := map[string]int{
		"kg_services": services, "kg_service_names": services, "kg_backends": backends, "kg_slots": slots,
		"kg_listeners": d.hashes.listeners.Len(), "kg_addresses": d.hashes.addresses.Len(),
		"kg_deny": d.hashes.deny.Len(), "kg_allow": d.hashes.allow.Len(), "kg_sources": d.hashes.sources.Len(),
		"kg_flows": d.flows.total, "kg_loose": d.loose.total,
	}
	var out []MapUse
	for name, m := range d.maps.All() {
		use := MapUse{Name: name, Entries: -1, MaxEntries: m.MaxEntries()}
		if n, ok := entries[name]; ok {
			use.Entries = int64(n)
		}
		if info, err := m.Info(); err == nil {
			use.Bytes, _ = info.Memlock()
		}
		out = append(out, use)
	}
	return out
}

// Collector returns the kernel's counters and the maps' fill as metrics, read at each
// scrape. It must not be scraped after Close.
func (d *Datapath) Collector() prometheus.Collector { return collector{d} }

type collector struct{ *Datapath }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{packetsDesc, entriesDesc, maxEntriesDesc, bytesDesc, joinsDesc} {
		ch <- desc
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	counters, err := inspect.ReadCounters(c.maps.Counters)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(packetsDesc, err)
	}
	for _, n := range counters {
		ch <- prometheus.MustNewConstMetric(packetsDesc, prometheus.CounterValue, float64(n.Packets), n.Program, n.Reason)
	}
	if c.joins != nil {
		c.collectJoins(ch)
	}
	for _, use := range c.Memory() {
		if use.Entries >= 0 {
			ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(use.Entries), use.Name)
		}
		ch <- prometheus.MustNewConstMetric(maxEntriesDesc, prometheus.GaugeValue, float64(use.MaxEntries), use.Name)
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(use.Bytes), use.Name)
	}
}

func (c collector) collectJoins(ch chan<- prometheus.Metric) {
	n, err := c.joins.Counters()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(joinsDesc, err)
		return
	}
	for event, count := range map[string]uint64{
		"asked": n.Asked, "joined": n.Joined, "full": n.Full, "past_tcp": n.PastTCP, "by_tcp": n.ByTCP,
		"window_full": n.WindowFull, "no_peer": n.NoPeer,
	} {
		ch <- prometheus.MustNewConstMetric(joinsDesc, prometheus.CounterValue, float64(count), event)
	}
}
