package proxy

import "github.com/prometheus/client_golang/prometheus"

// Of pods' health. Only the serving generation asks and judges.
var (
	descChecks = prometheus.NewDesc("kerngate_proxy_health_checks_total",
		"Health checks of pods, by result.", []string{"result"}, nil)
	descEjections = prometheus.NewDesc("kerngate_proxy_outliers_total",
		"Pods whose requests failed one after the other, by what was done: ejected, or kept because too few others were left.", []string{"result"}, nil)
	descIll = prometheus.NewDesc("kerngate_proxy_ill_pods",
		"Pods that are not usable, by service and reason; services without one, and those beyond the first 1000, are left out.", []string{"service", "reason"}, nil)
	descPanic = prometheus.NewDesc("kerngate_proxy_services_in_panic",
		"Services with so many ill pods that requests go to all of them.", nil, nil)
)

var healthDescs = []*prometheus.Desc{descChecks, descEjections, descIll, descPanic}

// maxIllServices bounds the series of descIll.
const maxIllServices = 1000

func (p *Proxy) collectHealth(ch chan<- prometheus.Metric) {
	if p.started.Load() == nil {
		return
	}
	m := &p.health.Metrics
	counter := func(d *prometheus.Desc, v uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), label)
	}
	counter(descChecks, m.Passed.Load(), "passed")
	counter(descChecks, m.Failed.Load(), "failed")
	counter(descEjections, m.Ejected.Load(), "ejected")
	counter(descEjections, m.Kept.Load(), "kept")
	panicking := 0
	for i, s := range p.health.Services() {
		if s.Ignored {
			panicking++
		}
		if i < maxIllServices {
			ch <- prometheus.MustNewConstMetric(descIll, prometheus.GaugeValue, float64(s.Ejected), s.Service, "ejected")
			ch <- prometheus.MustNewConstMetric(descIll, prometheus.GaugeValue, float64(s.Failed), s.Service, "check")
		}
	}
	ch <- prometheus.MustNewConstMetric(descPanic, prometheus.GaugeValue, float64(panicking))
}
