package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// keptEvery is the shortest time between two writes of the file; keptShare bounds the part of
	// one CPU that writing takes: one that took a second is followed by 20 without one.
	keptEvery = time.Second
	keptShare = 20
	// keptTouch is how often the file is marked as current while nothing changes.
	keptTouch = 10 * time.Second
	// nodeEvents is the namespace of events about nodes, which are in none.
	nodeEvents = "default"
	// reasonServedKept is the reason of the event about a start without the API server.
	reasonServedKept = "ServedKeptObjects"
)

// Keep says where a source keeps its objects, so that an agent which starts while the API server
// is away has something to serve.
type Keep struct {
	Folder string // on a tmpfs, since it holds private keys; "": nothing is kept
	Node   string // that events are about
	// Patience is how long the API server may take to list everything before the kept objects are
	// served; nil: not at all.
	Patience func() time.Duration
	Metrics  prometheus.Registerer // nil: none
}

// keeper keeps the objects of a source in a file.
type keeper struct {
	Keep
	dirty  chan struct{} // holds a value if the file is not up to date
	writes *prometheus.CounterVec
	failed string // why the last write failed; owned by run

	mu sync.Mutex
	// served is when the kept objects that are served were current; zero: others are served.
	served time.Time
}

// Keep has the source keep its objects. It is called before Run.
func (c *Source) Keep(k Keep) error {
	c.kept = &keeper{Keep: k, dirty: make(chan struct{}, 1), writes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kerngate_agent_kept_objects_writes_total",
		Help: "Writes of the file with the objects to serve when the agent starts without the API server, by result: ok or failed.",
	}, []string{"result"})}
	for _, result := range []string{"ok", "failed"} {
		c.kept.writes.WithLabelValues(result)
	}
	if k.Metrics != nil {
		for _, collector := range []prometheus.Collector{c.kept.writes, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kerngate_agent_kept_objects_age_seconds",
			Help: "Age of the objects that are served since the API server has not answered this agent yet; 0: those of the API server are served.",
		}, c.kept.age)} {
			if err := k.Metrics.Register(collector); err != nil {
				return err
			}
		}
	}
	if k.Folder == "" {
		return nil
	}
	if err := prepareFolder(k.Folder); err != nil {
		c.log.Error().Err(err).Str("folder", k.Folder).Msg("the objects of the cluster are not kept on this node: an agent that starts while the API server is away has nothing to serve (see --state-dir)")
		c.kept.Folder = ""
	}
	return nil
}

// prepareFolder makes the folder, for root alone, and refuses one that is on a disk.
func prepareFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("not a folder")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return err
	}
	if fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		return errors.New("not on a tmpfs: private keys would be written to a disk")
	}
	return os.Chmod(path, 0o700)
}

// RemoveKept removes what sources have kept in a folder.
func RemoveKept(folder string) error {
	for _, name := range []string{keptName, keptTemp, keptAside} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	os.Remove(folder) // stays if it is mounted, or others have files there
	return nil
}

