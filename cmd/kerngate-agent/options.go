package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/userspace/control/agent"
	"github.com/kerngate/kerngate/userspace/control/cluster"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/compression"
	"github.com/kerngate/kerngate/userspace/text/logformat"
	"github.com/kerngate/kerngate/userspace/text/otlp"
)

// options are the checked meaning of the flags.
type options struct {
	flags          *flags
	loader         loader.Options
	feed           feed.Options
	kube           kube.Options
	node           compile.Node
	settings       *feedpb.Settings
	defaultFiles   *agent.CertificateFiles // nil: not given as files
	child          *agent.Child            // nil: proxies are started by somebody else
	metricsAddress string
	log            zerolog.Logger
}

// options checks the flags, after those that a configuration file adds.
func (f *flags) options(e env) (*options, error) {
	if f.config != "" {
		if err := readConfig(f.config, f.set); err != nil {
			return nil, err
		}
	}
	level, err := zerolog.ParseLevel(f.logLevel)
	if err != nil || level < zerolog.DebugLevel || level > zerolog.ErrorLevel {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	o := &options{
		flags:          f,
		metricsAddress: f.metricsAddress,
		log:            zerolog.New(e.stderr).Level(level).With().Timestamp().Str("component", "agent").Int("pid", os.Getpid()).Logger(),
	}
	o.loader = loader.Options{
		BPFFS: f.bpffs, Interfaces: f.interfaces, XDPMode: attach.XDPMode(f.xdpMode),
		MaxServices: f.maxServices, MaxBackends: f.maxBackends, MaxSlots: f.maxSlots, MaxPrefixes: f.maxPrefixes, MaxSources: f.maxSources, MaxFlows: f.maxFlows,
		L4Hook: attach.L4Hook(f.l4.hook), Notrack: f.notrack,
		Log: o.log,
	}
	f.defence.load(&o.loader)
	if err := checkLoader(o.loader); err != nil {
		return nil, err
	}
	uid, gid, err := parseUser(f.proxyUser)
	if err != nil {
		return nil, err
	}
	o.loader.SkMsg = loader.SkMsg{On: f.skMsg, UID: uint32(uid), Cgroup: f.cgroup}
	o.feed = feed.Options{Path: f.socket, ProxyUID: uid, ProxyGID: gid}
	if f.uninstall {
		return o, nil
	}
	for _, check := range []func() error{
		func() error { return o.checkSource(e) },
		o.checkNode,
		o.checkSettings,
		o.checkDefence,
		o.checkL4,
		o.checkFabric,
		o.checkTLS,
		func() error { return o.checkChild(e, uid, gid) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func checkLoader(l loader.Options) error {
	switch l.XDPMode {
	case attach.XDPAuto, attach.XDPNative, attach.XDPGeneric, attach.XDPOff:
	default:
		return fmt.Errorf("--xdp-mode %q: want auto, native, generic or off", l.XDPMode)
	}
	switch l.L4Hook {
	case attach.L4Auto, attach.L4XDP, attach.L4TC:
	default:
		return fmt.Errorf("--l4-hook %q: want auto, xdp or tc", l.L4Hook)
	}
	for flag, size := range map[string]int{
		"max-services": l.MaxServices, "max-backends": l.MaxBackends, "max-slots": l.MaxSlots,
		"max-prefixes": l.MaxPrefixes, "max-sources": l.MaxSources, "max-flows": l.MaxFlows,
	} {
		if size < 0 || size == 1 {
			return fmt.Errorf("--%s %d: want 2 or more, or 0 for the default", flag, size)
		}
	}
	return nil
}

func (o *options) checkSource(e env) error {
	f := o.flags
	if f.manifests != "" && f.kubeconfig != "" {
		return errors.New("--manifests and --kubeconfig exclude each other")
	}
	if f.manifests != "" {
		if info, err := os.Stat(f.manifests); err != nil {
			return fmt.Errorf("--manifests: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("--manifests %s: not a folder", f.manifests)
		}
	}
	if f.nodeName == "" {
		f.nodeName, _ = e.hostname() // unknown: no pod is local
	}
	if f.leaseNamespace == "" {
		f.leaseNamespace = cluster.Namespace()
	}
	algorithm, err := model.ParseAlgorithm(f.loadBalancing)
	if err != nil {
		return fmt.Errorf("--load-balancing: %w", err)
	}
	shared, err := kube.ParseSharedHosts(f.sharedHosts)
	if err != nil {
		return fmt.Errorf("--shared-hosts: %w", err)
	}
	o.kube = kube.Options{
		Class: f.ingressClass, WithoutClass: f.withoutClass, NoCatchAll: f.noCatchAll, SharedHosts: shared, AllowExternalName: f.allowExternalName, StrictAnnotations: f.strictAnnotations, AllowedResponseHeaders: f.allowedFields,
		NamespaceBytes: f.namespaceBytes,
		Node:           f.nodeName, Algorithm: algorithm, PreferLocal: f.preferLocal,
	}
	if f.namespaceSelector != "" {
		if o.kube.NamespaceSelector, err = labels.Parse(f.namespaceSelector); err != nil {
			return fmt.Errorf("--watch-namespace-selector: %w", err)
		}
	}
	if f.namespaceBytes < 0 {
		return fmt.Errorf("--namespace-config-bytes %d: want 0 or more", f.namespaceBytes)
	}
	if f.ingressClass == "" {
		return errors.New("--ingress-class must not be empty")
	}
	if f.defaultBackend != "" {
		if o.kube.DefaultBackend, err = kube.ParseServiceKey(f.defaultBackend); err != nil {
			return fmt.Errorf("--default-backend: %w", err)
		}
	}
	return nil
}

func (o *options) checkNode() error {
	f := o.flags
	if f.httpPort == f.httpsPort && f.httpPort != 0 {
		return fmt.Errorf("--http-port and --https-port are both %d", f.httpPort)
	}
	for _, text := range f.ingressIPs {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--ingress-ip %q: not an IPv4 or IPv6 address", text)
		}
		address = address.Unmap()
		if address.IsUnspecified() || address.IsMulticast() || address.IsLinkLocalUnicast() || address.Zone() != "" {
			return fmt.Errorf("--ingress-ip %s: not an address that clients could reach", text)
		}
		o.node.Addresses = append(o.node.Addresses, address)
	}
	if len(o.node.Addresses) == 0 {
		return errors.New("--ingress-ip: at least one address is needed")
	}
	o.kube.Listeners = model.IngressListeners(o.node.Addresses, f.httpPort, f.httpsPort, f.http3)
	return nil
}

func (o *options) checkSettings() (err error) {
	f := o.flags
	s := &feedpb.Settings{}
	o.settings = s
	for _, t := range []struct {
		flag string
		from time.Duration
		to   *uint32
	}{
		{"head-timeout", f.headTimeout, &s.HeadTimeoutMs},
		{"idle-timeout", f.idleTimeout, &s.IdleTimeoutMs},
		{"connect-timeout", f.connectTimeout, &s.ConnectTimeoutMs},
		{"first-connect-timeout", f.firstConnect, &s.FirstConnectTimeoutMs},
		{"response-timeout", f.responseTimeout, &s.ResponseTimeoutMs},
		{"body-timeout", f.bodyTimeout, &s.BodyTimeoutMs},
		{"tunnel-timeout", f.tunnelTimeout, &s.TunnelTimeoutMs},
		{"drain-timeout", f.drainTimeout, &s.DrainTimeoutMs},
	} {
		if t.from < time.Millisecond || t.from.Milliseconds() > math.MaxUint32 {
			return fmt.Errorf("--%s %v: want 1ms to 1193h", t.flag, t.from)
		}
		*t.to = uint32(t.from.Milliseconds())
	}
	if f.maxBody < 0 {
		return fmt.Errorf("--max-body %d: must not be negative", f.maxBody)
	}
	s.MaxBodyBytes = uint64(f.maxBody)
	if err := f.checkRequestBuffers(s); err != nil {
		return err
	}
	if f.maxConnections != 0 && f.maxConnections < 16 || f.maxConnections > math.MaxInt32 {
		return fmt.Errorf("--max-connections %d: want 16 to %d, or 0 for as many as descriptors allow", f.maxConnections, math.MaxInt32)
	}
	s.MaxConnections = uint32(f.maxConnections)
	if f.maxPerSource < 0 || f.maxPerSource > math.MaxInt32 {
		return fmt.Errorf("--max-connections-per-source %d: want 1 to %d, or 0 for no bound", f.maxPerSource, math.MaxInt32)
	}
	s.MaxConnectionsPerSource = uint32(f.maxPerSource)
	if f.minRequestRate < 0 || f.minRequestRate > math.MaxInt32 {
		return fmt.Errorf("--min-request-rate %d: want bytes per second up to %d, or 0 for no minimum", f.minRequestRate, math.MaxInt32)
	}
	s.MinRequestRate = uint32(f.minRequestRate)
	if f.minResponseRate < 0 || f.minResponseRate > math.MaxInt32 {
		return fmt.Errorf("--min-response-rate %d: want bytes per second up to %d, or 0 for no minimum", f.minResponseRate, math.MaxInt32)
	}
	s.MinResponseRate = uint32(f.minResponseRate)
	if !(f.traceRatio >= 0 && f.traceRatio <= 1) {
		return fmt.Errorf("--trace-ratio %v: want 0 to 1", f.traceRatio)
	}
	if f.otlpEndpoint != "" {
		if _, err := otlp.ParseEndpoint(f.otlpEndpoint); err != nil {
			return fmt.Errorf("--otlp-endpoint %q: %w", f.otlpEndpoint, err)
		}
		s.TraceEndpoint, s.TraceRatio, s.TraceTrust = f.otlpEndpoint, f.traceRatio, f.traceTrust
	}
	if f.divideLimits != "" {
		namespace, name, ok := strings.Cut(f.divideLimits, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("--divide-limits %q: want NAMESPACE/NAME", f.divideLimits)
		}
		o.kube.ProxyService = f.divideLimits
	}
	if f.maxHead < 1<<10 || f.maxHead > 1<<20 {
		return fmt.Errorf("--max-head %d: want 1024 to 1048576", f.maxHead)
	}
	if f.maxResponseHead < 1<<10 || f.maxResponseHead > 1<<20 {
		return fmt.Errorf("--max-response-head %d: want 1024 to 1048576", f.maxResponseHead)
	}
	if f.maxFields < 16 || f.maxFields > 1<<16 {
		return fmt.Errorf("--max-fields %d: want 16 to 65536", f.maxFields)
	}
	s.MaxHeadBytes, s.MaxResponseHeadBytes, s.MaxFields = uint32(f.maxHead), uint32(f.maxResponseHead), uint32(f.maxFields)
	if _, err := logformat.Parse(f.accessLogFormat); err != nil {
		return fmt.Errorf("--access-log-format: %w", err)
	}
	if f.accessLogFormat != logformat.JSON {
		s.AccessLogFormat = f.accessLogFormat
	}
	switch f.accessLog {
	case "off":
	case "on":
		s.AccessLogSample = 1
	default:
		n, err := strconv.ParseUint(f.accessLog, 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("--access-log %q: want off, on or a number", f.accessLog)
		}
		s.AccessLogSample = uint32(n)
	}
	s.Compression, err = compressionOf(f)
	return err
}

// checkRequestBuffers reads what becomes of request bodies that have no Content-Length.
func (f *flags) checkRequestBuffers(s *feedpb.Settings) error {
	const least = 256 << 10 // room for a few requests at once
	switch {
	case f.requestBuffer < 0:
		return fmt.Errorf("--request-buffer-bytes %d: must not be negative", f.requestBuffer)
	case f.requestBuffers < max(least, f.requestBuffer):
		return fmt.Errorf("--request-buffer-total %d: want at least %d, and --request-buffer-bytes", f.requestBuffers, least)
	case f.largeRequests != "spool" && f.largeRequests != "refuse" && f.largeRequests != "chunked":
		return fmt.Errorf("--large-requests %q: want spool, refuse or chunked", f.largeRequests)
	case f.spoolTotal < model.LeastSpool:
		return fmt.Errorf("--request-spool-total %d: want at least %d", f.spoolTotal, model.LeastSpool)
	}
	size := uint64(f.requestBuffer)
	s.RequestBufferBytes, s.RequestBufferTotal = &size, uint64(f.requestBuffers)
	s.LargeRequestsChunked, s.LargeRequestsRefused = f.largeRequests == "chunked", f.largeRequests == "refuse"
	return nil
}

// compressionOf returns what the flags say of compression, nil if that is nothing.
func compressionOf(f *flags) (*feedpb.Compression, error) {
	if _, err := compression.ParseEncodings(f.compression); err != nil {
		return nil, fmt.Errorf("--compression: %w", err)
	}
	for _, name := range f.compressedTypes {
		if _, err := compression.ParseType(name); err != nil {
			return nil, fmt.Errorf("--compression-types: %w", err)
		}
	}
	if f.compressedFrom < 1 {
		return nil, fmt.Errorf("--compression-min-bytes %d: want at least 1", f.compressedFrom)
	}
	if len(f.compression)+len(f.compressedTypes) == 0 && f.compressedFrom == compression.DefaultMinBytes {
		return nil, nil
	}
	return &feedpb.Compression{Encodings: f.compression, Types: f.compressedTypes, MinBytes: uint64(f.compressedFrom)}, nil
}

func (o *options) checkChild(e env, uid, gid int) error {
	f := o.flags
	run := f.runProxy
	if !f.set.Changed("run-proxy") {
		run = f.manifests != ""
	}
	switch {
	case !run && f.spoolDir != "":
		return errors.New("--request-spool-dir is for a child proxy; without --run-proxy give it to kerngate-proxy")
	case !run:
		return nil
	case f.spoolDir == "" && f.set.Changed("large-requests") && f.largeRequests == "spool":
		return errors.New("--large-requests=spool needs --request-spool-dir")
	}
	if f.proxyWorkers < 0 {
		return fmt.Errorf("--proxy-workers %d: must not be negative", f.proxyWorkers)
	}
	path := f.proxyBinary
	if path == "" {
		own, err := e.executable()
		if err != nil {
			return fmt.Errorf("--proxy-binary is needed: %w", err)
		}
		path = filepath.Join(filepath.Dir(own), "kerngate-proxy")
	}
	if path, err := filepath.Abs(path); err != nil {
		return fmt.Errorf("--proxy-binary: %w", err)
	} else if info, err := os.Stat(path); err != nil || info.IsDir() {
		return fmt.Errorf("--proxy-binary: there is no kerngate-proxy at %s; say where it is, or --run-proxy=false", path)
	} else {
		o.child = &agent.Child{Path: path}
	}
	socket, err := filepath.Abs(f.socket)
	if err != nil {
		return fmt.Errorf("--socket: %w", err)
	}
	o.child.Args = []string{
		"--socket", socket, "--workers", strconv.Itoa(f.proxyWorkers),
		"--metrics-address", f.proxyMetrics, "--log-level", f.logLevel,
	}
	if f.spoolDir != "" {
		dir, err := filepath.Abs(f.spoolDir)
		if err != nil {
			return fmt.Errorf("--request-spool-dir: %w", err)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("--request-spool-dir: there is no folder %s; make one that UID %d can write to", dir, uid)
		}
		o.child.Args = append(o.child.Args, "--request-spool-dir", dir, "--request-spool-total", strconv.FormatInt(f.spoolTotal, 10))
	}
	o.child.UID, o.child.GID = uid, gid
	o.child.Stdout, o.child.Stderr = e.stdout, e.stderr
	o.child.Log, o.child.Replace = o.log, e.replace
	return nil
}

func parseUser(text string) (uid, gid int, err error) {
	user, group, hasGroup := strings.Cut(text, ":")
	if !hasGroup {
		group = user
	}
	u, err := strconv.ParseUint(user, 10, 31)
	g, groupErr := strconv.ParseUint(group, 10, 31)
	if err != nil || groupErr != nil {
		return 0, 0, fmt.Errorf("--proxy-user %q: want UID or UID:GID, as numbers", text)
	}
	if u == 0 {
		return 0, 0, fmt.Errorf("--proxy-user %q: the proxy faces the internet and must not be root", text)
	}
	return int(u), int(g), nil
}
