package kube

import (
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// clientPolicy is what clients of an Ingress's hosts are asked for.
type clientPolicy struct {
	auth      model.ClientAuth
	authority *model.Authority // nil: cannot be had, so every client is refused
}

// clientPolicy finds the authority that clients' certificates are to be signed by.
func (t *translation) clientPolicy(a annotations, c *ingressnginx.Client) *clientPolicy {
	if c == nil {
		return nil
	}
	p := &clientPolicy{auth: c.Auth}
	if c.Secret == "" {
		return p
	}
	authority, err := t.authority(name{a.of.Namespace, c.Secret})
	if err != nil {
		a.warn(reasonOf(err), annotationAuthTLSSecret, err.Error()+"; every client is refused until it is mended")
		return p
	}
	p.authority = &authority
	return p
}
