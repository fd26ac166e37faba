// Package report writes to the cluster's objects what their authors should know: events about
// problems, addresses and conditions in their status. It also keeps the Secret through which the
// agents share session ticket keys, since the same one of them writes it.
package report

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
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

// Options of a Reporter.
type Options struct {
	Addresses     []netip.Addr // the ingress addresses; those of agents of older versions are known by them
	PublishStatus bool
	Namespace     string // of the Lease
	Class         string
	Identity      string        // of this agent: the node's name
	Tickets       *TicketSecret // maintained by the holder of the Lease; nil: ticket keys are not shared
	Log           zerolog.Logger
}

// Reporter writes to the cluster's objects: an event when a problem begins and one when it
// ends, and addresses and conditions in their status. All agents know the
// same, so only the one that holds a Lease writes.
type Reporter struct {
	Options
	client  kubernetes.Interface
	cluster Cluster
	wake    chan struct{}
	now     func() time.Time

	mu       sync.Mutex
	known    bool // Report has been called
	problems []model.Problem
	statuses model.Statuses
}

// Cluster is what is known of the objects, without asking the API server. What it returns is not
// changed.
type Cluster interface {
	Ingresses() ([]*networkingv1.Ingress, error)
	Services() ([]*corev1.Service, error)
	IngressClass(name string) (*networkingv1.IngressClass, error)
	// Reference names an object as events need it: with its UID.
	Reference(model.ObjectRef) (runtime.Object, error)
	// OnStatus has f called when the status of an object may have changed.
	OnStatus(f func())
}

// New returns a reporter for the objects of a cluster.
func New(client kubernetes.Interface, cluster Cluster, options Options) *Reporter {
	r := &Reporter{Options: options, client: client, cluster: cluster, wake: make(chan struct{}, 1), now: time.Now}
	cluster.OnStatus(r.signal) // somebody else may have changed it
	return r
}

// Report takes note of what is to be told. It does not block.
func (r *Reporter) Report(problems []model.Problem, statuses model.Statuses) {
	r.mu.Lock()
	r.known, r.problems, r.statuses = true, problems, statuses
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
	events := newEventWriter(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kerngate", Host: r.Identity}), r.cluster.Reference)
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
		known, problems, statuses := r.known, r.problems, r.statuses
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
		all := sayings(statuses)
		if err := errors.Join(write(ctx, r, r.ingresses(), all), write(ctx, r, r.services(), all)); err != nil && ctx.Err() == nil {
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
