// Command images makes Kerngate's container images from built binaries, without an engine, and
// pushes them to a registry. scripts/images-build builds the binaries and runs it.
//
//	images --binaries DIR --version VERSION --revision COMMIT --created SECONDS --out LAYOUT
//	images --push REGISTRY --version TAG LAYOUT
//
// The same binaries give the same digests: file times, owners and orders are fixed, and the only
// date in an image is the one that --created gives. A module of its own, so that nothing that it
// links reaches the product.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	var b build
	var created int64
	flags.StringVar(&b.binaries, "binaries", "", "`folder` with the binaries of each architecture in a folder of its name")
	flags.StringVar(&b.version, "version", "", "`version` of the binaries, and tag of the images")
	flags.StringVar(&b.revision, "revision", "", "`commit` that the binaries were built from")
	flags.Int64Var(&created, "created", 0, "date of the images, in `seconds` since 1970: that of the commit")
	layoutDir := flags.String("out", "", "`folder` to write, an OCI image layout; what it holds is replaced")
	registry := flags.String("push", "", "`registry` and path to push the images of the layout to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *registry != "" {
		if flags.NArg() != 1 || b.version == "" {
			return errors.New("--push needs --version and the layout's folder as argument")
		}
		return push(flags.Arg(0), *registry, b.version, out)
	}
	if b.binaries == "" || b.version == "" || *layoutDir == "" {
		return errors.New("--binaries, --version and --out are needed")
	}
	b.created = time.Unix(created, 0).UTC()
	if err := os.RemoveAll(*layoutDir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*layoutDir), 0o755); err != nil {
		return err
	}
	return b.write(*layoutDir, out)
}
