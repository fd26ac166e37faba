package cluster

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// apiServer answers lists with objects that do not change, and takes events. What an API server
// makes of changes is tested with a real one (test/controlplane).
type apiServer struct {
	address string
	server  *http.Server

	mu      sync.Mutex
	objects kube.Objects
	events  []corev1.Event
	watches []string // paths
}

// newAPIServer returns an API server that does not listen yet.
func newAPIServer(t *testing.T, objects kube.Objects) *apiServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &apiServer{address: l.Addr().String(), objects: objects}
	t.Cleanup(a.stop)
	return a
}

func (a *apiServer) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://" + a.address, ContentConfig: rest.ContentConfig{ContentType: "application/json"}, QPS: 1000, Burst: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (a *apiServer) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	a.server = &http.Server{Handler: a}
	go a.server.Serve(l)
}

func (a *apiServer) stop() {
	if a.server != nil {
		a.server.Close()
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	o := a.objects
	var list any
	meta := metav1.ListMeta{ResourceVersion: "1"}
	kind := func(group, kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: group, Kind: kind} }
	switch r.URL.Path {
	case "/apis/networking.k8s.io/v1/ingresses":
		list = networkingv1.IngressList{TypeMeta: kind("networking.k8s.io/v1", "IngressList"), ListMeta: meta, Items: values(o.Ingresses)}
	case "/apis/networking.k8s.io/v1/ingressclasses":
		list = networkingv1.IngressClassList{TypeMeta: kind("networking.k8s.io/v1", "IngressClassList"), ListMeta: meta, Items: values(o.Classes)}
	case "/api/v1/namespaces":
		list = corev1.NamespaceList{TypeMeta: kind("v1", "NamespaceList"), ListMeta: meta, Items: values(o.Gateway.Namespaces)}
	case "/api/v1/services":
		list = corev1.ServiceList{TypeMeta: kind("v1", "ServiceList"), ListMeta: meta, Items: values(o.Services)}
	case "/apis/discovery.k8s.io/v1/endpointslices":
		list = discoveryv1.EndpointSliceList{TypeMeta: kind("discovery.k8s.io/v1", "EndpointSliceList"), ListMeta: meta, Items: values(o.Slices)}
	case "/api/v1/namespaces/shop/secrets":
		list = corev1.SecretList{TypeMeta: kind("v1", "SecretList"), ListMeta: meta, Items: values(o.Secrets)}
	case "/api/v1/namespaces/shop/configmaps":
		list = corev1.ConfigMapList{TypeMeta: kind("v1", "ConfigMapList"), ListMeta: meta, Items: values(o.ConfigMaps)}
	case "/api/v1/namespaces/default/events":
		var e corev1.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err == nil {
			a.events = append(a.events, e)
		}
		list = e
	}
	query := r.URL.Query()
	watch := query.Has("watch")
	if watch {
		a.watches = append(a.watches, r.URL.Path)
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case list == nil || query.Has("sendInitialEvents"): // the client then asks for a plain list
		w.WriteHeader(http.StatusNotFound)
	case watch:
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		json.NewEncoder(w).Encode(list)
	}
}

func values[T any](pointers []*T) []T {
	out := make([]T, len(pointers))
	for i, p := range pointers {
		out[i] = *p
	}
	return out
}

func (a *apiServer) seenEvents() []corev1.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.events
}
