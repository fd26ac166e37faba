//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/kerngate/kerngate/test/lab"
)

// nginxStream is where Debian puts nginx's stream module.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// layOutPeers makes ready what else publishes a port, of what this machine has. Each kernel
// table exists only while it is measured; proxies wait all along and cost nothing then.
func layOutPeers(l *lab.Lab, node *lab.Node, backend netip.AddrPort) (ways []*way, err error) {
	missing := func(name, why string) { fmt.Printf("%s is not measured: %s.\n\n", name, why) }
	call := func(path, text string) func() error {
		return func() error {
			_, err := node.Run(lab.Command{Path: path, Args: strings.Fields(text)})
			return err
		}
	}
	if nft, err := exec.LookPath("nft"); err == nil {
		const port = 6001
		rules := fmt.Sprintf("add table ip kgt; add chain ip kgt pre { type nat hook prerouting priority dstnat; }; add rule ip kgt pre tcp dport %d dnat to %s", port, backend)
		ways = append(ways, &way{name: nftables, address: netip.AddrPortFrom(node.IPv4, port), on: call(nft, rules), off: call(nft, "delete table ip kgt")})
	} else {
		missing(nftables, "there is no nft")
	}
	const ipvs = "IPVS"
	if ipvsadm, err := exec.LookPath("ipvsadm"); err != nil {
		missing(ipvs, "there is no ipvsadm")
	} else if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		missing(ipvs, "this kernel has it not (CONFIG_IP_VS), or not loaded")
	} else {
		at := netip.AddrPortFrom(node.IPv4, 6004)
		add, server := call(ipvsadm, fmt.Sprintf("-A -t %s -s rr", at)), call(ipvsadm, fmt.Sprintf("-a -t %s -r %s -m", at, backend))
		ways = append(ways, &way{name: ipvs, address: at, off: call(ipvsadm, "-C"), on: func() error {
			if err := add(); err != nil {
				return err
			}
			return server()
		}})
	}
	if haproxy, err := exec.LookPath("haproxy"); err == nil {
		const port = 6002
		config := fmt.Sprintf("global\n nbthread 1\n maxconn 4096\ndefaults\n mode tcp\n timeout client 60s\n timeout server 60s\n timeout connect 5s\nlisten l\n bind :%d\n server s %s\n", port, backend)
		w, err := startProxy(l, node, haproxyTCP, port, config, haproxy, "-db", "-f")
		if err != nil {
			return nil, err
		}
		ways = append(ways, w)
	} else {
		missing(haproxyTCP, "it is not installed")
	}
	const stream = "nginx, stream"
	if nginx, err := exec.LookPath("nginx"); err != nil {
		missing(stream, "it is not installed")
	} else if _, err := os.Stat(nginxStream); err != nil {
		missing(stream, "its stream module is not installed")
	} else {
		const port = 6003
		config := fmt.Sprintf("load_module %s;\ndaemon off;\nmaster_process off;\npid %s/nginx.pid;\nerror_log stderr;\nevents { worker_connections 4096; }\nstream { server { listen %d; proxy_pass %s; } }\n", nginxStream, l.Dir, port, backend)
		w, err := startProxy(l, node, stream, port, config, nginx, "-c")
		if err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	return ways, nil
}

// startProxy starts a proxy with a configuration, whose file comes after args, and waits until
// it listens.
func startProxy(l *lab.Lab, node *lab.Node, name string, port uint16, config, path string, args ...string) (*way, error) {
	file := fmt.Sprintf("%s/%d.cfg", l.Dir, port)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	process, err := node.Start(lab.Command{Path: path, Args: append(args, file)})
	if err != nil {
		return nil, err
	}
	w := &way{name: name, address: netip.AddrPortFrom(node.IPv4, port), proxy: process}
	if err := l.Client.WaitListening(w.address); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, process.LogTail(5))
	}
	return w, nil
}
