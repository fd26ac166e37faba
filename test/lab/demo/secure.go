//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
)

const secureHost = "secure.example.com"

// secure publishes a host with a certificate, made for this show.
func (d *demo) secure() error {
	heading("A Secret, and an Ingress with TLS: https and HTTP/2")
	authority, err := lab.NewAuthority("the demo's own authority")
	if err != nil {
		return err
	}
	certificate, err := authority.Issue(lab.Request{Names: []string{secureHost}})
	if err != nil {
		return err
	}
	begin := time.Now()
	err = d.kerngate.Manifests.Write("secure.yaml", lab.TLSSecret("secure", certificate),
		lab.WithTLS(lab.Ingress("secure", lab.Path{Host: secureHost, Service: "intro"}), "secure", secureHost))
	if err != nil {
		return err
	}
	clients := []struct {
		name   string
		client *http.Client
	}{{"HTTP/2.0", d.secureClient(authority, true)}, {"HTTP/1.1", d.secureClient(authority, false)}}
	defer func() {
		for _, c := range clients {
			c.client.CloseIdleConnections()
		}
	}()
	err = lab.Until(5*time.Second, "answer over TLS", func() error {
		response, err := clients[0].client.Get("https://" + secureHost + "/")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	if err != nil {
		return err
	}
	fmt.Printf("   In force within %d ms. The client trusts only the authority that has signed the certificate.\n", time.Since(begin).Milliseconds())
	rows := [][]string{{"REQUEST", "PROTOCOL", "TIMES", "ANSWERED BY", ""}}
	status, location, err := d.redirected()
	rows = append(rows, []string{"http://" + secureHost + "/intro?q=1", "HTTP/1.1", "1", fmt.Sprintf("%d to %s", status, location),
		d.verdictOn("redirect", err, status == http.StatusPermanentRedirect && location == "https://"+secureHost+"/intro?q=1")})
	want := []string{"intro-1", "intro-2", "intro-3"}
	for _, c := range clients {
		answered, err := d.askSecurely(c.client, c.name)
		rows = append(rows, []string{"https://" + secureHost + "/", c.name, fmt.Sprint(manyTimes), list(answered),
			d.verdictOn(c.name, err, slices.Equal(slices.Sorted(maps.Keys(answered)), want))})
	}
	table(rows)
	return nil
}

func (d *demo) verdictOn(what string, err error, right bool) string {
	switch {
	case err == nil && right:
		return "ok"
	case err == nil:
		err = errors.New("something else was to come")
	}
	d.wrong = append(d.wrong, what)
	return "WRONG: " + err.Error()
}

// secureClient keeps its connection.
func (d *demo) secureClient(authority *lab.Authority, http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.lab.Client.Dial(ctx, network, netip.AddrPortFrom(d.lab.VIP4, 443).String())
		},
		TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}, Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP2(http2)
	transport.Protocols.SetHTTP1(!http2)
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}
}

// redirected asks in clear text where the Ingress wants TLS.
func (d *demo) redirected() (status int, location string, err error) {
	d.asked++
	client := d.lab.Client.HTTPClient(netip.AddrPortFrom(d.lab.VIP4, 80))
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + secureHost + "/intro?q=1")
	if err != nil {
		return 0, "", err
	}
	return response.StatusCode, response.Header.Get("Location"), response.Body.Close()
}

// askSecurely counts who answers on one connection of that protocol.
func (d *demo) askSecurely(client *http.Client, protocol string) (map[string]int, error) {
	answered := make(map[string]int)
	for range manyTimes {
		d.asked++
		response, err := client.Get("https://" + secureHost + "/")
		if err != nil {
			return answered, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		var pod answer.Answer
		if err == nil {
			err = json.Unmarshal(body, &pod)
		}
		if err != nil {
			return answered, err
		}
		if response.Proto != protocol {
			return answered, fmt.Errorf("the answer is in %s", response.Proto)
		}
		answered[pod.Pod]++
	}
	return answered, nil
}
