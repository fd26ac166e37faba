//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// addKerngate runs agent and proxy apart, so that the proxy alone is tied to its CPU.
func (b *bench) addKerngate(web, grpc []*lab.Pod, args ...string) error {
	k, err := b.node.NewKerngate(lab.Binaries(b.bin))
	if err != nil {
		return err
	}
	err = k.Manifests.Write("bench.yaml", lab.IngressClass(),
		lab.TLSSecret("ecdsa", b.ecdsa), lab.TLSSecret("rsa", b.rsa),
		lab.Service("bench"), lab.EndpointSlice("bench", endpoints(web)...),
		lab.ServiceOf("grpc", "kubernetes.io/h2c"), lab.EndpointSlice("grpc", endpoints(grpc)...),
		lab.WithTLS(lab.WithTLS(lab.Annotate(lab.Ingress("bench",
			lab.Path{Host: benchHost, Service: "bench"}, lab.Path{Host: rsaHost, Service: "bench"}, lab.Path{Host: grpcHost, Service: "grpc"}),
			"nginx.ingress.kubernetes.io/ssl-redirect", "false"), "ecdsa", benchHost, grpcHost), "rsa", rsaHost), ruled())
	if err != nil {
		return err
	}
	// wrk sends no SNI for an address; idle connections stay until they are measured.
	// As the others have it: connections that idle are not closed for want of descriptors to pods.
	k.Args = []string{"--run-proxy=false", "--default-certificate", "default/ecdsa", "--idle-timeout=10m", "--max-connections=1000000"}
	k.Args = append(k.Args, args...)
	if err := k.Start(); err != nil {
		return err
	}
	err = lab.Until(20*time.Second, "the agent's socket", func() error {
		_, err := os.Stat(k.Socket())
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, k.Agent.LogTail(10))
	}
	var proxy *lab.Process
	start := func() error {
		var err error
		if proxy, err = k.StartProxy("proxy", []int{proxyCPU}, "--workers", "1"); err != nil {
			return err
		}
		if err := k.WaitServing(b.lab.Client, 20*time.Second); err != nil {
			return fmt.Errorf("%w\n%s", err, proxy.LogTail(10))
		}
		return nil
	}
	if err := start(); err != nil {
		return err
	}
	version := "one worker"
	if out, err := exec.Command(k.Binaries.Path(lab.ProxyBinary), "--version").Output(); err == nil {
		version = strings.TrimSpace(string(out)) + ", " + version
	}
	b.proxies = append(b.proxies, &contender{
		name: "Kerngate", version: version, processes: k.ProxyPIDs,
		restart: func() error {
			if err := proxy.Stop(20 * time.Second); err != nil {
				return err
			}
			return start()
		},
		plain: netip.AddrPortFrom(b.lab.VIP4, 80), secure: netip.AddrPortFrom(b.lab.VIP4, 443),
	})
	return nil
}

// ruled is the Ingress of rulesHost, in ingress-nginx's words.
func ruled() lab.Object {
	ingress := lab.Ingress("ruled", lab.Path{Host: rulesHost, Path: "/app(/|$)(.*)", Type: "ImplementationSpecific", Service: "bench"})
	for key, value := range map[string]string{
		"rewrite-target":        "/$2",
		"configuration-snippet": `more_set_headers "X-Frame-Options: DENY"; more_set_headers "X-Site: $host"; proxy_set_header X-Tenant bench;`,
		"limit-rps":             "1000000",
	} {
		ingress = lab.Annotate(ingress, "nginx.ingress.kubernetes.io/"+key, value)
	}
	return ingress
}

func endpoints(pods []*lab.Pod) []lab.Endpoint {
	list := make([]lab.Endpoint, len(pods))
	for i, pod := range pods {
		list[i] = pod.Endpoint(false)
	}
	return list
}
