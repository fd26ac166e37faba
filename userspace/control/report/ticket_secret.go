package report

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kerngate/kerngate/userspace/control/tickets"
)

const (
	// ticketSecretType tells people what it is; the agent goes by the name.
	ticketSecretType = "kerngate.dev/ticket-keys"
	// ticketsInterval is how often the Secret is read. It may be long, as keys are made
	// known hours before they are used.
	ticketsInterval = time.Minute
	// ticketsSoon is the interval until there are keys at all.
	ticketsSoon = 2 * time.Second
	// ticketsTimeout bounds one request.
	ticketsTimeout = 10 * time.Second
)

// TicketSecret is the Secret through which the agents of a cluster share the keys of TLS
// session tickets. Every agent reads it; the one that holds the Lease makes it and rotates
// its keys. Whoever holds the Lease in error does no harm: a write names the version that
// it replaces, so of two only one succeeds.
type TicketSecret struct {
	TicketOptions
	client kubernetes.Interface
	name   string
	rings  chan tickets.Ring
	nudge  chan struct{}

	// Run's goroutine owns these.
	last  tickets.Ring
	wrong string // why there are no keys, "" if there are
}

// TicketOptions of a TicketSecret. The zero value of what is optional is said beside it.
type TicketOptions struct {
	Namespace string
	Class     string
	Now       func() time.Time // nil: the clock
	Interval  time.Duration    // how often the Secret is read; 0: a minute
	Log       zerolog.Logger
}

// NewTicketSecret returns the Secret of the agents of a class.
func NewTicketSecret(client kubernetes.Interface, o TicketOptions) *TicketSecret {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Interval == 0 {
		o.Interval = ticketsInterval
	}
	return &TicketSecret{
		TicketOptions: o, client: client, name: "kerngate-" + o.Class + "-tickets",
		rings: make(chan tickets.Ring), nudge: make(chan struct{}, 1),
	}
}

// Rings delivers the keys, and each change of them.
func (s *TicketSecret) Rings() <-chan tickets.Ring { return s.rings }

// Run reads until ctx ends. Without the Secret each proxy makes keys of its own, and
// clients resume sessions with that proxy alone.
func (s *TicketSecret) Run(ctx context.Context) {
	for {
		ring, err := s.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.complain(err)
		case ring != s.last:
			s.last = ring
			s.complain(nil)
			select {
			case s.rings <- ring:
			case <-ctx.Done():
				return
			}
		}
		wait := s.Interval
		if s.last == (tickets.Ring{}) {
			wait = min(wait, ticketsSoon)
		}
		if !s.sleep(ctx, wait, s.nudge) {
			return
		}
	}
}

func (s *TicketSecret) read(ctx context.Context) (tickets.Ring, error) {
	secret, err := s.get(ctx)
	if err != nil {
		return tickets.Ring{}, err
	}
	return tickets.Parse(secret.Data)
}

func (s *TicketSecret) get(ctx context.Context) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, ticketsTimeout)
	defer cancel()
	return s.client.CoreV1().Secrets(s.Namespace).Get(ctx, s.name, metav1.GetOptions{})
}

// complain logs what is new about the Secret not being there.
func (s *TicketSecret) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == s.wrong || apierrors.IsNotFound(err) { // somebody is about to make it
		return
	}
	s.wrong = text
	if err != nil {
		s.Log.Warn().Err(err).Str("secret", s.Namespace+"/"+s.name).Msg("no shared session ticket keys; what proxies have stays in use")
	}
}

// keep makes the Secret and rotates its keys until ctx ends.
func (s *TicketSecret) keep(ctx context.Context) {
	for logged := ""; ; {
		changed, err := s.tend(ctx)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if err != nil && ctx.Err() == nil && text != logged {
			s.Log.Warn().Err(err).Msg("session ticket keys are not rotated; tried again")
		}
		logged = text
		if changed {
			select {
			case s.nudge <- struct{}{}:
			default:
			}
		}
		if !s.sleep(ctx, s.Interval, nil) {
			return
		}
	}
}

// tend does what is due. A conflict means that another agent has done it.
func (s *TicketSecret) tend(ctx context.Context) (changed bool, err error) {
	secret, err := s.get(ctx)
	ctx, cancel := context.WithTimeout(ctx, ticketsTimeout)
	defer cancel()
	secrets := s.client.CoreV1().Secrets(s.Namespace)
	now := s.Now()
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.name},
			Type:       ticketSecretType,
			Data:       tickets.New(now).Data(),
		}, metav1.CreateOptions{FieldManager: "kerngate"})
		if apierrors.IsAlreadyExists(err) {
			return true, nil
		}
		return s.wrote("made", err)
	}
	if err != nil {
		return false, fmt.Errorf("Secret %s/%s: %w", s.Namespace, s.name, err)
	}
	ring, err := tickets.Parse(secret.Data)
	switch {
	case err != nil:
		s.Log.Warn().Err(err).Str("secret", s.Namespace+"/"+s.name).Msg("session ticket keys cannot be read and are made anew")
		ring = tickets.New(now)
	case ring.Due(now):
		ring = ring.Rotate(now)
	case ring.Complete() == ring:
		return false, nil
	}
	ring = ring.Complete()
	secret.Data = ring.Data()
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: "kerngate"})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return true, nil
	}
	return s.wrote("rotated", err)
}

func (s *TicketSecret) wrote(what string, err error) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("Secret %s/%s: %w", s.Namespace, s.name, err)
	}
	s.Log.Info().Str("secret", s.Namespace+"/"+s.name).Msg("session ticket keys " + what)
	return true, nil
}

// sleep waits, and reports false if ctx has ended.
func (s *TicketSecret) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}
