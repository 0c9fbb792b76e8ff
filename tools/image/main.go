// Command image assembles the container image without a container engine: an OCI image
// layout in a tar, with an image for each architecture under one index. The same
// binaries and arguments give the same bytes.
//
//	image -o tailwater.tar -version v1.2.0 -created 1764000000 amd64=PATH arm64=PATH
//
// What is in it: the static binary, which brings the time zones, the root certificates of
// golang.org/x/crypto/x509roots, the user 65532, and a directory for the state.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// options are what the image says of itself.
type options struct {
	version, revision string
	created           time.Time
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", "tailwater-image.tar", "the tar to write")
	version := flags.String("version", "unknown", "the version, also the image's tag")
	revision := flags.String("revision", "unknown", "the commit")
	created := flags.Int64("created", 0, "the time that all files and the image carry, in Unix seconds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no binaries; name them as amd64=PATH")
	}
	o := options{*version, *revision, time.Unix(*created, 0).UTC()}
	index, err := assemble(o, flags.Args())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tailwater-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := write(dir, o, index); err != nil {
		return err
	}
	return tarDir(*out, dir, o.created)
}

// assemble makes the index of the images, one for each ARCH=PATH.
func assemble(o options, binaries []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arg := range binaries {
		arch, path, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not ARCH=PATH", arg)
		}
		img, err := image(o, arch, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return mutate.Annotations(index, labels(o)).(v1.ImageIndex), nil
}

// image makes the image of one architecture: what seldom changes is a layer of its own.
func image(o options, arch, path string) (v1.Image, error) {
	if err := isStatic(path, arch); err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	system, err := systemFiles()
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, files := range [][]entry{system, {{name: "usr/bin/tailwater", mode: 0o755, data: binary}}} {
		l, err := layer(files, o.created)
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:     l,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: o.created}, CreatedBy: "tools/image", Comment: files[len(files)-1].name},
		})
		if err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch
	file.Created = v1.Time{Time: o.created}
	file.Config = v1.Config{
		User:       "65532:65532",
		Entrypoint: []string{"/usr/bin/tailwater"},
		Cmd:        []string{"run", "-c", "/etc/tailwater/tailwater.yaml"},
		Env:        []string{"PATH=/usr/bin", "SSL_CERT_FILE=/" + certificates},
		WorkingDir: "/",
		Volumes:    map[string]struct{}{"/" + stateDir: {}},
		StopSignal: "SIGTERM",
		Labels:     labels(o),
	}
	return mutate.ConfigFile(img, file)
}

func labels(o options) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "tailwater",
		"org.opencontainers.image.description": "Tails logs, splits them into fields, ships them, and raises the alarm",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.revision":    o.revision,
		"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
	}
}

// write lays the index into dir under the names by which engines find it.
func write(dir string, o options, index v1.ImageIndex) error {
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": o.version,
		"io.containerd.image.name":          "docker.io/library/tailwater:" + o.version,
	}))
}
