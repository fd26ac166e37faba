package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/look/check"
)

// cluster is one whose Ingresses are checked. They are read by kubectl, which knows every
// way to log in that there is, so that this program need not.
type cluster struct {
	asked               bool
	kubeconfig, context string
}

// clusterTimeout bounds the reading of all Ingresses.
const clusterTimeout = 2 * time.Minute

func (c cluster) check(ctx context.Context, checker *check.Checker) error {
	args := []string{"get", "ingresses.networking.k8s.io", "--all-namespaces", "--output", "json"}
	if c.kubeconfig != "" {
		args = append(args, "--kubeconfig", c.kubeconfig)
	}
	if c.context != "" {
		args = append(args, "--context", c.context)
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	var out, said bytes.Buffer
	command := exec.CommandContext(ctx, "kubectl", args...)
	command.Stdout, command.Stderr = &out, &said
	switch err := command.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("kubectl is not installed, but --cluster needs it: install it, or run this where kubectl is: kubectl get ingress -A -o yaml | kerngatectl check -")
	case ctx.Err() != nil:
		return fmt.Errorf("the cluster has not answered within %s", clusterTimeout)
	case err != nil:
		return fmt.Errorf("kubectl %s: %w: %s (only the right to list Ingresses in all namespaces is needed)", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return checker.Add("cluster", &out)
}
