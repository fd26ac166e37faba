package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// Changes of routes are gathered until nothing has happened for quiet, but no longer
	// than maxDelay: one `kubectl apply` of many objects is one update.
	quiet    = 2 * time.Millisecond
	maxDelay = 50 * time.Millisecond
	// errorStays is how long a watch error stays in the status: the informers try again more often.
	errorStays = time.Minute
)

// byService is the index of EndpointSlices by the Service they belong to.
const byService = "service"

// Source is the source that watches a cluster.
type Source struct {
	options    kube.Options
	client     kubernetes.Interface
	connection *Connection
	log        zerolog.Logger
	updates    chan model.Update
	changes    changes
	kept       *keeper        // nil: objects are not kept
	running    sync.WaitGroup // goroutines of Run

	informers []watched
	ingresses networkinglisters.IngressLister
	classes   networkinglisters.IngressClassLister
	services  corelisters.ServiceLister
	configs   []corelisters.ConfigMapLister // that flags name
	slices    cache.Indexer
	spaces    corelisters.NamespaceLister // nil: objects of all are served
	secrets   *watches
	named     *watches // ConfigMaps that annotations name

	translator *kube.Translator // owned by Run's goroutine

	mu        sync.Mutex // guards what follows
	lastEvent time.Time
	lastErr   string
	errAt     time.Time
	onStatus  func() // called when the status of an Ingress or a load balancer Service may have changed
}

// watched is the informer of one resource.
type watched struct {
	resource string
	informer cache.SharedIndexInformer
	factory  informers.SharedInformerFactory
}

// New returns a source for the cluster of a client.
func New(client kubernetes.Interface, connection *Connection, options kube.Options, log zerolog.Logger) (*Source, error) {
	c := &Source{
		options: options, client: client, connection: connection, log: log,
		updates: make(chan model.Update),
		changes: newChanges(),
	}
	c.translator = kube.NewStoreTranslator(options, c)
	c.secrets = newWatches(watchedSecrets, client, log, &c.changes)
	c.named = newWatches(watchedConfigMaps, client, log, &c.changes)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(kube.Slim))
	networking := factory.Networking().V1()
	c.ingresses, c.classes = networking.Ingresses().Lister(), networking.IngressClasses().Lister()
	c.services = factory.Core().V1().Services().Lister()
	endpoints := factory.Discovery().V1().EndpointSlices().Informer()
	c.slices = endpoints.GetIndexer()
	c.informers = []watched{
		{"ingresses", networking.Ingresses().Informer(), factory},
		{"ingressclasses", networking.IngressClasses().Informer(), factory},
		{"services", factory.Core().V1().Services().Informer(), factory},
		{"endpointslices", endpoints, factory},
	}
	if options.NamespaceSelector != nil {
		namespaces := factory.Core().V1().Namespaces()
		c.spaces = namespaces.Lister()
		c.informers = append(c.informers, watched{"namespaces", namespaces.Informer(), factory})
	}
	c.watchConfigMaps(client)
	err := endpoints.AddIndexers(cache.Indexers{byService: func(o any) ([]string, error) {
		if n, ok := kube.ServiceOf(o.(*discoveryv1.EndpointSlice)); ok {
			return []string{n.String()}, nil
		}
		return nil, nil
	}})
	for _, w := range c.informers {
		_, handlerErr := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { c.changed(nil, o) },
			UpdateFunc: func(before, after any) { c.changed(before, after) },
			DeleteFunc: func(o any) {
				if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = last.Obj
				}
				c.changed(o, nil)
			},
		})
		err = errors.Join(err, handlerErr, w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			c.watchFailed(w.resource, err)
		}))
	}
	return c, err
}

// Updates delivers the first update when all lists are complete, and then each change.
func (c *Source) Updates() <-chan model.Update { return c.updates }

