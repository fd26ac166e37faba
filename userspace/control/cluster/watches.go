package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// watchWait is how long a translation is put off until what Ingresses refer to has been
// listed: without Secrets, hosts would for a moment get the default certificate.
const watchWait = 5 * time.Second

// watchedKind is a kind of objects to which Ingresses refer.
type watchedKind struct {
	kind     string // "Secret"
	plural   string // "Secrets"
	role     string // ClusterRole that gives rights to them
	selector string // of fields, "": all
	informer func(informers.SharedInformerFactory) cache.SharedIndexInformer
	same     func(before, after metav1.Object) bool
}

// watches watches objects of a kind where a served Ingress names one, and no others: rights
// can so be given namespace by namespace, and what nobody refers to is not read.
type watches struct {
	watchedKind
	client  kubernetes.Interface
	log     zerolog.Logger
	changes *changes

	mu  sync.Mutex
	all map[name]*watch // without a name: all objects of the namespace
}

type watch struct {
	informer cache.SharedIndexInformer
	stop     func()
	since    time.Time
	failure  string // why it cannot be listed, "" if it is not known that it cannot
}

func newWatches(kind watchedKind, client kubernetes.Interface, log zerolog.Logger, changes *changes) *watches {
	return &watches{watchedKind: kind, client: client, log: log, changes: changes, all: map[name]*watch{}}
}

// want watches these and nothing else. It reports whether all of them have been listed, or
// cannot be; if not, changes are signalled when that is so.
func (w *watches) want(ctx context.Context, wanted map[name]bool) bool {
	var over []*watch
	defer func() { // without the lock, for which their goroutines may wait
		for _, old := range over {
			old.stop()
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, old := range w.all {
		if !wanted[n] {
			over = append(over, old)
			delete(w.all, n)
		}
	}
	ready := true
	for n := range wanted {
		one := w.all[n]
		if one == nil {
			one = w.start(ctx, n)
			w.all[n] = one
		}
		ready = ready && (one.informer.HasSynced() || one.failure != "" || time.Since(one.since) >= watchWait)
	}
	return ready
}

// start begins to watch an object, or a namespace. The caller holds the lock.
func (w *watches) start(ctx context.Context, n name) *watch {
	ctx, cancel := context.WithCancel(ctx)
	selector := w.selector
	if n.Name != "" {
		selector = fields.OneTermEqualSelector("metadata.name", n.Name).String()
	}
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0,
		informers.WithNamespace(n.Namespace), informers.WithTransform(kube.Slim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = selector }))
	one := &watch{informer: w.informer(factory), since: time.Now()}
	changed := func(o any) {
		if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		if object, ok := o.(metav1.Object); ok {
			w.changes.addReferenced(reference{w.kind, nameOf(object)})
		}
	}
	_, err := one.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		DeleteFunc: changed,
		UpdateFunc: func(before, after any) {
			if was, ok := before.(metav1.Object); !ok || !w.same(was, after.(metav1.Object)) {
				changed(after)
			}
		},
	})
	if err == nil {
		err = one.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { w.failed(n, one, err) })
	}
	if err != nil {
		w.log.Error().Err(err).Stringer("where", n).Msg("watching " + w.plural) // only after it was started
	}
	factory.Start(ctx.Done())
	noticed := func() { w.changes.addReferenced(reference{w.kind, n}) }
	late := time.AfterFunc(watchWait, noticed)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), one.informer.HasSynced) {
			late.Stop()
			noticed()
		}
	})
	one.stop = func() {
		cancel()
		late.Stop()
		factory.Shutdown()
		waiting.Wait()
	}
	return one
}

// failed notes why objects cannot be listed. Once they were, what is known stays in force.
func (w *watches) failed(n name, one *watch, err error) {
	if one.informer.HasSynced() {
		w.log.Warn().Err(err).Stringer("where", n).Msg("cannot watch " + w.plural + "; what is known stays in force")
		return
	}
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if apierrors.IsForbidden(err) {
		text = "the agent's account has no right to: bind ClusterRole " + w.role + " in namespace " + n.Namespace
	}
	w.mu.Lock()
	news := one.failure != text
	one.failure = text
	w.mu.Unlock()
	if news {
		w.log.Warn().Err(err).Stringer("where", n).Msg("cannot list " + w.plural)
		w.changes.addReferenced(reference{w.kind, n})
	}
}

// find returns an object, nil if it is not there or cannot be read: unreadable then says why.
func (w *watches) find(n name) (object any, unreadable string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.all[n]
	if one == nil {
		one = w.all[name{Namespace: n.Namespace, Name: ""}]
	}
	switch {
	case one == nil:
		return nil, ""
	case !one.informer.HasSynced() && one.failure != "":
		return nil, one.failure
	case !one.informer.HasSynced():
		return nil, fmt.Sprintf("the API server has not listed the %s of namespace %s yet", w.plural, n.Namespace)
	}
	object, there, err := one.informer.GetStore().GetByKey(n.String())
	if err != nil || !there {
		return nil, ""
	}
	return object, ""
}

// watching reports whether an object is watched, or all of its namespace.
func (w *watches) watching(n name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[n] != nil || w.all[name{Namespace: n.Namespace, Name: ""}] != nil
}

func (w *watches) get(n name) (metav1.Object, error) {
	object, _ := w.find(n)
	if object == nil {
		return nil, errNotInCluster
	}
	return object.(metav1.Object), nil
}

// list returns all objects that are known.
func (w *watches) list() (out []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		out = append(out, one.informer.GetStore().List()...)
	}
	return out
}

// waiting lists what has not been read yet.
func (w *watches) waiting() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, one := range w.all {
		if one.informer.HasSynced() || one.failure != "" {
			continue
		}
		where := n.Namespace
		if n.Name != "" {
			where = n.String()
		}
		out = append(out, strings.ToLower(w.plural)+" of "+where)
	}
	slices.Sort(out)
	return out
}

func (w *watches) stop() {
	w.mu.Lock()
	all := w.all
	w.all = map[name]*watch{}
	w.mu.Unlock()
	for _, one := range all {
		one.stop()
	}
}
