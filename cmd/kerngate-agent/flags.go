package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/compression"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

// flags are the command line as it is written; options are what it means.
type flags struct {
	set  *pflag.FlagSet
	work func() error

	config    string
	uninstall bool

	manifests, kubeconfig string
	ingressClass          string
	defaultBackend        string
	allowExternalName     bool
	sharedHosts           string
	allowDestinations     []string
	strictAnnotations     bool
	allowedFields         []string
	publishStatus         bool
	leaseNamespace        string
	nodeName              string
	loadBalancing         string
	preferLocal           bool

	defaultCertificate string
	tlsMinVersion      string
	tlsSuites          []string
	hsts               string
	ocsp               bool
	http3              bool
	disableHTTP2       bool
	maxStreams         uint32
	trustedProxies     []string
	proxyProtocolFrom  []string

	ingressIPs  []string
	httpPort    uint16
	httpsPort   uint16
	interfaces  []string
	xdpMode     string
	deny, allow []string
	defence     defenceFlags
	l4          l4Flags
	fabric      fabricFlags

	bpffs       string
	socket      string
	maxServices int
	maxBackends int
	maxSlots    int
	maxPrefixes int
	maxSources  int
	maxFlows    int
	notrack     bool
	skMsg       bool
	cgroup      string

	runProxy     bool
	proxyBinary  string
	proxyUser    string
	proxyWorkers int
	proxyMetrics string

	headTimeout     time.Duration
	idleTimeout     time.Duration
	connectTimeout  time.Duration
	responseTimeout time.Duration
	bodyTimeout     time.Duration
	tunnelTimeout   time.Duration
	drainTimeout    time.Duration
	maxBody         int64
	maxConnections  int
	maxPerSource    int
	minRequestRate  int
	publicHTTPS     uint16
	requestBuffer   int64
	requestBuffers  int64
	largeRequests   string
	spoolDir        string
	spoolTotal      int64
	otlpEndpoint    string
	traceRatio      float64
	traceTrust      bool
	divideLimits    string
	maxHead         int
	maxResponseHead int
	maxFields       int
	accessLog       string
	accessLogFormat string
	compression     []string
	compressedTypes []string
	compressedFrom  int64

	metricsAddress string
	logLevel       string
}

func command(e env) (*cobra.Command, *flags) {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "kerngate-agent",
		Short: "Keep this node's maps and proxies as a cluster or a folder of manifests says",
		Long: `kerngate-agent publishes the Ingresses of a cluster, or of a folder of manifests, on this
node: it loads the programs into the kernel, keeps their maps up to date, and tells
kerngate-proxy what to route where. It serves no clients itself, and what it made stays
in force when it ends.

It needs root, or the capabilities BPF, PERFMON, NET_ADMIN and CHOWN (and SETUID, SETGID
and KILL with --run-proxy). SIGTERM ends it; with --run-proxy its proxy drains first. SIGHUP starts
a new proxy (say, of a new version), to which new connections then move.`,
		Example: `  # Without Kubernetes: serve the manifests of a folder on 192.0.2.10, and run a proxy.
  kerngate-agent --manifests ./manifests --ingress-ip 192.0.2.10

  # For the cluster that a kubeconfig names; the proxy is started by somebody else.
  kerngate-agent --kubeconfig ~/.kube/config --ingress-ip 192.0.2.10 --interface eth0

  # In a pod, with the settings in a file that takes the same names.
  kerngate-agent --config /etc/kerngate/config.yaml --node-name "$NODE_NAME"

  # HTTPS with a default certificate from files, HTTP/3, behind load balancers that send a
  # PROXY header.
  kerngate-agent --manifests ./manifests --ingress-ip 192.0.2.10 \
    --default-certificate /etc/kerngate/tls.crt,/etc/kerngate/tls.key \
    --http3 --proxy-protocol-from 10.0.0.0/8

  # Remove everything that was made in the kernel.
  kerngate-agent --uninstall`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return f.work() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f.set = cmd.Flags()
	f.define()
	return cmd, f
}

