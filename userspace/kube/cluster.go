package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/status"
)

const (
	// Changes of routes are gathered until nothing has happened for quiet, but no longer
	// than maxDelay: one `kubectl apply` of many objects is one update.
	quiet    = 5 * time.Millisecond
	maxDelay = 50 * time.Millisecond
	// errorStays is how long a watch error is told: the informers try again more often.
	errorStays = time.Minute
)

// byService is the index of EndpointSlices by the Service they belong to.
const byService = "service"

// Cluster is the source that watches a cluster.
type Cluster struct {
	options    Options
	connection *Connection
	log        zerolog.Logger
	updates    chan model.Update
	changes    changes

	informers []watched
	ingresses networkinglisters.IngressLister
	classes   networkinglisters.IngressClassLister
	services  corelisters.ServiceLister
	configs   []corelisters.ConfigMapLister // that flags name
	slices    cache.Indexer
	secrets   *watches
	named     *watches // ConfigMaps that annotations name

	// Of the last full translation; Run's goroutine owns them.
	keys            map[name][]model.ServiceKey
	l4              map[name][]model.L4Service // without backends
	l4Problems      map[model.L4Key][]model.Problem
	served          []model.ObjectRef
	routeProblems   problems
	serviceProblems map[model.ServiceKey][]model.Problem
	secretsRead     *secretMemory
	used            map[reference]struct{} // that a change of would change the translation

	mu        sync.Mutex                       // guards what follows
	l4Status  map[model.ObjectRef][]netip.Addr // of Services that are published
	lastEvent time.Time
	lastErr   string
	errAt     time.Time
	onStatus  func() // called when the status of an Ingress has changed
}

// watched is the informer of one resource.
type watched struct {
	resource string
	informer cache.SharedIndexInformer
	factory  informers.SharedInformerFactory
}

