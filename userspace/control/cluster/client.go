package cluster

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/rs/zerolog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	// defaultNamespace holds the Lease if the agent does not run in a pod.
	defaultNamespace = "kerngate-system"
	namespaceFile    = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// Config returns how to reach the cluster of a kubeconfig file, or of the pod that this
// process runs in if path is empty.
func Config(path, agent string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if path != "" {
		config, err = clientcmd.BuildConfigFromFlags("", path)
	} else if config, err = rest.InClusterConfig(); err != nil {
		err = fmt.Errorf("%w: name a cluster with --kubeconfig or a folder with --manifests", err)
	}
	if err != nil {
		return nil, err
	}
	config.UserAgent = agent
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.QPS, config.Burst = 50, 100 // status of many Ingresses after a change of address
	return config, nil
}

// Client returns a client for the cluster, and how its requests fare. Its lists and watches
// wait while the API server is away.
func Client(config *rest.Config, log zerolog.Logger) (kubernetes.Interface, *Connection, error) {
	connection := &Connection{URL: config.Host, log: log}
	config = rest.CopyConfig(config)
	shortenWaits(config)
	config.Wrap(connection.wrap)
	config.Wrap(connection.patient)
	client, err := kubernetes.NewForConfig(config)
	return client, connection, err
}

// Connection tells whether the API server answers. Informers hide this: they retry a
// broken watch for as long as it takes, in silence.
type Connection struct {
	URL string

	mu  sync.Mutex
	err string // of the last request, "" if it was answered

	log   zerolog.Logger
	since time.Time     // of the outage, zero: there is none
	back  time.Time     // when the last one ended
	wait  time.Duration // before a request is sent again, in tests; 0: random
}

// Err returns why the API server does not answer, "" if it does.
func (c *Connection) Err() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Connection) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if r.Context().Err() != nil {
			return response, err // we gave up: that says nothing
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case err != nil:
			c.err = err.Error()
		case response.StatusCode >= http.StatusInternalServerError:
			c.err = r.URL.Path + ": " + response.Status
		default:
			c.err = ""
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Namespace is the namespace of the pod that this process runs in, else a fixed one.
func Namespace() string {
	if raw, err := os.ReadFile(namespaceFile); err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw))
	}
	return defaultNamespace
}

// LogTo makes client-go, which has a logger of its own, write to ours.
func LogTo(log zerolog.Logger) {
	log = log.With().Str("library", "client-go").Logger()
	klog.SetLogger(funcr.New(func(_, args string) {
		event := log.Debug()
		if strings.Contains(args, `"error"=`) && !strings.Contains(args, `"error"=null`) {
			event = log.Warn()
		}
		event.Msg(args)
	}, funcr.Options{}))
}
