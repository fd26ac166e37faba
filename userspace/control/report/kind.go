package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/control/owner"
	"github.com/kerngate/kerngate/userspace/model"
)

// kind is a kind of object whose status is written.
type kind[O metav1.Object] struct {
	name string
	list func() ([]O, error) // of a cache: they are not changed
	// next returns what an object's status is to be where that is something else than it is.
	next  func(O, said) (status any, changed bool)
	patch func(context.Context, O, []byte, metav1.PatchOptions) error
}

// said is what translation says of an object.
type said struct {
	published bool
	addresses []netip.Addr
	findings  []model.Finding
}

// addressesOr returns the addresses of an object that is published, and else others.
func (s said) addressesOr(others []netip.Addr) []netip.Addr {
	if s.published {
		return s.addresses
	}
	return others
}

// sayings sorts statuses by object.
func sayings(s model.Statuses) map[model.ObjectRef]said {
	out := make(map[model.ObjectRef]said, len(s.Published))
	for _, p := range s.Published {
		out[p.Object] = said{published: true, addresses: p.Addresses}
	}
	for _, f := range s.Findings {
		one := out[f.Object]
		one.findings = append(one.findings, f)
		out[f.Object] = one
	}
	return out
}

// maxFailures is after how many failed writes the API server is left alone: the rest can wait.
const maxFailures = 10

// write brings the status of every object of a kind to what it is to be.
func write[O metav1.Object](ctx context.Context, r *Reporter, k kind[O], all map[model.ObjectRef]said) error {
	objects, err := k.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range objects {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ref := model.ObjectRef{Kind: k.name, Namespace: o.GetNamespace(), Name: o.GetName()}
		status, changed := k.next(o, all[ref])
		if !changed {
			continue
		}
		// Not over a version that is newer than what was judged.
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": o.GetResourceVersion()}, "status": status})
		if err == nil {
			err = k.patch(ctx, o, patch, metav1.PatchOptions{FieldManager: owner.Manager(r.Class)})
		}
		switch {
		case err == nil:
			r.Log.Info().Stringer("object", ref).Msg("status written")
		case apierrors.IsNotFound(err): // deleted meanwhile
		case apierrors.IsConflict(err): // changed meanwhile: the informer will tell
			r.signal()
		default:
			if errs = append(errs, fmt.Errorf("status of %s: %w", ref, err)); len(errs) == maxFailures {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}
