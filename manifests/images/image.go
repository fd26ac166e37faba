package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// architectures of Linux that images are made for.
var architectures = []string{"amd64", "arm64"}

// An image from scratch: what is not in it cannot be used by whoever breaks in. The Containerfile
// says the same for those who have an engine; a test compares the two.
type image struct {
	name        string
	description string
	files       []string // in its root; the first is the entry point
	user        string   // empty: root
}

var images = []image{
	{"kerngate-agent", "Kerngate's agent, which has rights and serves nobody, and kerngatectl", []string{"kerngate-agent", "kerngatectl"}, ""},
	{"kerngate-proxy", "Kerngate's proxy, which serves clients and has no rights", []string{"kerngate-proxy"}, "65532:65532"},
}

const (
	source = "https://github.com/kerngate/kerngate"
	// refName is the annotation by which an image of a layout is found.
	refName  = "org.opencontainers.image.ref.name"
	spdxType = types.MediaType("application/spdx+json")
)

// build is what the images of one version are made of.
type build struct {
	binaries string
	version  string
	revision string
	created  time.Time
}

// labels of an image: the annotations that the OCI's image specification defines.
func (b build) labels(i image) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":         i.name,
		"org.opencontainers.image.description":   i.description,
		"org.opencontainers.image.version":       b.version,
		"org.opencontainers.image.revision":      b.revision,
		"org.opencontainers.image.created":       b.created.Format(time.RFC3339),
		"org.opencontainers.image.source":        source,
		"org.opencontainers.image.url":           source,
		"org.opencontainers.image.documentation": source + "/blob/main/docs/operations.md",
		"org.opencontainers.image.licenses":      licence,
	}
}

// write makes all images and puts them, each an index of its architectures, into a new layout.
func (b build) write(dir string, out io.Writer) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, i := range images {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		var boms []v1.Image
		for _, arch := range architectures {
			img, err := b.image(i, arch)
			if err != nil {
				return fmt.Errorf("%s for %s: %w", i.name, arch, err)
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
			bom, err := b.attach(i, arch, img)
			if err != nil {
				return fmt.Errorf("bill of materials of %s for %s: %w", i.name, arch, err)
			}
			boms = append(boms, bom)
		}
		index = mutate.Annotations(index, b.labels(i)).(v1.ImageIndex)
		if err := to.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: i.name + ":" + b.version})); err != nil {
			return err
		}
		for _, bom := range boms {
			if err := to.AppendImage(bom); err != nil {
				return err
			}
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s:%s@%s\n", i.name, b.version, digest)
	}
	return nil
}

// image makes the image for one architecture.
func (b build) image(i image, arch string) (v1.Image, error) {
	files, err := b.layer(i, arch)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: b.created}, CreatedBy: "scripts/images-build"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: b.created}
	config.Config = v1.Config{User: i.user, Entrypoint: []string{"/" + i.files[0]}, WorkingDir: "/", Labels: b.labels(i)}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(img, b.labels(i)).(v1.Image), nil
}

// layer is the tar file of an image's files.
func (b build) layer(i image, arch string) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, name := range i.files {
		content, err := os.ReadFile(filepath.Join(b.binaries, arch, name))
		if err != nil {
			return nil, err
		}
		// The time is that of no clock: it would be all that differs between two builds.
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// attach makes the artifact by which registries find the bill of materials of an image: its
// subject is the image (OCI 1.1, "referrers").
func (b build) attach(i image, arch string, img v1.Image) (v1.Image, error) {
	document, err := b.spdx(i, arch)
	if err != nil {
		return nil, err
	}
	subject, err := descriptor(img)
	if err != nil {
		return nil, err
	}
	bom, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: static.NewLayer(document, spdxType)})
	if err != nil {
		return nil, err
	}
	// With an empty configuration, its type is the artifact's.
	bom = mutate.ConfigMediaType(bom, spdxType)
	bom = mutate.Annotations(bom, map[string]string{"org.opencontainers.image.created": b.created.Format(time.RFC3339),
		"org.opencontainers.image.title": i.name + "-" + arch + ".spdx.json"}).(v1.Image)
	return mutate.Subject(bom, *subject).(v1.Image), nil
}

func descriptor(img v1.Image) (*v1.Descriptor, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest, Size: size}, nil
}
