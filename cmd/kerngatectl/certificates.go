package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/status"
)

func newCertificates(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "certificates [ID]",
		Short: "List the certificates of the proxies, and when they expire",
		Long: `certificates lists the certificates that the proxies of this node hold: the type of each,
when it expires, and the Ingresses that use it. ID is the Secret (NAMESPACE/NAME), or
"file:" and a path for a --default-certificate from files. Private keys are never shown.

FINGERPRINT is the beginning of the SHA-256 fingerprint of the certificate, as printed by
openssl x509 -noout -fingerprint -sha256; -o json shows all of it.`,
		Example: `  kerngatectl certificates
  kerngatectl certificates shop/web-tls -o yaml`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := ask[status.Certificates](c.Context(), e, o, status.QueryCertificates)
			if err != nil {
				return err
			}
			if list.Certificates == nil {
				list.Certificates = []status.Certificate{}
			}
			if len(args) == 1 {
				list.Certificates, err = one(list.Certificates, args[0], func(c status.Certificate) string { return c.ID }, "certificate")
				if err != nil {
					return err
				}
			}
			return show(e.stdout, o, list, func(w io.Writer) {
				var cells [][]string
				for _, c := range list.Certificates {
					cells = append(cells, certificateCells(c, e.now()))
				}
				columns(w, "ID TYPE HOSTS NOT-AFTER LEFT FINGERPRINT USED-BY", cells)
			})
		},
	}
}

func certificateCells(c status.Certificate, now time.Time) []string {
	left := "EXPIRED"
	if c.NotAfter.After(now) {
		left = short(c.NotAfter.Sub(now))
	}
	kind := c.Type
	if c.Stapled {
		kind += ",ocsp"
	}
	var hosts []string
	for _, h := range c.Hosts {
		hosts = append(hosts, hostName(status.Host{Name: h}))
	}
	if c.Default {
		hosts = append(hosts, "(default)")
	}
	return []string{c.ID, kind, someOf(hosts), c.NotAfter.Format(time.RFC3339), left, c.Fingerprint[:min(16, len(c.Fingerprint))], someOf(c.UsedBy)}
}

// someOf keeps a cell short: -o json has all of it.
func someOf(list []string) string {
	const most = 3
	if len(list) > most {
		return strings.Join(list[:most], ",") + ",..."
	}
	return strings.Join(list, ",")
}