// Run watches until ctx ends. While the API server is away, what is known stays.
func (c *Source) Run(ctx context.Context) error {
	for _, w := range c.informers {
		w.factory.Start(ctx.Done()) // one that runs already is left alone
		defer w.factory.Shutdown()
	}
	defer c.secrets.stop()
	defer c.named.stop()
	defer c.running.Wait() // before that, since the last write of the kept objects reads these watches
	if !c.awaitLists(ctx) {
		return nil // ctx has ended
	}
	if c.kept != nil && c.kept.Folder != "" {
		c.running.Go(func() { c.keep(ctx) })
	}
	c.changes.add(func(r *routeChanges) { r.all, r.classes = true, true })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changes.wake:
		case <-timer.C:
		}
		if changed := c.changes.takeServices(); len(changed) > 0 && !c.translateServices(ctx, changed) {
			return nil
		}
		changed, due, wait := c.changes.takeRoutes(time.Now())
		if due && !c.translateRoutes(ctx, changed) {
			return nil
		}
		timer.Reset(wait)
	}
}

// awaitLists waits until everything is listed. If that takes too long, what was kept is served
// meanwhile. It reports false if ctx has ended.
func (c *Source) awaitLists(ctx context.Context) bool {
	synced := make(chan bool, 1)
	c.running.Go(func() {
		for _, w := range c.informers {
			if !cache.WaitForCacheSync(ctx.Done(), w.informer.HasSynced) {
				synced <- false
				return
			}
		}
		synced <- true
	})
	if c.kept != nil && c.kept.Folder != "" {
		patience := time.Duration(0)
		if c.kept.Patience != nil {
			patience = c.kept.Patience()
		}
		select {
		case ok := <-synced:
			return ok
		case <-time.After(patience):
			if !c.serveKept(ctx) {
				return false
			}
		}
	}
	return <-synced
}

// changed looks at what an informer tells. One of the objects may be nil.
func (c *Source) changed(before, after any) {
	c.mu.Lock()
	c.lastEvent = time.Now()
	onStatus := c.onStatus
	c.mu.Unlock()
	for _, o := range []any{before, after} {
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok {
			if n, ok := kube.ServiceOf(slice); ok {
				c.changes.addService(n)
				if c.translator.HasMembers(n) { // a node has come, gone or changed
					c.changes.add(func(r *routeChanges) { r.members = true })
				}
			}
		}
	}
	if ingress, ok := after.(*networkingv1.Ingress); ok && onStatus != nil {
		if was, ok := before.(*networkingv1.Ingress); !ok || !sameStatus(was, ingress) {
			onStatus()
		}
	}
	if service, ok := after.(*corev1.Service); ok && onStatus != nil && kube.IsLoadBalancer(service) {
		onStatus() // somebody may have changed it; the reporter compares
	}
	if !routesDiffer(before, after) {
		return
	}
	c.changes.add(func(r *routeChanges) {
		switch o := cmp.Or(after, before).(type) {
		case *networkingv1.Ingress:
			r.ingresses[nameOf(o)] = struct{}{}
		case *networkingv1.IngressClass:
			r.classes = true
		case *corev1.Service:
			r.referenced[reference{"Service", nameOf(o)}] = struct{}{}
			r.unnamed = r.unnamed || publishes(before) || publishes(after)
		case *corev1.Namespace: // which of them are served may have changed
			r.all, r.unnamed = true, true
		case *corev1.ConfigMap: // that a flag names; annotations may name it as well
			r.referenced[reference{"ConfigMap", nameOf(o)}] = struct{}{}
			r.unnamed = true
		}
	})
}

func (c *Source) watchFailed(resource string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("watching %s: %v", resource, err)
	if text != c.lastErr || time.Since(c.errAt) > errorStays {
		c.log.Warn().Str("resource", resource).Err(err).Msg("cannot watch the cluster; what is known stays in force")
	}
	c.lastErr, c.errAt = text, time.Now()
}

// Describe says which cluster is watched and how that goes.
func (c *Source) Describe() status.Source {
	d := status.Source{Kind: "cluster", Location: c.connection.URL, Error: c.connection.Err()}
	for _, w := range c.informers {
		if !w.informer.HasSynced() {
			d.Waiting = append(d.Waiting, w.resource)
		}
	}
	if at := c.kept.servedAt(); !at.IsZero() {
		d.Kept = &at
	}
	d.Waiting = slices.Concat(d.Waiting, c.secrets.waiting(), c.named.waiting())
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.lastEvent; !last.IsZero() {
		d.LastSeen = &last
	}
	if d.Error == "" && time.Since(c.errAt) < errorStays {
		d.Error = strings.ReplaceAll(c.lastErr, "\n", " ")
	}
	return d
}
