package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push uploads the images of a layout, and then what is attached to them, with the credentials
// that docker, podman or helm have stored for the registry.
func push(dir, registry, version string, out io.Writer) error {
	from, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("%w; make images writes it", err)
	}
	manifest, err := from.IndexManifest()
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	var repository name.Repository // of the image above what is attached to it
	pushed := 0
	for _, d := range manifest.Manifests {
		if ref := d.Annotations[refName]; ref != "" {
			image, tag, _ := strings.Cut(ref, ":")
			if tag != version {
				return fmt.Errorf("the layout %s holds version %s, not %s: run make images again", dir, tag, version)
			}
			target, err := name.NewTag(strings.TrimSuffix(registry, "/")+"/"+image+":"+tag, name.StrictValidation)
			if err != nil {
				return err
			}
			repository = target.Repository
			index, err := from.ImageIndex(d.Digest)
			if err != nil {
				return err
			}
			if err := remote.WriteIndex(target, index, options...); err != nil {
				return err
			}
			pushed++
			fmt.Fprintf(out, "%s@%s\n", target, d.Digest)
			continue
		}
		if err := pushAttached(from, d, repository, options); err != nil {
			return err
		}
	}
	if pushed == 0 {
		return fmt.Errorf("the layout %s holds no image", dir)
	}
	return nil
}

func pushAttached(from v1.ImageIndex, d v1.Descriptor, repository name.Repository, options []remote.Option) error {
	bom, err := from.Image(d.Digest)
	if err != nil {
		return err
	}
	return remote.Write(repository.Digest(d.Digest.String()), bom, options...)
}
