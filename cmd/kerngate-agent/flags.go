package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/compression"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

// flags are the command line as it is written; options are what it means.
type flags struct {
	set  *pflag.FlagSet
	work func() error

	config        string
	uninstall     bool
	uninstallWait time.Duration
	uninstallStay bool

	manifests, kubeconfig string
	ingressClass          string
	ingressNginx          string
	withoutClass          bool
	namespaceSelector     string
	noCatchAll            bool
	defaultBackend        string
	allowExternalName     bool
	sharedHosts           string
	namespaceBytes        int
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
	forwardedFor       string
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
	stateDir    string
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
	firstConnect    time.Duration
	responseTimeout time.Duration
	bodyTimeout     time.Duration
	tunnelTimeout   time.Duration
	drainTimeout    time.Duration
	maxBody         int64
	maxConnections  int
	maxPerSource    int
	minRequestRate  int
	minResponseRate int
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
		Short: "Publish the Ingresses of a cluster or of a folder of manifests on this node",
		Long: `kerngate-agent publishes the Ingresses of a cluster, or of a folder of manifests, on this
node. It loads the BPF programs into the kernel, keeps their maps up to date, and
configures kerngate-proxy. It serves no clients itself. When it ends, the programs, the
maps and the proxies keep working.

It needs root, or the capabilities BPF, PERFMON, NET_ADMIN and CHOWN (and SETUID, SETGID
and KILL with --run-proxy). SIGTERM ends it; with --run-proxy its proxy drains first. SIGHUP starts
a new proxy, for example of a new version, which then gets all new connections.`,
		Example: `  # Without Kubernetes: serve the manifests of a folder on 192.0.2.10, and run a proxy.
  kerngate-agent --manifests ./manifests --ingress-ip 192.0.2.10

  # Serve the cluster of a kubeconfig. Start kerngate-proxy separately.
  kerngate-agent --kubeconfig ~/.kube/config --ingress-ip 192.0.2.10 --interface eth0

  # In a pod: read the flags from a file, except for the name of the node.
  kerngate-agent --config /etc/kerngate/config.yaml --node-name "$NODE_NAME"

  # Serve HTTPS with a default certificate from files, and HTTP/3, behind load balancers
  # that send a PROXY header.
  kerngate-agent --manifests ./manifests --ingress-ip 192.0.2.10 \
    --default-certificate /etc/kerngate/tls.crt,/etc/kerngate/tls.key \
    --http3 --proxy-protocol-from 10.0.0.0/8

  # Remove everything that Kerngate created in the kernel.
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
	s.StringVar(&f.config, "config", "", "YAML `file` that sets flags by their names; the command line takes precedence")
	s.BoolVar(&f.uninstall, "uninstall", false, "remove programs, maps, pins and routes from the kernel, and exit; refused while an agent runs")
	s.DurationVar(&f.uninstallWait, "uninstall-wait", 0, "with --uninstall: how long to wait for an agent that still runs")
	s.BoolVar(&f.uninstallStay, "uninstall-stay", false, "with --uninstall: do not exit afterwards, as a pod of a DaemonSet must not")

	s.StringVar(&f.manifests, "manifests", "", "`folder` of manifests to serve; changes to its files are applied")
	s.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the cluster to serve; if neither this nor --manifests is set, the agent serves the cluster that its pod runs in")
	s.StringVar(&f.ingressClass, "ingress-class", "kerngate", "`name` of the IngressClass to serve")
	s.BoolVar(&f.withoutClass, "watch-ingress-without-class", false, "also serve Ingresses that name no class, even if --ingress-class is not the default class")
	s.StringVar(&f.namespaceSelector, "watch-namespace-selector", "", "label `selector` of the namespaces whose Ingresses and Services of type LoadBalancer are served, such as team=shop; empty: all namespaces")
	s.BoolVar(&f.noCatchAll, "disable-catch-all", false, "do not serve Ingresses that have spec.defaultBackend")
	s.StringVar(&f.ingressNginx, "ingress-nginx-configmap", "", "ConfigMap of ingress-nginx's controller, as NAMESPACE/NAME, whose settings are applied to all Ingresses (docs/configmap.md); empty: none")
	s.StringVar(&f.defaultBackend, "default-backend", "", "Service that gets the requests that match no route, as NAMESPACE/NAME:PORT; empty: they get 404")
	s.StringSliceVar(&f.allowedFields, "global-allowed-response-headers", nil, "response headers that the annotation custom-headers may set, separated by commas; empty: every header except those that the proxy manages itself")
	s.BoolVar(&f.strictAnnotations, "strict-annotations", false, "do not serve an Ingress that has an ingress-nginx annotation which Kerngate does not support")
	s.StringSliceVar(&f.allowDestinations, "allow-destinations", nil, "prefixes that tenants may send requests to (auth-url, mirror-target, OCSP responders, EndpointSlices, ExternalName) although they are loopback, link-local, or addresses of this node or the ingress; empty: none")
	s.StringVar(&f.sharedHosts, "shared-hosts", "warn", "what to do when an Ingress adds paths to a host that belongs to another namespace: allow, warn (serve them, and report a problem on both Ingresses) or deny. A host belongs to the namespace of the oldest Ingress that has a rule for it; its annotation kerngate.dev/share-host-with names the namespaces that may add paths")
	s.IntVar(&f.namespaceBytes, "namespace-config-bytes", kube.DefaultNamespaceBytes, "largest configuration that the Ingresses of one namespace may add, in bytes: their spec and annotations (once for each host), and the ConfigMaps and Secrets that they name. Of those that exceed it the newest are not served, and get a problem; 0: no limit")
	s.BoolVar(&f.allowExternalName, "allow-external-name", false, "forward to Services of type ExternalName whose name is an IP address")
	s.BoolVar(&f.publishStatus, "publish-status", true, "write the ingress addresses to the status of the served Ingresses; has no effect with --manifests")
	s.StringVar(&f.leaseNamespace, "lease-namespace", "", "namespace of the Lease that elects the agent which writes events and status (default the pod's namespace, or kerngate-system outside a pod)")
	s.StringVar(&f.nodeName, "node-name", "", "name of this node; the pods on it count as local (default the host name)")
	s.StringVar(&f.loadBalancing, "load-balancing", "p2c", "how to choose a pod: p2c (of two random pods, the one with fewer requests in flight), round-robin, or ewma (of two random pods, the one that responds faster); a Service can override it with the annotation kerngate.dev/load-balancing")
	s.BoolVar(&f.preferLocal, "prefer-local", false, "send requests to pods of this node only, as long as it has any; a Service can override it with the annotation kerngate.dev/prefer-local")

	s.StringArrayVar(&f.ingressIPs, "ingress-ip", nil, "IPv4 or IPv6 `address` on which to serve; repeatable, at least one is required")
	s.Uint16Var(&f.httpPort, "http-port", 80, "TCP `port` for HTTP on the ingress addresses; 0: HTTP is not served")
	s.Uint16Var(&f.httpsPort, "https-port", 443, "TCP `port` for HTTPS on the ingress addresses; 0: HTTPS is not served")
	s.StringArrayVar(&f.interfaces, "interface", nil, "uplink `device` on which packets to the ingress addresses are filtered and L4 services are forwarded (by kg_xdp, or by kg_ingress in tc); repeatable; without it, nothing is filtered")
	s.StringVar(&f.xdpMode, "xdp-mode", string(attach.XDPAuto), "where kg_xdp runs: auto (native if the driver supports it, else generic; on veth and tun devices kg_ingress in tc does the work), native (in the driver or not at all), generic or off")
	s.StringArrayVar(&f.deny, "deny", nil, "source `prefix` whose packets to the ingress addresses are dropped; repeatable, requires --interface")
	s.StringArrayVar(&f.allow, "allow", nil, "source `prefix` that is exempt from --deny and from the limits per source; repeatable")
	f.defence.define(s)

	s.BoolVar(&f.notrack, "notrack", false, "exempt connections to the ingress addresses, except those of L4 services, from connection tracking (nf_tables). A stateful firewall on the node must then accept their packets without a state match")
	s.BoolVar(&f.skMsg, "sk-msg", false, "let the kernel pass data between the proxy and pods of this node from socket to socket, bypassing TCP; used only if a self-test succeeds; a Service can override it with the annotation kerngate.dev/sk-msg")
	s.StringVar(&f.cgroup, "cgroup", "", "cgroup v2 `folder` that contains the cgroups of all pods of this node, for --sk-msg (default the root of the mounted hierarchy)")

	f.l4.define(s)
	f.fabric.define(s)
	s.StringVar(&f.defaultCertificate, "default-certificate", "", "certificate for host names without one of their own: NAMESPACE/SECRET, or CHAIN,KEY (two PEM files, which are read again when they change); empty: a self-signed certificate")
	s.StringVar(&f.tlsMinVersion, "tls-min-version", "1.2", "oldest version of TLS that clients may use: 1.2 or 1.3")
	s.StringArrayVar(&f.tlsSuites, "tls-suite", nil, "TLS 1.2 cipher `suite` to offer, such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; repeatable; without it, all secure suites are offered. The suites of TLS 1.3 cannot be chosen")
	s.StringVar(&f.hsts, "hsts", "", "value of the header Strict-Transport-Security in responses over TLS, such as \"max-age=31536000; includeSubDomains\"; empty: the header is not sent")
	s.BoolVar(&f.ocsp, "ocsp", false, "fetch and staple OCSP responses for certificates that name an OCSP responder; the agent then makes outgoing HTTP requests")
	s.BoolVar(&f.http3, "http3", false, "serve HTTP/3 (QUIC) on UDP port --https-port too, and announce it with the header Alt-Svc")
	s.BoolVar(&f.disableHTTP2, "disable-http2", false, "serve clients with HTTP/1.1 only, both over TLS and in clear text")
	s.Uint32Var(&f.maxStreams, "max-streams", 128, "largest number of concurrent requests on one HTTP/2 or HTTP/3 connection")
	s.StringArrayVar(&f.trustedProxies, "trusted-proxy", nil, "`prefix` of proxies in front whose X-Forwarded-* and Forwarded headers are trusted, such as 10.0.0.0/8; repeatable; from all other clients these headers are replaced")
	s.StringVar(&f.forwardedFor, "forwarded-for-header", "", "header in which --trusted-proxy names the client, such as CF-Connecting-IP or True-Client-IP; it alone counts then, and pods do not get it from all other clients; empty: X-Forwarded-For, else Forwarded, else X-Real-IP")
	s.StringArrayVar(&f.proxyProtocolFrom, "proxy-protocol-from", nil, "`prefix` of proxies in front whose connections must begin with a PROXY header, version 1 or 2; repeatable; connections of all other clients must not have one")

	s.StringVar(&f.bpffs, "bpffs", loader.DefaultBPFFS, "`folder` on a bpf file system in which maps and links are pinned")
	s.StringVar(&f.socket, "socket", "/run/kerngate/agent.sock", "unix `socket` on which the agent listens for proxies and kerngatectl")
	s.StringVar(&f.stateDir, "state-dir", defaultStateDir, "`folder` on a tmpfs in which the objects of the cluster are kept, private keys included, for an agent that starts while the API server is away; it is made accessible to root only; empty: they are not kept")
	s.IntVar(&f.maxServices, "max-services", 0, "capacity of the map kg_services when it is created; kg_listeners gets twice as much, kg_addresses a quarter; 0: the default")
	s.IntVar(&f.maxBackends, "max-backends", 0, "capacity of the map kg_backends when it is created; 0: the default")
	s.IntVar(&f.maxSlots, "max-slots", 0, "capacity of the map kg_slots when it is created; 0: the default")
	s.IntVar(&f.maxPrefixes, "max-prefixes", 0, "capacity of the maps kg_deny and kg_allow when they are created; 0: the default")
	s.IntVar(&f.maxSources, "max-sources", 0, "number of counters in the map kg_rate when it is created; each source uses two of them; 0: the default")
	s.IntVar(&f.maxFlows, "max-flows", 0, "capacity of the map kg_flows when it is created; an L4 connection over TCP takes two entries. kg_loose (UDP, DSR) gets half as much; 0: the default")

	s.BoolVar(&f.runProxy, "run-proxy", false, "start kerngate-proxy as an unprivileged child process and keep it running (default true with --manifests)")
	s.StringVar(&f.proxyBinary, "proxy-binary", "", "`path` of kerngate-proxy (default the one in the folder of this executable)")
	s.StringVar(&f.proxyUser, "proxy-user", "65532:65532", "UID or UID:GID of proxies: only this user may connect to --socket, and --run-proxy starts the proxy as this user")
	s.IntVar(&f.proxyWorkers, "proxy-workers", 0, "value of --workers for the child proxy; 0: one worker per CPU")
	s.StringVar(&f.proxyMetrics, "proxy-metrics-address", "127.0.0.1:9465", "value of --metrics-address for the child proxy; empty: it serves no metrics")

	s.DurationVar(&f.headTimeout, "head-timeout", 15*time.Second, "longest time to receive the head of a request")
	s.DurationVar(&f.idleTimeout, "idle-timeout", 75*time.Second, "longest time that a client connection may be idle between requests")
	s.DurationVar(&f.connectTimeout, "connect-timeout", 5*time.Second, "longest time to connect to a pod")
	s.DurationVar(&f.firstConnect, "first-connect-timeout", 250*time.Millisecond, "the same, while another healthy pod can be asked instead, and the Ingress sets no proxy-connect-timeout. At least --connect-timeout: no pod is given up sooner")
	s.DurationVar(&f.responseTimeout, "response-timeout", 60*time.Second, "longest time between two bytes of a response")
	s.DurationVar(&f.bodyTimeout, "body-timeout", 60*time.Second, "longest time between two bytes of a request body")
	s.DurationVar(&f.tunnelTimeout, "tunnel-timeout", time.Hour, "longest time without a byte in either direction on a WebSocket or another upgraded connection")
	s.DurationVar(&f.drainTimeout, "drain-timeout", 240*time.Second, "longest time that a replaced proxy may take to finish its open requests and connections")
	s.Int64Var(&f.maxBody, "max-body", 0, "size of the largest request body, in bytes; larger ones get 413; 0: no limit")
	s.Int64Var(&f.requestBuffer, "request-buffer-bytes", 4<<20, "largest request body without Content-Length that is held in memory, in bytes, so that pods which speak HTTP/1.1 get it with its length; 0: such bodies are forwarded in chunks")
	s.Int64Var(&f.requestBuffers, "request-buffer-total", 64<<20, "memory that one proxy worker may use for such bodies, in bytes. When it is used up, large bodies are written to files or get 503. Bodies that arrive over HTTP/2 and HTTP/3 and wait for a pod may take up to twice as much in addition")
	s.StringVar(&f.largeRequests, "large-requests", "spool", "what to do with a body without Content-Length that is larger than --request-buffer-bytes: spool (write it to a file in --request-spool-dir; without such a folder, refuse), refuse (respond 411) or chunked (forward it in chunks, which some applications read as an empty body). Where the pods accept chunks, an Ingress can set nginx.ingress.kubernetes.io/proxy-request-buffering \"off\"")
	s.StringVar(&f.spoolDir, "request-spool-dir", "", "value of --request-spool-dir for the child proxy: `folder` on a disk, writable by --proxy-user, in which such bodies are kept in unnamed files; empty: they get 411")
	s.Int64Var(&f.spoolTotal, "request-spool-total", model.DefaultSpool, "value of --request-spool-total for the child proxy: largest total size of these files, in bytes")
	s.StringVar(&f.otlpEndpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector that accepts OTLP over HTTP, such as http://collector:4318; empty: requests are not traced")
	s.Float64Var(&f.traceRatio, "trace-ratio", 0.01, "fraction of new traces to sample, 0 to 1")
	s.BoolVar(&f.traceTrust, "trace-trust", false, "continue the traces named in requests of clients; an Ingress can override it with nginx.ingress.kubernetes.io/opentelemetry-trust-incoming-span")
	s.StringVar(&f.divideLimits, "divide-limits", "", "Service whose ready nodes divide the limits on requests among them, as NAMESPACE/NAME, such as kerngate-system/kerngate: each of N nodes allows 1/N of a limit; empty: every node allows the whole limit")
	s.IntVar(&f.maxPerSource, "max-connections-per-source", 0, "largest number of TCP connections from one client address (for IPv6, one /64) to one worker of a proxy; further ones are closed at once; 0: no fixed limit, but above 90 % of --max-connections the addresses with the most connections lose theirs first, and no address gets more than half. Addresses in --trusted-proxy and --proxy-protocol-from are exempt")
	s.IntVar(&f.minResponseRate, "min-response-rate", 240, "rate at which a client must take a response on average in each half of --response-timeout that the proxy has to wait for it, in bytes per second; all requests of an HTTP/2 or HTTP/3 connection count together; responses to slower ones are broken off; 0: no minimum. gRPC calls and tunnels are exempt")
	s.IntVar(&f.minRequestRate, "min-request-rate", 16, "average rate that a request body must reach after the proxy has waited for it for half of --body-timeout, in bytes per second; slower ones get 408; 0: no minimum")
	s.Uint16Var(&f.publicHTTPS, "public-https-port", 0, "`port` that clients use to reach --https-port through a load balancer that maps ports; it appears in redirects, X-Forwarded-Port and Alt-Svc; 0: the same as --https-port")
	s.IntVar(&f.maxConnections, "max-connections", 0, "largest number of TCP connections from clients to one proxy. Above 90 % of it, idle connections are closed and some requests get 503; 0: half of the file descriptors that are available")
	s.IntVar(&f.maxHead, "max-head", 32<<10, "size of the largest request head, and of the largest trailer section, in bytes; larger ones get 431. The request line or one header may take up all of it")
	s.IntVar(&f.maxResponseHead, "max-response-head", 32<<10, "size of the largest head of a pod's response, and of the largest trailer section, in bytes; larger ones become 502; an Ingress can raise it with nginx.ingress.kubernetes.io/proxy-buffer-size")
	s.IntVar(&f.maxFields, "max-fields", 512, "largest number of headers in one head or trailer section; requests with more get 431, responses with more become 502. An HTTP/2 client's cookies count as one header")
	s.StringVar(&f.accessLog, "access-log", "off", "which requests to log: off, on, or a number N for one request in N")
	s.StringVar(&f.accessLogFormat, "access-log-format", logformat.JSON, "format of the access log: json, combined (as nginx and Apache write it), or a text with fields in braces, such as \"{client} {status} {duration_us}\"")
	s.StringSliceVar(&f.compression, "compression", nil, "content encodings with which to compress responses, in order of preference: zstd, br, gzip; empty: responses are not compressed; an Ingress can override it with the annotation kerngate.dev/compression")
	s.StringSliceVar(&f.compressedTypes, "compression-types", nil, "media types of the responses to compress, such as text/html or text/*; empty: text, JSON, XML, scripts and other types that are known to compress well")
	s.Int64Var(&f.compressedFrom, "compression-min-bytes", compression.DefaultMinBytes, "size of the smallest response body to compress, in bytes")

	s.StringVar(&f.metricsAddress, "metrics-address", "127.0.0.1:9464", "`address` on which to serve /metrics, /healthz and /readyz; empty: they are not served")
	s.StringVar(&f.logLevel, "log-level", "info", "least severe messages to log: debug, info, warn or error")
}
