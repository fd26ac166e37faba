package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/check"
)

// errRefused is the outcome of a check that CI is to stop at.
var errRefused = errors.New("some annotations are not honoured")

func newCheck(e env, o *options) *cobra.Command {
	var all, sarif bool
	var of cluster
	command := &cobra.Command{
		Use:   "check FILE|DIR|-|--cluster",
		Short: "Say which annotations of ingress-nginx in manifests are honoured",
		Long: `check reads Ingresses from a file, a folder with all that is below it, or standard
input, and says of each annotation nginx.ingress.kubernetes.io/* what becomes of it:

  supported    does what ingress-nginx did
  difference   does what the message says
  unsupported  is not honoured
  unknown      is no annotation of ingress-nginx
  invalid      cannot be read
  closed       cannot be honoured, and so every request is refused

Without --cluster it asks no cluster, and never an agent. The exit status is 1 if an annotation is none of the
first two.`,
		Example: `  kerngatectl check manifests/
  kubectl get ingress -A -o yaml | kerngatectl check -
  kerngatectl check --cluster --context production
  kerngatectl check --sarif deploy.yaml > check.sarif`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && !of.asked || len(args) > 0 && of.asked {
				return usageError{fmt.Errorf("name one file or folder, - for standard input, or --cluster; see %s --help", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var rows []check.Row
			var err error
			if of.asked {
				rows, err = of.check(c.Context())
			} else {
				rows, err = checkAll(e, args[0])
			}
			if err != nil && of.asked {
				return err
			}
			if sarif || o.output == "sarif" {
				raw, failed := check.SARIF(rows, version)
				if failed != nil {
					return failed
				}
				fmt.Fprintf(e.stdout, "%s\n", raw)
			} else if failed := show(e.stdout, o, rows, func(w io.Writer) { checkTable(w, rows, all) }); failed != nil {
				return failed
			}
			for _, r := range rows {
				if r.Refused() {
					return errors.Join(err, errRefused)
				}
			}
			return err
		},
	}
	command.Flags().BoolVar(&all, "all", false, "list supported annotations too")
	command.Flags().BoolVar(&of.asked, "cluster", false, "read the Ingresses of all namespaces of a cluster, by way of kubectl")
	command.Flags().StringVar(&of.kubeconfig, "kubeconfig", "", "kubeconfig file that kubectl is given, with --cluster")
	command.Flags().StringVar(&of.context, "context", "", "context of it, with --cluster")
	command.Flags().BoolVar(&sarif, "sarif", false, "print SARIF 2.1.0, for code hosts; the same as -o sarif")
	return command
}

func checkTable(w io.Writer, rows []check.Row, all bool) {
	var cells [][]string
	for _, r := range rows {
		if all || r.Refused() || r.Differs() {
			cells = append(cells, []string{r.Ingress, strings.TrimPrefix(r.Key, "nginx.ingress.kubernetes.io/"), r.Verdict, r.Message})
		}
	}
	if len(cells) > 0 {
		columns(w, "INGRESS ANNOTATION VERDICT MESSAGE", cells)
	}
	fmt.Fprintln(w, check.Summary(rows))
}

// checkAll reads what an argument names. Files that cannot be read are said, beside the
// rows of the others.
func checkAll(e env, path string) ([]check.Row, error) {
	rows := []check.Row{}
	if path == "-" {
		found, err := check.File("-", e.stdin)
		return append(rows, found...), err
	}
	var errs []error
	walkErr := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || name != path && !isManifest(name) {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		found, err := check.File(name, f)
		rows = append(rows, found...)
		errs = append(errs, err)
		return nil
	})
	return rows, errors.Join(append(errs, walkErr)...)
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
