package hosts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// imageTar is assembled once.
var imageTar = sync.OnceValues(func() (string, error) {
	dist := filepath.Join(built, "v1.0.0") // its binaries are those of the package
	err := makeTarget(context.Background(), "image", "DIST="+dist, "VERSION=v1.0.0", "ARCHS=amd64 arm64")
	return filepath.Join(dist, "tailwater-image.tar"), err
})

// descriptor, manifest and config are what the OCI image specification says of them.
type descriptor struct {
	MediaType   string
	Digest      string
	Size        int64
	Annotations map[string]string
	Platform    *struct{ OS, Architecture string }
}

type manifest struct {
	SchemaVersion int
	MediaType     string
	Manifests     []descriptor // of an index
	Config        descriptor   // of an image
	Layers        []descriptor
}

type imageConfig struct {
	Architecture, OS string
	Config           struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Env        []string
		Labels     map[string]string
	}
	RootFS struct {
		Type    string
		DiffIDs []string `json:"diff_ids"`
	}
}

// imageLayout is an image's tar, by name.
type imageLayout map[string][]byte

func readLayout(t *testing.T) imageLayout {
	t.Helper()
	name, err := imageTar()
	if err != nil {
		t.Fatal(err)
	}
	return layoutOf(t, name)
}

func layoutOf(t *testing.T, name string) imageLayout {
	t.Helper()
	files, err := untar(strings.NewReader(mustRead(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	l := make(imageLayout)
	for _, f := range files {
		if f.Typeflag == tar.TypeReg {
			l[f.Name] = f.data
		}
	}
	return l
}

type tarFile struct {
	*tar.Header
	data []byte
}

func untar(r io.Reader) (files []tarFile, err error) {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		files = append(files, tarFile{h, data})
	}
}

// blob returns what the descriptor stands for, and wants it to be just that.
func (l imageLayout) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	algorithm, sum, _ := strings.Cut(d.Digest, ":")
	data, ok := l["blobs/"+algorithm+"/"+sum]
	if !ok || algorithm != "sha256" {
		t.Fatalf("no blob %s", d.Digest)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sum || int64(len(data)) != d.Size {
		t.Fatalf("the blob %s has the sum %s and %d bytes, want %d", d.Digest, got, len(data), d.Size)
	}
	return data
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// TestImageLayout walks from index.json to every file, as an engine does that loads it.
func TestImageLayout(t *testing.T) {
	t.Parallel()
	l := readLayout(t)
	var version struct{ ImageLayoutVersion string }
	decode(t, l["oci-layout"], &version)
	if version.ImageLayoutVersion != "1.0.0" {
		t.Errorf("oci-layout is %s", l["oci-layout"])
	}
	var top, index manifest
	decode(t, l["index.json"], &top)
	if len(top.Manifests) != 1 || top.Manifests[0].MediaType != ociIndex || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1.0.0" {
		t.Fatalf("index.json: %s", l["index.json"])
	}
	decode(t, l.blob(t, top.Manifests[0]), &index)
	if len(index.Manifests) != 2 || index.MediaType != ociIndex || index.SchemaVersion != 2 {
		t.Fatalf("the index: %+v", index)
	}
	for i, want := range []string{"amd64", "arm64"} {
		d := index.Manifests[i]
		if d.MediaType != ociManifest || d.Platform == nil || d.Platform.OS != "linux" || d.Platform.Architecture != want {
			t.Errorf("manifest %d: %+v", i, d)
		}
		files := l.image(t, d, want)
		checkFiles(t, files, want)
		if want == arch {
			checkRuns(t, files)
		}
	}
}

// image checks a manifest and the configuration, and returns the files of the layers.
func (l imageLayout) image(t *testing.T, d descriptor, wantArch string) map[string]tarFile {
	t.Helper()
	var m manifest
	var c imageConfig
	decode(t, l.blob(t, d), &m)
	if m.MediaType != ociManifest || m.Config.MediaType != ociConfig {
		t.Errorf("the manifest's types: %+v", m)
	}
	decode(t, l.blob(t, m.Config), &c)
	if c.OS != "linux" || c.Architecture != wantArch || c.Config.User != "65532:65532" || c.Config.Labels["org.opencontainers.image.version"] != "v1.0.0" ||
		len(c.Config.Entrypoint) != 1 || c.Config.Entrypoint[0] != "/usr/bin/tailwater" || strings.Join(c.Config.Cmd, " ") != "run -c /etc/tailwater/tailwater.yaml" {
		t.Errorf("the configuration: %+v", c)
	}
	if len(m.Layers) == 0 || len(c.RootFS.DiffIDs) != len(m.Layers) {
		t.Fatalf("%d layers, %d diff ids", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	files := make(map[string]tarFile)
	var size int64
	for i, layer := range m.Layers {
		if layer.MediaType != ociLayer {
			t.Errorf("a layer is %s", layer.MediaType)
		}
		size += layer.Size
		zip, err := gzip.NewReader(bytes.NewReader(l.blob(t, layer)))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(zip)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(raw)); got != c.RootFS.DiffIDs[i] {
			t.Errorf("layer %d unpacks to %s, the configuration says %s", i, got, c.RootFS.DiffIDs[i])
		}
		all, err := untar(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			files[strings.TrimSuffix(f.Name, "/")] = f
		}
	}
	const most = 20 << 20
	t.Logf("%s: %.1f MiB compressed", wantArch, float64(size)/(1<<20))
	if size > most {
		t.Errorf("the image for %s has %d bytes, at most %d are promised", wantArch, size, most)
	}
	return files
}

// checkFiles wants the files that the agent needs, owned as they must be.
func checkFiles(t *testing.T, files map[string]tarFile, wantArch string) {
	t.Helper()
	for name, f := range files {
		switch {
		case name == "var/lib/tailwater":
			if f.Uid != 65532 || f.Gid != 65532 || f.Mode != 0o700 {
				t.Errorf("%s: uid %d, gid %d, mode %o", name, f.Uid, f.Gid, f.Mode)
			}
		case f.Uid != 0 || f.Gid != 0 || f.Mode&0o6022 != 0 && name != "tmp":
			t.Errorf("%s: uid %d, gid %d, mode %o", name, f.Uid, f.Gid, f.Mode)
		}
	}
	if !strings.Contains(string(files["etc/passwd"].data), ":65532:65532:") {
		t.Errorf("etc/passwd: %s", files["etc/passwd"].data)
	}
	roots := x509.NewCertPool()
	rest, certificates := files["etc/ssl/certs/ca-certificates.crt"].data, 0
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(c)
		certificates++
	}
	if certificates < 100 {
		t.Errorf("%d root certificates", certificates)
	}
	binary, err := elf.NewFile(bytes.NewReader(files["usr/bin/tailwater"].data))
	if err != nil {
		t.Fatal(err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[wantArch]
	if libs, err := binary.ImportedLibraries(); binary.Machine != machine || err != nil || len(libs) > 0 {
		t.Errorf("the binary for %s is for %v and needs %v, %v", wantArch, binary.Machine, libs, err)
	}
}

// checkRuns lays the files out and runs the agent with nothing else around it, as the
// user that the image names: zones and all must be in it.
func checkRuns(t *testing.T, files map[string]tarFile) {
	t.Helper()
	dir := tempDir(t)
	for name, f := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if f.Typeflag == tar.TypeDir {
			err = errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, os.FileMode(f.Mode).Perm()))
		} else if err == nil {
			err = os.WriteFile(path, f.data, os.FileMode(f.Mode).Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const config = "inputs: {a: {files: '/tmp/*.log', zone: Asia/Shanghai}}\noutputs: {o: {discard: {}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "etc/tailwater/tailwater.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var within *syscall.SysProcAttr
	base := dir
	if os.Getuid() == 0 {
		within = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		base = ""
	} else {
		t.Log("not root: the binary runs beside the files, not with them alone")
	}
	for _, args := range [][]string{{"version"}, {"check", "-c", base + "/etc/tailwater/tailwater.yaml"}} {
		cmd := exec.CommandContext(t.Context(), base+"/usr/bin/tailwater", args...)
		cmd.SysProcAttr, cmd.Dir = within, "/"
		out, err := cmd.CombinedOutput()
		if err != nil || args[0] == "version" && !strings.Contains(string(out), "v1.0.0") {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestSameImageTwice: the same commit gives the same bytes. Assembled again for one
// architecture alone, all but the index has to be what it was.
func TestSameImageTwice(t *testing.T) {
	t.Parallel()
	first := readLayout(t)
	dist := tempDir(t)
	if err := makeTarget(t.Context(), "image", "DIST="+dist, "VERSION=v1.0.0", "ARCHS="+arch); err != nil {
		t.Fatal(err)
	}
	again := layoutOf(t, filepath.Join(dist, "tailwater-image.tar"))
	same, others := 0, 0
	for name := range again {
		switch {
		case !strings.HasPrefix(name, "blobs/"):
		case first[name] != nil:
			same++
		default:
			others++
		}
	}
	// A manifest, a configuration and two layers; and the index, which names one image.
	if same != 4 || others != 1 {
		t.Errorf("assembled again, %d blobs are the same and %d are not; want 4 and 1", same, others)
	}
}
