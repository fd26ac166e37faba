package model

import (
	"fmt"
	"strings"
)

// dumpHealth writes how it is found out which pods are ill, one fact a line.
func dumpHealth(b *strings.Builder, h *HealthCheck, o Outlier) {
	if h != nil {
		fmt.Fprintf(b, "  health %s\n", h)
	}
	if o != (Outlier{}) {
		fmt.Fprintf(b, "  outliers %s\n", o)
	}
}

// String returns the kind and what differs from the proxies' defaults.
func (h HealthCheck) String() string {
	text := [...]string{CheckHTTP: "http", CheckTCP: "tcp", CheckGRPC: "grpc"}[h.Kind]
	if h.Path != "" {
		text += ":" + h.Path
	}
	if h.Host != "" {
		text += " host " + h.Host
	}
	if h.Port != 0 {
		text += fmt.Sprintf(" port %d", h.Port)
	}
	if h.Interval != 0 {
		text += fmt.Sprintf(" each %s", h.Interval)
	}
	if h.Timeout != 0 {
		text += fmt.Sprintf(" within %s", h.Timeout)
	}
	if h.Unhealthy != 0 || h.Healthy != 0 {
		text += fmt.Sprintf(" out after %d, back after %d", h.Unhealthy, h.Healthy)
	}
	return text
}

// String returns what differs from the proxies' defaults; 0 is the default.
func (o Outlier) String() string {
	if o.Off {
		return "off"
	}
	text := fmt.Sprintf("consecutive %d ejection %s most-percent %d", o.Consecutive, o.Ejection, o.MostPercent)
	if o.ServerErrors {
		text += " server-errors"
	}
	return text
}
