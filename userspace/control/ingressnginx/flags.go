package ingressnginx

import "slices"

// Flag is a flag of ingress-nginx's controller, and what does the same here.
type Flag struct {
	Name  string
	Equal string // flags of the agent; "": none
	Why   string // a sentence without its end: how it differs, or why there is none
}

// Flags returns all of them, sorted by name.
func Flags() []Flag { return slices.Clone(controllerFlags) }

const (
	whyOneLog  = "kerngate_* metrics have buckets of their own"
	whyNoHook  = "there is no admission webhook: kerngatectl check judges manifests, and events name what is not served"
	whyNoGeoIP = "there are no maps of countries"
)

var controllerFlags = []Flag{
	{Name: "--annotations-prefix", Why: "the prefix is nginx.ingress.kubernetes.io"},
	{Name: "--apiserver-host", Equal: "--kubeconfig"},
	{Name: "--bucket-factor", Why: whyOneLog},
	{Name: "--certificate-authority", Equal: "--kubeconfig"},
	{Name: "--configmap", Equal: "--ingress-nginx-configmap"},
	{Name: "--controller-class", Why: "spec.controller of the IngressClass is kerngate.dev/ingress-controller"},
	{Name: "--deep-inspect", Why: "no annotation is pasted into a configuration"},
	{Name: "--default-backend-service", Equal: "--default-backend", Why: "with the port: NAMESPACE/NAME:PORT"},
	{Name: "--default-server-port", Why: "there is no server of the controller's own behind the proxy"},
	{Name: "--default-ssl-certificate", Equal: "--default-certificate"},
	{Name: "--disable-catch-all", Equal: "--disable-catch-all"},
	{Name: "--disable-full-test", Why: whyNoHook},
	{Name: "--disable-leader-election", Why: "agents serve without it; it decides who writes events and status"},
	{Name: "--disable-svc-external-name", Equal: "--allow-external-name", Why: "Services of type ExternalName are refused unless it is set"},
	{Name: "--disable-sync-events", Why: "events tell what is not served, and nothing of synchronisation"},
	{Name: "--dynamic-configuration-retries", Why: "nothing is reloaded"},
	{Name: "--election-id", Equal: "--lease-namespace"},
	{Name: "--election-ttl", Why: "the Lease has a fixed time"},
	{Name: "--enable-annotation-validation", Equal: "--strict-annotations", Why: "values are always validated; it leaves out Ingresses with a value that is not honoured"},
	{Name: "--enable-metrics", Equal: "--metrics-address"},
	{Name: "--enable-ssl-chain-completion", Why: "a Secret holds the whole chain"},
	{Name: "--enable-ssl-passthrough", Why: "the annotation ssl-passthrough is always read"},
	{Name: "--enable-topology-aware-routing", Equal: "--prefer-local"},
	{Name: "--exclude-socket-metrics", Why: "metrics come from memory that proxies share, not from sockets"},
	{Name: "--health-check-path", Equal: "--metrics-address", Why: "the paths are /healthz and /readyz"},
	{Name: "--health-check-timeout", Why: "the answer comes from memory"},
	{Name: "--healthz-host", Equal: "--metrics-address"},
	{Name: "--healthz-port", Equal: "--metrics-address"},
	{Name: "--http-port", Equal: "--http-port"},
	{Name: "--https-port", Equal: "--https-port", Why: "with --public-https-port where a load balancer maps it"},
	{Name: "--ingress-class", Equal: "--ingress-class"},
	{Name: "--ingress-class-by-name", Why: "the class is chosen by its name, and must be of this controller"},
	{Name: "--internal-logger-address", Why: "there is no syslog between controller and proxy"},
	{Name: "--kubeconfig", Equal: "--kubeconfig"},
	{Name: "--length-buckets", Why: whyOneLog},
	{Name: "--max-buckets", Why: whyOneLog},
	{Name: "--maxmind-edition-ids", Why: whyNoGeoIP},
	{Name: "--maxmind-license-key", Why: whyNoGeoIP},
	{Name: "--maxmind-mirror", Why: whyNoGeoIP},
	{Name: "--maxmind-retries-count", Why: whyNoGeoIP},
	{Name: "--maxmind-retries-timeout", Why: whyNoGeoIP},
	{Name: "--metrics-per-host", Why: "metrics are by Ingress and Service"},
	{Name: "--metrics-per-undefined-host", Why: "metrics are by Ingress and Service"},
	{Name: "--monitor-max-batch-size", Why: "metrics come from memory that proxies share, not from sockets"},
	{Name: "--post-shutdown-grace-period", Equal: "--drain-timeout"},
	{Name: "--profiler-address", Why: "kerngatectl top shows where time and memory go"},
	{Name: "--profiler-port", Why: "kerngatectl top shows where time and memory go"},
	{Name: "--profiling", Why: "kerngatectl top shows where time and memory go"},
	{Name: "--publish-service", Equal: "--ingress-ip", Why: "the addresses are named, not read from a Service"},
	{Name: "--publish-status-address", Equal: "--ingress-ip"},
	{Name: "--report-node-internal-ip-address", Equal: "--ingress-ip"},
	{Name: "--report-status-classes", Why: whyOneLog},
	{Name: "--shutdown-grace-period", Equal: "--drain-timeout"},
	{Name: "--size-buckets", Why: whyOneLog},
	{Name: "--ssl-passthrough-proxy-port", Why: "TLS that is passed through needs no port of its own"},
	{Name: "--status-port", Why: "kerngatectl asks the agent over a Unix socket"},
	{Name: "--status-update-interval", Why: "a status is written when it changes"},
	{Name: "--stream-port", Why: "TCP and UDP services are forwarded by the kernel"},
	{Name: "--sync-period", Why: "watches tell what changes"},
	{Name: "--sync-rate-limit", Why: "a change costs what it concerns, and is in force within milliseconds"},
	{Name: "--tcp-services-configmap", Equal: "--tcp-services-configmap", Why: "PROXY entries are refused"},
	{Name: "--time-buckets", Why: whyOneLog},
	{Name: "--udp-services-configmap", Equal: "--udp-services-configmap"},
	{Name: "--update-status", Equal: "--publish-status"},
	{Name: "--update-status-on-shutdown", Why: "the addresses stay, as another agent serves them"},
	{Name: "--validating-webhook", Why: whyNoHook},
	{Name: "--validating-webhook-certificate", Why: whyNoHook},
	{Name: "--validating-webhook-key", Why: whyNoHook},
	{Name: "--watch-ingress-without-class", Equal: "--watch-ingress-without-class"},
	{Name: "--watch-namespace", Equal: "--watch-namespace-selector", Why: "with the label that has the name: kubernetes.io/metadata.name=NAMESPACE"},
	{Name: "--watch-namespace-selector", Equal: "--watch-namespace-selector", Why: "objects that flags name may be in any namespace"},
}
