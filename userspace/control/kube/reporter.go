package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"github.com/kerngate/kerngate/userspace/model"
)

const (
	retryFirst = time.Second // wait after a failed write to the cluster
	retryMost  = time.Minute
)

// ReporterOptions of a Reporter.
type ReporterOptions struct {
	Addresses     []netip.Addr // written to the status of served Ingresses
	PublishStatus bool
	Namespace     string // of the Lease
	Class         string
	Identity      string        // of this agent: the node's name
	Tickets       *TicketSecret // kept by whoever holds the Lease; nil: nobody's business
	Log           zerolog.Logger
}

// Reporter writes to the cluster's objects: an event when a problem begins and one when it
// ends, and the ingress addresses in the status of served Ingresses. All agents know the
// same, so only the one that holds a Lease writes.
type Reporter struct {
	ReporterOptions
	client  kubernetes.Interface
	cluster *Cluster
	wake    chan struct{}

	mu       sync.Mutex
	known    bool // Report has been called
	problems []model.Problem
	served   []model.ObjectRef
}

// NewReporter returns a reporter for the objects of a cluster.
func NewReporter(client kubernetes.Interface, cluster *Cluster, options ReporterOptions) *Reporter {
	r := &Reporter{ReporterOptions: options, client: client, cluster: cluster, wake: make(chan struct{}, 1)}
	cluster.mu.Lock()
	cluster.onStatus = r.signal // somebody else may have changed it
	cluster.mu.Unlock()
	return r
}

// Report takes note of what is to be told. It does not block.
func (r *Reporter) Report(problems []model.Problem, served []model.ObjectRef) {
	r.mu.Lock()
	r.known, r.problems, r.served = true, problems, served
	r.mu.Unlock()
	r.signal()
}

func (r *Reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run competes for the Lease and writes while it holds it, until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: r.Namespace, Name: "kerngate-" + r.Class},
		Client:     r.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: r.Identity},
	}
	for ctx.Err() == nil {
		var working sync.WaitGroup
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: "kerngate-agent",
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { working.Go(func() { r.work(ctx) }) },
				OnStoppedLeading: func() { r.Log.Info().Msg("lost the Lease: another agent writes events and status now") },
			},
		})
		if err != nil {
			return fmt.Errorf("leader election: %w", err)
		}
		elector.Run(ctx)
		working.Wait()
		select {
		case <-time.After(retryFirst):
		case <-ctx.Done():
		}
	}
	return nil
}

// work writes until ctx ends.
func (r *Reporter) work(ctx context.Context) {
	r.Log.Info().Str("lease", r.Namespace+"/kerngate-"+r.Class).Msg("this agent writes events and status")
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(correlator))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: r.client.CoreV1().Events("")})
	events := newEventWriter(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kerngate", Host: r.Identity}), r.cluster.reference)
	var putOff <-chan time.Time // events of which an object had too many
	var retry <-chan time.Time
	backoff := retryFirst
	if r.Tickets != nil {
		var keeping sync.WaitGroup
		defer keeping.Wait()
		keeping.Go(func() { r.Tickets.keep(ctx) })
	}
	r.signal()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-retry:
		case <-putOff:
		}
		retry, putOff = nil, nil
		started := time.Now()
		r.mu.Lock()
		known, problems, served := r.known, r.problems, r.served
		r.mu.Unlock()
		if !known {
			continue // nothing is known of any object yet, not even that it is not served
		}
		if again := events.tell(problems); again > 0 {
			putOff = time.After(again)
		}
		if !r.PublishStatus {
			continue
		}
		if err := errors.Join(r.writeStatus(ctx, served), r.writeServiceStatus(ctx)); err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Dur("again_in", backoff).Msg("cannot write the status of Ingresses and Services")
			retry = time.After(backoff)
			backoff = min(2*backoff, retryMost)
		} else {
			backoff = retryFirst
		}
		// Each look is at every Ingress: while changes come one after the other, most of the
		// time is left to others.
		select {
		case <-time.After(max(minPause, pausePerLook*time.Since(started))):
		case <-ctx.Done():
		}
	}
}

const (
	minPause     = 20 * time.Millisecond
	pausePerLook = 4
)

var errNotInCluster = errors.New("not an object of the cluster")

// reference names an object as events need it: with its UID.
func (c *Cluster) reference(ref model.ObjectRef) (runtime.Object, error) {
	out := &corev1.ObjectReference{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	var meta metav1.Object
	var err error
	switch ref.Kind {
	case "Ingress":
		out.APIVersion = "networking.k8s.io/v1"
		meta, err = c.ingresses.Ingresses(ref.Namespace).Get(ref.Name)
	case "IngressClass":
		out.APIVersion = "networking.k8s.io/v1"
		meta, err = c.classes.Get(ref.Name)
	case "Service":
		out.APIVersion = "v1"
		meta, err = c.services.Services(ref.Namespace).Get(ref.Name)
	case "Secret":
		out.APIVersion = "v1"
		meta, err = c.secrets.get(name{ref.Namespace, ref.Name})
	case "ConfigMap":
		out.APIVersion = "v1"
		meta, err = c.named.get(name{ref.Namespace, ref.Name})
		for _, config := range c.listConfigMaps() {
			if refOf("ConfigMap", config) == ref {
				meta, err = config, nil
			}
		}
	case "EndpointSlice":
		out.APIVersion = "discovery.k8s.io/v1"
		o, exists, indexErr := c.slices.GetByKey(ref.Namespace + "/" + ref.Name)
		if err = indexErr; err == nil && !exists {
			err = errNotInCluster
		}
		if err == nil {
			meta = o.(metav1.Object)
		}
	default:
		err = errNotInCluster
	}
	if err != nil {
		return nil, err
	}
	out.UID, out.ResourceVersion = meta.GetUID(), meta.GetResourceVersion()
	return out, nil
}
