package kube

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// secretWait is how long a translation is put off until the Secrets of a namespace
	// have been listed: without them its hosts would for a moment get the default
	// certificate.
	secretWait = 5 * time.Second
	// notSecretTypes are Secrets that cannot hold what is looked for, and of which there
	// can be many and large ones: they are never sent to the agent.
	notSecretTypes = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson,type!=bootstrap.kubernetes.io/token"
)

// secretWatches watches the Secrets of those namespaces in which a served Ingress names
// one, and of no other: rights can so be given namespace by namespace, and what nobody
// refers to is not read. Of each Secret only what usedKeys names is kept.
type secretWatches struct {
	client  kubernetes.Interface
	log     zerolog.Logger
	changes *changes

	mu  sync.Mutex
	all map[string]*secretWatch // by namespace
}

type secretWatch struct {
	informer cache.SharedIndexInformer
	stop     func()
	since    time.Time
	failure  string // why it cannot be listed, "" if it is not known that it cannot
}

func newSecretWatches(client kubernetes.Interface, log zerolog.Logger, changes *changes) *secretWatches {
	return &secretWatches{client: client, log: log, changes: changes, all: map[string]*secretWatch{}}
}

// secretNamespaces returns where the Secrets are that a translation will look for.
func secretNamespaces(objects Objects, o Options) map[string]bool {
	namespaces := map[string]bool{}
	if namespace, _, ok := strings.Cut(o.DefaultCertificate, "/"); ok {
		namespaces[namespace] = true
	}
	for _, ingress := range newTranslation(Objects{Ingresses: objects.Ingresses, Classes: objects.Classes}, o).served() {
		if slices.ContainsFunc(ingress.Spec.TLS, func(e networkingv1.IngressTLS) bool { return e.SecretName != "" }) ||
			ingress.Annotations[annotationAuthTLSSecret] != "" || ingress.Annotations[annotationProxySSLSecret] != "" {
			namespaces[ingress.Namespace] = true
		}
	}
	return namespaces
}

// want watches these namespaces and no others. It reports whether all of them have been
// listed, or cannot be; if not, changes are signalled when that is so.
func (w *secretWatches) want(ctx context.Context, namespaces map[string]bool) bool {
	var over []*secretWatch
	defer func() { // without the lock, for which their goroutines may wait
		for _, watch := range over {
			watch.stop()
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	for namespace, watch := range w.all {
		if !namespaces[namespace] {
			over = append(over, watch)
			delete(w.all, namespace)
		}
	}
	ready := true
	for namespace := range namespaces {
		watch := w.all[namespace]
		if watch == nil {
			watch = w.start(ctx, namespace)
			w.all[namespace] = watch
		}
		ready = ready && (watch.informer.HasSynced() || watch.failure != "" || time.Since(watch.since) >= secretWait)
	}
	return ready
}

// start begins to watch a namespace. The caller holds the lock.
func (w *secretWatches) start(ctx context.Context, namespace string) *secretWatch {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0,
		informers.WithNamespace(namespace), informers.WithTransform(slim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = notSecretTypes }))
	watch := &secretWatch{informer: factory.Core().V1().Secrets().Informer(), since: time.Now()}
	changed := func(o any) {
		if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		if secret, ok := o.(*corev1.Secret); ok {
			w.changes.addSecret(nameOf(secret))
		}
	}
	_, err := watch.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		DeleteFunc: changed,
		UpdateFunc: func(before, after any) {
			if was, ok := before.(*corev1.Secret); !ok || !sameData(was, after.(*corev1.Secret)) {
				changed(after)
			}
		},
	})
	if err == nil {
		err = watch.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { w.failed(namespace, watch, err) })
	}
	if err != nil {
		w.log.Error().Err(err).Str("namespace", namespace).Msg("watching Secrets") // only after it was started
	}
	factory.Start(ctx.Done())
	late := time.AfterFunc(secretWait, w.changes.addRoutes)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), watch.informer.HasSynced) {
			w.changes.addRoutes()
		}
	})
	watch.stop = func() {
		cancel()
		late.Stop()
		factory.Shutdown()
		waiting.Wait()
	}
	return watch
}

// failed notes why a namespace's Secrets cannot be listed. Once they were, what is known
// stays in force.
func (w *secretWatches) failed(namespace string, watch *secretWatch, err error) {
	if watch.informer.HasSynced() {
		w.log.Warn().Err(err).Str("namespace", namespace).Msg("cannot watch Secrets; what is known stays in force")
		return
	}
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if apierrors.IsForbidden(err) {
		text = "the agent's account has no right to: bind ClusterRole kerngate-secrets in namespace " + namespace
	}
	w.mu.Lock()
	news := watch.failure != text
	watch.failure = text
	w.mu.Unlock()
	if news {
		w.log.Warn().Err(err).Str("namespace", namespace).Msg("cannot list Secrets")
		w.changes.addRoutes()
	}
}

// list returns the Secrets, and why those of namespaces cannot be had.
func (w *secretWatches) list() (all []*corev1.Secret, unreadable map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unreadable = map[string]string{}
	for namespace, watch := range w.all {
		if !watch.informer.HasSynced() {
			unreadable[namespace] = watch.failure
			if watch.failure == "" {
				unreadable[namespace] = fmt.Sprintf("the API server has not listed the Secrets of namespace %s yet", namespace)
			}
			continue
		}
		for _, o := range watch.informer.GetStore().List() {
			all = append(all, o.(*corev1.Secret))
		}
	}
	return all, unreadable
}

func (w *secretWatches) get(n name) (metav1.Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watch := w.all[n.namespace]
	if watch == nil {
		return nil, errNotInCluster
	}
	o, exists, err := watch.informer.GetStore().GetByKey(n.String())
	if err != nil || !exists {
		return nil, errNotInCluster
	}
	return o.(*corev1.Secret), nil
}

// waiting lists what has not been read yet.
func (w *secretWatches) waiting() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, namespace := range slices.Sorted(maps.Keys(w.all)) {
		if watch := w.all[namespace]; !watch.informer.HasSynced() && watch.failure == "" {
			out = append(out, "secrets of "+namespace)
		}
	}
	return out
}

func (w *secretWatches) stop() {
	w.mu.Lock()
	all := w.all
	w.all = map[string]*secretWatch{}
	w.mu.Unlock()
	for _, watch := range all {
		watch.stop()
	}
}

func sameData(a, b *corev1.Secret) bool {
	return a.UID == b.UID && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
}
