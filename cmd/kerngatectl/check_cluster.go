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

// check reads all Ingresses, and the ConfigMap of ingress-nginx's controller if it is named.
func (c cluster) check(ctx context.Context, checker *check.Checker, controller string) error {
	out, err := c.get(ctx, "only the right to list Ingresses in all namespaces is needed", "ingresses.networking.k8s.io", "--all-namespaces")
	if err != nil {
		return err
	}
	if err := checker.Add("cluster", out); err != nil || controller == "" {
		return err
	}
	namespace, name, ok := strings.Cut(controller, "/")
	if !ok {
		return usageError{fmt.Errorf("--ingress-nginx-configmap %q is not of the form NAMESPACE/NAME", controller)}
	}
	if out, err = c.get(ctx, "the right to read this ConfigMap is needed", "configmap", name, "--namespace", namespace); err != nil {
		return err
	}
	return checker.Add("cluster configmap", out)
}

// get runs kubectl get.
func (c cluster) get(ctx context.Context, right string, what ...string) (*bytes.Buffer, error) {
	args := append(append([]string{"get"}, what...), "--output", "json")
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
		return nil, errors.New("kubectl is not installed, but --cluster needs it: install it, or run this where kubectl is: kubectl get ingress -A -o yaml | kerngatectl check -")
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the cluster has not answered within %s", clusterTimeout)
	case err != nil:
		return nil, fmt.Errorf("kubectl %s: %w: %s (%s)", strings.Join(args, " "), err, strings.TrimSpace(said.String()), right)
	}
	return &out, nil
}