func (f *flags) define() {
	s := f.set
	s.SortFlags = false
	s.StringVar(&f.config, "config", "", "YAML file with the same names as these flags; flags go before it")
	s.BoolVar(&f.uninstall, "uninstall", false, "remove programs, maps, pins and routes from the kernel, and exit")

	s.StringVar(&f.manifests, "manifests", "", "folder of manifests to serve; it is watched")
	s.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file of the cluster to serve; without it and --manifests: the cluster this pod runs in")
	s.StringVar(&f.ingressClass, "ingress-class", "kerngate", "name of the IngressClass to serve")
	s.StringVar(&f.defaultBackend, "default-backend", "", "NAMESPACE/NAME:PORT of the Service that answers what no route matches; empty: 404")
	s.StringSliceVar(&f.allowedFields, "global-allowed-response-headers", nil, "fields that the annotation custom-headers may set, separated by commas; none: all but those that are the proxy's own")
	s.BoolVar(&f.strictAnnotations, "strict-annotations", false, "serve no Ingress that has an annotation of ingress-nginx which is not honoured")
	s.StringSliceVar(&f.allowDestinations, "allow-destinations", nil, "prefixes of loopback, the link, this node or the ingress to which tenants may have requests sent all the same (auth-url, mirror-target, EndpointSlices, ExternalName)")
	s.StringVar(&f.sharedHosts, "shared-hosts", "warn", "what becomes of paths that an Ingress adds to a host of another namespace, which is that of the oldest Ingress with a rule for it: allow, warn (served, with a problem on both) or deny; annotation kerngate.dev/share-host-with names guests")
	s.BoolVar(&f.allowExternalName, "allow-external-name", false, "forward to Services of type ExternalName that hold an address")
	s.BoolVar(&f.publishStatus, "publish-status", true, "write the ingress addresses to the status of served Ingresses (cluster only)")
	s.StringVar(&f.leaseNamespace, "lease-namespace", "", "namespace of the Lease by which agents agree who writes events and status (default the pod's own, else kerngate-system)")
	s.StringVar(&f.nodeName, "node-name", "", "name of this node; pods on it are local (default the host's name)")
	s.StringVar(&f.loadBalancing, "load-balancing", "p2c", "p2c (power of two choices over requests in flight), round-robin or ewma (of two the one that answers sooner); per Service: annotation kerngate.dev/load-balancing")
	s.BoolVar(&f.preferLocal, "prefer-local", false, "use pods of this node while there is one; per Service: annotation kerngate.dev/prefer-local")

	s.StringArrayVar(&f.ingressIPs, "ingress-ip", nil, "address that is published, IPv4 or IPv6; repeatable, at least one is needed")
	s.Uint16Var(&f.httpPort, "http-port", 80, "port for HTTP on the ingress addresses; 0: none")
	s.Uint16Var(&f.httpsPort, "https-port", 443, "port for HTTPS on the ingress addresses; 0: none")
	s.StringArrayVar(&f.interfaces, "interface", nil, "uplink on which packets to the ingress addresses are judged and L4 services forwarded (kg_xdp, or kg_ingress in tc); repeatable")
	s.StringVar(&f.xdpMode, "xdp-mode", string(loader.XDPAuto), "where kg_xdp runs: auto (in the driver, or behind it; on virtual cables kg_ingress does its work), native (in the driver or not at all), generic or off")
	s.StringArrayVar(&f.deny, "deny", nil, "source prefix whose packets to the ingress addresses are dropped; repeatable, needs --interface")
	s.StringArrayVar(&f.allow, "allow", nil, "source prefix that is excepted from --deny; repeatable")
	f.defence.define(s)

	s.BoolVar(&f.notrack, "notrack", false, "keep connections to the ingress addresses out of the kernel's connection tracking (nf_tables), except those of L4 services; a firewall on the node must then let them in without looking at their state")
	s.BoolVar(&f.skMsg, "sk-msg", false, "let the kernel hand data between the proxy and pods of this node over past TCP, if it passes a self-test; per Service: annotation kerngate.dev/sk-msg")
	s.StringVar(&f.cgroup, "cgroup", "", "cgroup v2 folder that all pods of this node are below, for --sk-msg (default the root of those mounted)")

	f.l4.define(s)
	f.fabric.define(s)
	s.StringVar(&f.defaultCertificate, "default-certificate", "", "certificate for names that no Ingress has one for: NAMESPACE/SECRET, or CHAIN,KEY (two PEM files, read again when they change); empty: self-signed")
	s.StringVar(&f.tlsMinVersion, "tls-min-version", "1.2", "1.2 or 1.3")
	s.StringArrayVar(&f.tlsSuites, "tls-suite", nil, "cipher suite of TLS 1.2 to offer, such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; repeatable; none: all that are sound. Those of TLS 1.3 cannot be chosen")
	s.StringVar(&f.hsts, "hsts", "", "Strict-Transport-Security of answers over TLS, such as \"max-age=31536000; includeSubDomains\"; empty: none")
	s.BoolVar(&f.ocsp, "ocsp", false, "fetch OCSP responses for certificates that name a responder, and staple them; the agent then calls out over HTTP")
	s.BoolVar(&f.http3, "http3", false, "serve HTTP/3 (QUIC) on --https-port over UDP too, and say so in Alt-Svc")
	s.BoolVar(&f.disableHTTP2, "disable-http2", false, "speak HTTP/1.1 alone to clients, over TLS and in clear text")
	s.Uint32Var(&f.maxStreams, "max-streams", 128, "requests at once of one HTTP/2 or HTTP/3 connection")
	s.StringArrayVar(&f.trustedProxies, "trusted-proxy", nil, "prefix of proxies in front whose X-Forwarded-* and Forwarded are believed, such as 10.0.0.0/8; repeatable; all others' are replaced")
	s.StringArrayVar(&f.proxyProtocolFrom, "proxy-protocol-from", nil, "prefix of proxies in front whose connections must begin with a PROXY header, version 1 or 2; repeatable; all others' must not")

	s.StringVar(&f.bpffs, "bpffs", loader.DefaultBPFFS, "folder on a bpf file system where maps and links are pinned")
	s.StringVar(&f.socket, "socket", "/run/kerngate/agent.sock", "unix socket for proxies and kerngatectl")
	s.IntVar(&f.maxServices, "max-services", 0, "size of kg_services when it is made, half of kg_listeners and four times kg_addresses; 0: the default")
	s.IntVar(&f.maxBackends, "max-backends", 0, "size of kg_backends when it is made; 0: the default")
	s.IntVar(&f.maxSlots, "max-slots", 0, "size of kg_slots when it is made; 0: the default")
	s.IntVar(&f.maxPrefixes, "max-prefixes", 0, "size of kg_deny and kg_allow when they are made; 0: the default")
	s.IntVar(&f.maxSources, "max-sources", 0, "size of kg_rate when it is made: cells in which sources are counted, two of them each; 0: the default")
	s.IntVar(&f.maxFlows, "max-flows", 0, "size of kg_flows when it is made, two per L4 connection of TCP; kg_loose (UDP, DSR) has half of it; 0: the default")

	s.BoolVar(&f.runProxy, "run-proxy", false, "start kerngate-proxy as an unprivileged child and keep it running (default true with --manifests)")
	s.StringVar(&f.proxyBinary, "proxy-binary", "", "kerngate-proxy (default the one beside this executable)")
	s.StringVar(&f.proxyUser, "proxy-user", "65532:65532", "UID or UID:GID of proxies: who may connect to the socket, and as whom --run-proxy starts them")
	s.IntVar(&f.proxyWorkers, "proxy-workers", 0, "--workers of the child proxy; 0: one per CPU")
	s.StringVar(&f.proxyMetrics, "proxy-metrics-address", "127.0.0.1:9465", "--metrics-address of the child proxy")

	s.DurationVar(&f.headTimeout, "head-timeout", 15*time.Second, "to read a request head")
	s.DurationVar(&f.idleTimeout, "idle-timeout", 75*time.Second, "between requests of a client connection")
	s.DurationVar(&f.connectTimeout, "connect-timeout", 5*time.Second, "to connect to a pod")
	s.DurationVar(&f.responseTimeout, "response-timeout", 60*time.Second, "between bytes of a response")
	s.DurationVar(&f.bodyTimeout, "body-timeout", 60*time.Second, "between bytes of a request body")
	s.DurationVar(&f.tunnelTimeout, "tunnel-timeout", time.Hour, "between bytes of a WebSocket or another upgraded connection, either way")
	s.DurationVar(&f.drainTimeout, "drain-timeout", 240*time.Second, "a proxy that was replaced may take to finish what is open")
	s.Int64Var(&f.maxBody, "max-body", 0, "bytes of the largest request body, 413 above; 0: no limit")
	s.Int64Var(&f.requestBuffer, "request-buffer-bytes", 4<<20, "of a request body without Content-Length that are held in memory, so that a pod that speaks HTTP/1.1 gets its length; 0: pods get such bodies in chunks")
	s.Int64Var(&f.requestBuffers, "request-buffer-total", 64<<20, "bytes that one proxy worker holds of such bodies in memory; when this runs short large ones are spooled or get 503. Bodies that have come by HTTP/2 and HTTP/3 and wait for their pods may take twice as much beside them")
	s.StringVar(&f.largeRequests, "large-requests", "spool", "what becomes of a body without Content-Length that is larger than --request-buffer-bytes: spool (to a file where the proxy has --request-spool-dir, else refuse), refuse (411) or chunked (the pod gets it in chunks, which some applications read as an empty body); per Ingress: nginx.ingress.kubernetes.io/proxy-request-buffering \"off\" where the pods take chunks")
	s.StringVar(&f.spoolDir, "request-spool-dir", "", "--request-spool-dir of the child proxy: folder on a disk, writable for --proxy-user, where such bodies are kept in files without a name; empty: they get 411")
	s.Int64Var(&f.spoolTotal, "request-spool-total", model.DefaultSpool, "--request-spool-total of the child proxy: bytes that it keeps there at most")
	s.StringVar(&f.otlpEndpoint, "otlp-endpoint", "", "URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://collector:4318; empty: requests are not traced")
	s.Float64Var(&f.traceRatio, "trace-ratio", 0.01, "of the requests that begin a trace: so many are sampled, 0 to 1")
	s.BoolVar(&f.traceTrust, "trace-trust", false, "continue the traces that clients say their requests belong to; per Ingress: nginx.ingress.kubernetes.io/opentelemetry-trust-incoming-span")
	s.StringVar(&f.divideLimits, "divide-limits", "", "NAMESPACE/NAME of the Service whose ready nodes share limits of requests, such as kerngate-system/kerngate: each of N takes an Nth; empty: every node allows all of a limit")
	s.IntVar(&f.maxPerSource, "max-connections-per-source", 0, "TCP connections of one client address, or one /64 of IPv6, to one worker of a proxy; more are closed at once; 0: no bound, but above nine tenths of --max-connections those who have most lose theirs first, and no address gets more than half. Addresses of --trusted-proxy and --proxy-protocol-from have no bound")
	s.IntVar(&f.minRequestRate, "min-request-rate", 16, "bytes per second that a request body must reach on average, once a proxy has waited for it for 30 seconds; below, the answer is 408; 0: no minimum")
	s.Uint16Var(&f.publicHTTPS, "public-https-port", 0, "port by which clients reach --https-port where a load balancer maps it: in redirects, X-Forwarded-Port and Alt-Svc; 0: the same")
	s.IntVar(&f.maxConnections, "max-connections", 0, "TCP connections of clients to one proxy; above nine tenths idle ones are closed and some requests get 503; 0: half of what the limit of descriptors leaves")
	s.IntVar(&f.maxHead, "max-head", 32<<10, "largest head of a request, and its largest trailer section, in bytes; 431 above. Any part of it may be the request line or one field")
	s.IntVar(&f.maxResponseHead, "max-response-head", 32<<10, "largest head of a pod's response, and its largest trailer section, in bytes; 502 above; per Ingress: nginx.ingress.kubernetes.io/proxy-buffer-size, where it is more")
	s.IntVar(&f.maxFields, "max-fields", 512, "most fields of one head or trailer section, of requests and of responses; 431 or 502 above. Cookies that HTTP/2 clients send in several fields are one")
	s.StringVar(&f.accessLog, "access-log", "off", "off, on, or N to log one request of N")
	s.StringVar(&f.accessLogFormat, "access-log-format", logformat.JSON, "json, combined (as nginx and Apache write it) or a text with fields in braces, such as \"{client} {status} {duration_us}\"")
	s.StringSliceVar(&f.compression, "compression", nil, "content codings in which responses may be sent, in order of preference: zstd, br, gzip; empty: none; per Ingress: annotation kerngate.dev/compression")
	s.StringSliceVar(&f.compressedTypes, "compression-types", nil, "media types whose responses may be compressed, such as text/html or text/*; empty: text, JSON, XML, scripts and what else is known to gain")
	s.Int64Var(&f.compressedFrom, "compression-min-bytes", compression.DefaultMinBytes, "of a response's body; shorter ones are not compressed")

	s.StringVar(&f.metricsAddress, "metrics-address", "127.0.0.1:9464", "where /metrics, /healthz and /readyz are answered; empty: nowhere")
	s.StringVar(&f.logLevel, "log-level", "info", strings.Join([]string{"debug", "info", "warn", "error"}, ", "))
}
