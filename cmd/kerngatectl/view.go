package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// view is what could be read of a node. Either half may be missing, with its error.
type view struct {
	maps     *explain.Maps
	mapsErr  error
	services *status.Services
	agentErr error
}

// look reads the maps, and the agent's services for the names of pods.
func look(ctx context.Context, e env, o *options) (view, error) {
	var v view
	if v.maps, v.mapsErr = e.readMaps(o.bpffs); v.mapsErr != nil {
		v.mapsErr = mapsError(o, v.mapsErr)
	}
	v.services, v.agentErr = ask[status.Services](ctx, e, o, status.QueryServices)
	if v.maps == nil && v.services == nil {
		return v, errors.Join(v.mapsErr, v.agentErr)
	}
	return v, nil
}

// notes tells on standard error which half is missing.
func (v view) notes(e env) {
	for _, err := range []error{v.mapsErr, v.agentErr} {
		if err != nil {
			fmt.Fprintln(e.stderr, "note:", err)
		}
	}
}
