package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ask asks the agent for a part of its state. An error says what to do next.
func ask[T any](ctx context.Context, e env, o *options, what string) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	b, err := e.ask(ctx, o.socket, what)
	if err != nil {
		return nil, agentError(o, err)
	}
	out := new(T)
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("the agent's answer to %q cannot be read (%w): use the kerngatectl of the agent's version", what, err)
	}
	return out, nil
}

func agentError(o *options, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the agent does not listen on %s: start it, or name its socket with --socket", o.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no access to %s: run kerngatectl as root (%w)", o.socket, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the agent on %s does not answer within %s: look at its log, or raise --timeout (%w)", o.socket, o.timeout, err)
	}
	return fmt.Errorf("asking the agent on %s: %w", o.socket, err)
}

// mapsError says what to do when the maps cannot be read.
func mapsError(o *options, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no maps in %s: start the agent on this node, or name its folder with --bpffs (%w)", o.bpffs, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no access to the maps in %s: run kerngatectl as root (%w)", o.bpffs, err)
	}
	return fmt.Errorf("reading the maps in %s: %w", o.bpffs, err)
}