// NewCluster returns a source for the cluster of a client.
func NewCluster(client kubernetes.Interface, connection *Connection, options Options, log zerolog.Logger) (*Cluster, error) {
	c := &Cluster{
		options: options, connection: connection, log: log,
		updates:         make(chan model.Update),
		changes:         changes{wake: make(chan struct{}, 1), services: map[name]struct{}{}, referenced: map[reference]struct{}{}},
		serviceProblems: map[model.ServiceKey][]model.Problem{},
		secretsRead:     newSecretMemory(),
		l4Problems:      map[model.L4Key][]model.Problem{},
	}
	c.secrets = newWatches(watchedSecrets, client, log, &c.changes)
	c.named = newWatches(watchedConfigMaps, client, log, &c.changes)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(slim))
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
	c.watchConfigMaps(client)
	err := endpoints.AddIndexers(cache.Indexers{byService: func(o any) ([]string, error) {
		if n, ok := serviceOf(o.(*discoveryv1.EndpointSlice)); ok {
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
func (c *Cluster) Updates() <-chan model.Update { return c.updates }

// Run watches until ctx ends. While the API server is away, what is known stays.
func (c *Cluster) Run(ctx context.Context) error {
	for _, w := range c.informers {
		w.factory.Start(ctx.Done()) // one that runs already is left alone
		defer w.factory.Shutdown()
	}
	defer c.secrets.stop()
	defer c.named.stop()
	for _, w := range c.informers {
		if !cache.WaitForCacheSync(ctx.Done(), w.informer.HasSynced) {
			return nil // ctx has ended
		}
	}
	if !c.translateAll(ctx) {
		return nil
	}
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
		if c.usesAnyOf(c.changes.takeReferenced()) {
			c.changes.addRoutes()
		}
		due, wait := c.changes.takeRoutes(time.Now())
		if due && !c.translateAll(ctx) {
			return nil
		}
		timer.Reset(wait)
	}
}

// translateAll translates everything from what the informers hold.
func (c *Cluster) translateAll(ctx context.Context) bool {
	var objects Objects
	var err error
	if objects.Ingresses, err = c.ingresses.List(labels.Everything()); err == nil {
		if objects.Classes, err = c.classes.List(labels.Everything()); err == nil {
			objects.Services, err = c.services.List(labels.Everything())
			objects.ConfigMaps = c.listConfigMaps()
		}
	}
	if err != nil {
		c.log.Error().Err(err).Msg("reading the informers' lists") // of memory: cannot happen
		return true
	}
	looked := newTranslation(Objects{Ingresses: objects.Ingresses, Classes: objects.Classes}, c.options).served()
	secrets, configMaps := c.secrets.want(ctx, secretNamespaces(looked, c.options)), c.named.want(ctx, configMapNames(looked))
	if !secrets || !configMaps {
		return true // asked again when they are there
	}
	objects.Secrets, objects.SecretsUnreadable = listSecrets(c.secrets)
	objects.ConfigMaps, objects.ConfigMapsUnreadable = withReferenced(c.named, objects.ConfigMaps)
	t := newTranslation(objects, c.options)
	t.secrets.read = c.secretsRead
	m, served := t.routes()
	c.secretsRead.keepOnly(&t.secrets)
	c.used = t.used()
	c.served = refsOf(served)
	c.keys = make(map[name][]model.ServiceKey, len(t.keys))
	clear(c.serviceProblems)
	for _, key := range t.sortedKeys() {
		n := name{key.Namespace, key.Name}
		c.keys[n] = append(c.keys[n], key)
		m.Services = append(m.Services, c.translateService(key, t.services[n]))
	}
	m.L4 = c.translateAllL4(t)
	if n, ok := c.options.fabricService(); ok {
		var found problems
		m.Members, found = translateMembers(c.endpointsOf(n))
		t.found = append(t.found, found...)
	}
	if n, ok := c.options.proxyService(); ok {
		m.Proxies = countProxies(c.endpointsOf(n))
	}
	c.routeProblems = t.found
	return c.send(ctx, model.Update{Model: &m})
}

// translateServices translates the services whose endpoints have changed.
func (c *Cluster) translateServices(ctx context.Context, changed map[name]struct{}) bool {
	var update model.Update
	for n := range changed {
		for _, key := range c.keys[n] { // none: no Ingress names it
			service, err := c.services.Services(n.namespace).Get(n.name)
			if err != nil {
				service = nil // deleted: its routes are about to be translated
			}
			update.Services = append(update.Services, c.translateService(key, service))
		}
	}
	for n := range changed {
		for _, s := range c.l4[n] {
			service, err := c.services.Services(n.namespace).Get(n.name)
			if err != nil {
				service = nil
			}
			update.L4 = append(update.L4, c.completeL4(s, service))
		}
	}
	if len(update.Services)+len(update.L4) == 0 {
		return true
	}
	return c.send(ctx, update)
}

// endpointsOf returns the EndpointSlices of a Service.
func (c *Cluster) endpointsOf(n name) []*discoveryv1.EndpointSlice {
	found, err := c.slices.ByIndex(byService, n.String())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the index of EndpointSlices") // made in NewCluster
	}
	endpoints := make([]*discoveryv1.EndpointSlice, 0, len(found))
	for _, o := range found {
		endpoints = append(endpoints, o.(*discoveryv1.EndpointSlice))
	}
	return endpoints
}

func (c *Cluster) translateService(key model.ServiceKey, service *corev1.Service) model.Service {
	endpoints := c.endpointsOf(name{key.Namespace, key.Name})
	translated, wrong := TranslateService(key, service, endpoints, c.options)
	if delete(c.serviceProblems, key); len(wrong) > 0 {
		c.serviceProblems[key] = wrong
	}
	return translated
}

func (c *Cluster) send(ctx context.Context, u model.Update) bool {
	all := slices.Clone(c.routeProblems)
	for _, found := range c.serviceProblems {
		all = append(all, found...)
	}
	for _, found := range c.l4Problems {
		all = append(all, found...)
	}
	u.Problems, u.Served = all.sorted(), c.served
	select {
	case c.updates <- u:
		return true
	case <-ctx.Done():
		return false
	}
}

// changed looks at what an informer tells. One of the objects may be nil.
func (c *Cluster) changed(before, after any) {
	c.mu.Lock()
	c.lastEvent = time.Now()
	onStatus := c.onStatus
	c.mu.Unlock()
	for _, o := range []any{before, after} {
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok {
			if n, ok := serviceOf(slice); ok {
				c.changes.addService(n)
				fabric, _ := c.options.fabricService()
				proxies, _ := c.options.proxyService()
				if n == fabric || n == proxies {
					c.changes.addRoutes() // a node has come, gone or changed
				}
			}
		}
	}
	if ingress, ok := after.(*networkingv1.Ingress); ok && onStatus != nil {
		if was, ok := before.(*networkingv1.Ingress); !ok || !sameStatus(was, ingress) {
			onStatus()
		}
	}
	if service, ok := after.(*corev1.Service); ok && onStatus != nil && isLoadBalancer(service) {
		onStatus() // somebody may have changed it; the reporter compares
	}
	if routesDiffer(before, after) {
		c.changes.addRoutes()
	}
}

// used returns what is referred to, there or not.
func (t *translation) used() map[reference]struct{} {
	out := make(map[reference]struct{}, len(t.secrets.used)+len(t.configMaps.used))
	for n := range t.secrets.used {
		out[reference{"Secret", n}] = struct{}{}
	}
	for n := range t.configMaps.used {
		out[reference{"ConfigMap", n}] = struct{}{}
	}
	return out
}

func (c *Cluster) usesAnyOf(changed map[reference]struct{}) bool {
	for r := range changed {
		if _, used := c.used[r]; used {
			return true
		}
	}
	return false
}

func (c *Cluster) watchFailed(resource string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("watching %s: %v", resource, err)
	if text != c.lastErr || time.Since(c.errAt) > errorStays {
		c.log.Warn().Str("resource", resource).Err(err).Msg("cannot watch the cluster; what is known stays in force")
	}
	c.lastErr, c.errAt = text, time.Now()
}

// Describe says which cluster is watched and how that goes.
func (c *Cluster) Describe() status.Source {
	d := status.Source{Kind: "cluster", Location: c.connection.URL, Error: c.connection.Err()}
	for _, w := range c.informers {
		if !w.informer.HasSynced() {
			d.Waiting = append(d.Waiting, w.resource)
		}
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
