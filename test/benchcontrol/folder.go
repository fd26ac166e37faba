//go:build linux

package main

import (
	"context"
	"fmt"

	"github.com/kerngate/kerngate/test/lab"
)

// perFile is how many Ingresses a file of the folder holds.
const perFile = 500

type folder struct{ k *lab.Kerngate }

func newFolder(_ *lab.Lab, k *lab.Kerngate) (source, error) { return folder{k}, nil }

func (folder) name() string   { return "folder" }
func (folder) args() []string { return nil }
func (folder) stop()          {}

func (f folder) fill(_ context.Context, n int) error {
	pod := f.k.Node.Pods[0].Endpoint(false)
	objects := []lab.Object{lab.IngressClass(), lab.Ingress("stable", lab.Path{Host: stableHost, Service: "web-0"})}
	for i := range n {
		service := fmt.Sprintf("web-%d", i/perService)
		if i%perService == 0 {
			objects = append(objects, lab.Service(service), lab.EndpointSlice(service, pod))
		}
		objects = append(objects, lab.Ingress(fmt.Sprintf("host-%d", i), lab.Path{Host: hostOf(i), Service: service}))
		if i%perFile == perFile-1 || i == n-1 {
			if err := f.k.Manifests.Write(fmt.Sprintf("%06d.yaml", i/perFile), objects...); err != nil {
				return err
			}
			objects = nil
		}
	}
	return nil
}

func (f folder) publish(_ context.Context, name, host string) error {
	return f.k.Manifests.Write(name+".yaml", lab.Ingress(name, lab.Path{Host: host, Service: "web-0"}))
}
