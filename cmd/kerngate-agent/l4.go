package main

import (
	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader/attach"
)

// l4Flags are about services that the kernel forwards to.
type l4Flags struct {
	hook                     string
	pool                     []string
	tcpServices, udpServices string
	remote                   bool
}

func (f *l4Flags) define(s *pflag.FlagSet) {
	s.StringVar(&f.hook, "l4-hook", string(attach.L4Auto), "where packets to L4 services are forwarded: auto (in XDP if it runs in the driver of a physical device, else in tc), xdp (wherever kg_xdp is attached; packets must arrive with complete checksums) or tc")
	s.BoolVar(&f.remote, "l4-remote", false, "let L4 services use pods of other nodes too, by plain routing; works only where the replies are routed back through this node")
	s.StringArrayVar(&f.pool, "address-pool", nil, "`prefix` of further addresses that Services of type LoadBalancer with class kerngate.dev/kerngate may request; repeatable")
	s.StringVar(&f.tcpServices, "tcp-services-configmap", "", "ConfigMap with the TCP ports to publish, as NAMESPACE/NAME; its entries read PORT: NAMESPACE/SERVICE:PORT; empty: none")
	s.StringVar(&f.udpServices, "udp-services-configmap", "", "ConfigMap with the UDP ports to publish, in the same format; empty: none")
}

// checkL4 checks what L4 services may have. It comes after the ingress addresses.
func (o *options) checkL4() error {
	f := o.flags.l4
	var err error
	if o.kube.AddressPool, err = parsePrefixes("--address-pool", f.pool); err != nil {
		return err
	}
	if o.kube.TCPServices, err = configMapName("--tcp-services-configmap", f.tcpServices); err != nil {
		return err
	}
	if o.kube.UDPServices, err = configMapName("--udp-services-configmap", f.udpServices); err != nil {
		return err
	}
	if o.kube.IngressNginx, err = configMapName("--ingress-nginx-configmap", o.flags.ingressNginx); err != nil {
		return err
	}
	o.kube.Addresses = o.node.Addresses
	if o.kube.Allowed, err = parsePrefixes("--allow-destinations", o.flags.allowDestinations); err != nil {
		return err
	}
	o.node.L4Remote = f.remote
	return nil
}