// changed notes that the objects differ from those of the file.
func (k *keeper) changed() {
	if k == nil || k.Folder == "" {
		return
	}
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

// servedAt returns when the kept objects that are served were current; zero: others are served.
func (k *keeper) servedAt() time.Time {
	if k == nil {
		return time.Time{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.served
}

func (k *keeper) setServed(at time.Time) (before time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, k.served = k.served, at
	return before
}

func (k *keeper) age() float64 {
	if at := k.servedAt(); !at.IsZero() {
		return time.Since(at).Seconds()
	}
	return 0
}

// keep writes the file when the objects have changed, until ctx ends, and then once more.
func (c *Source) keep(ctx context.Context) {
	k := c.kept
	touch := time.NewTicker(keptTouch)
	defer touch.Stop()
	for {
		select {
		case <-ctx.Done():
			select {
			case <-k.dirty:
				c.writeKept()
			default:
			}
			return
		case <-touch.C:
			c.touchKept()
			continue
		case <-k.dirty:
		}
		started := time.Now()
		c.writeKept()
		select {
		case <-time.After(max(keptEvery, keptShare*time.Since(started))):
		case <-ctx.Done():
		}
	}
}

// touchKept marks the file as current, which it is while the API server answers.
func (c *Source) touchKept() {
	if c.kept.servedAt().IsZero() && len(c.kept.dirty) == 0 && c.connection.Err() == "" {
		now := time.Now()
		os.Chtimes(filepath.Join(c.kept.Folder, keptName), now, now) // not there yet: written soon
	}
}

func (c *Source) writeKept() {
	k := c.kept
	err := writeKept(k.Folder, kept{c.connection.URL, c.objects()})
	if err == nil {
		k.writes.WithLabelValues("ok").Inc()
		k.failed = ""
		return
	}
	k.writes.WithLabelValues("failed").Inc()
	if k.failed != err.Error() {
		c.log.Error().Err(err).Str("folder", k.Folder).Msg("cannot keep the objects on this node: an agent that starts while the API server is away will serve older ones")
	}
	k.failed = err.Error()
}

// objects are all that are known.
func (c *Source) objects() (o kube.Objects) {
	var errs [4]error
	o.Ingresses, errs[0] = c.ingresses.List(labels.Everything())
	o.Classes, errs[1] = c.classes.List(labels.Everything())
	o.Services, errs[2] = c.services.List(labels.Everything())
	if err := errors.Join(errs[:]...); err != nil {
		c.log.Error().Err(err).Msg("reading the lists of objects") // of memory: cannot happen
	}
	for _, slice := range c.slices.List() {
		o.Slices = append(o.Slices, slice.(*discoveryv1.EndpointSlice))
	}
	for _, secret := range c.secrets.list() {
		o.Secrets = append(o.Secrets, secret.(*corev1.Secret))
	}
	o.ConfigMaps, o.Gateway.Namespaces = c.listConfigMaps(), c.namespaces()
	for _, config := range c.named.list() {
		o.ConfigMaps = append(o.ConfigMaps, config.(*corev1.ConfigMap))
	}
	return o
}

// serveKept sends what the file holds, if there is one. It reports false if ctx has ended.
func (c *Source) serveKept(ctx context.Context) bool {
	k := c.kept
	log := c.log.With().Str("file", filepath.Join(k.Folder, keptName)).Logger()
	found, info, err := readKept(k.Folder)
	switch {
	case errors.Is(err, os.ErrNotExist):
		log.Warn().Msg("the API server has not listed all objects yet, and none are kept on this node: nothing is served until it has")
		return true
	case errors.Is(err, errKeptUnreadable):
		err = errors.Join(err, os.Rename(filepath.Join(k.Folder, keptName), filepath.Join(k.Folder, keptAside)))
		log.Error().Err(err).Str("set_aside_as", keptAside).Msg("the kept objects cannot be used: nothing is served until the API server has listed all objects")
		return true
	case err != nil:
		log.Error().Err(err).Msg("cannot read the kept objects: nothing is served until the API server has listed all objects")
		return true
	case found.server != c.connection.URL:
		log.Warn().Str("of", found.server).Str("want", c.connection.URL).Msg("the kept objects are those of another API server and are not used")
		return true
	}
	at := info.ModTime()
	t := kube.NewTranslator(c.options)
	t.Replace(found.objects)
	u, _ := t.Update()
	k.setServed(at)
	u.Problems = append(u.Problems, model.Problem{
		Object: model.ObjectRef{Kind: "Node", Name: k.Node}, Severity: model.Warning, Reason: reasonServedKept,
		Message: fmt.Sprintf("the API server does not answer: the objects of %s, which were kept on this node, are served", at.UTC().Format(time.RFC3339)),
	})
	log.Warn().Time("as_of", at).Dur("age", time.Since(at)).Int("ingresses", len(found.objects.Ingresses)).
		Msg("the API server has not listed all objects yet: those that were kept on this node are served")
	return c.send(ctx, u)
}

// current notes that the objects of the API server are served.
func (c *Source) current(ctx context.Context) {
	k := c.kept
	if k == nil {
		return
	}
	at := k.setServed(time.Time{})
	if at.IsZero() {
		return
	}
	now := time.Now()
	text := fmt.Sprintf("the API server did not answer when the agent of this node started; until %s the objects of %s were served, which were kept on the node",
		now.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	c.log.Info().Time("as_of", at).Msg("the API server has listed all objects: they are served instead of those that were kept")
	if k.Node == "" {
		return
	}
	seen := metav1.NewTime(now)
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "kerngate-", Namespace: nodeEvents},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: k.Node, UID: types.UID(k.Node)},
		Reason:         reasonServedKept, Message: text, Type: corev1.EventTypeWarning,
		Source:         corev1.EventSource{Component: "kerngate", Host: k.Node},
		FirstTimestamp: seen, LastTimestamp: seen, Count: 1,
	}
	c.running.Go(func() {
		for try := range 5 { // it has just come back
			_, err := c.client.CoreV1().Events(nodeEvents).Create(ctx, event, metav1.CreateOptions{})
			if err == nil || ctx.Err() != nil {
				return
			}
			c.log.Warn().Err(err).Int("try", try+1).Msg("cannot write the event about the kept objects")
			select {
			case <-time.After(time.Second << try):
			case <-ctx.Done():
				return
			}
		}
	})
}
