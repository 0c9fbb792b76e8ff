package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThePageCanBeFollowed: what docs/kubernetes.md has a reader write is taken by
// kustomize and helm, names the image, and holds a configuration that is right.
func TestThePageCanBeFollowed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	must(t, page, err)
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS(filepath.Join(root, "deploy"))); err != nil {
		t.Fatal(err)
	}
	for rest := string(page); ; {
		_, after, found := strings.Cut(rest, "```yaml\n")
		if !found {
			break
		}
		block, after, _ := strings.Cut(after, "```")
		rest = after
		for part := range strings.SplitSeq(block, "---\n") {
			head, body, _ := strings.Cut(part, "\n")
			name, named := strings.CutPrefix(head, "# ")
			if !named {
				continue
			}
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	built, err := tool(t, "kustomize", "build", filepath.Join(dir, "mine"))
	followed(t, "kustomize", must(t, built, err), "kafka: {brokers: ['k1:9092']")
	made, err := tool(t, "helm", "template", "tailwater", "deploy/helm/tailwater", "--namespace", "tailwater", "-f", filepath.Join(dir, "values.yaml"))
	followed(t, "helm", must(t, made, err), "elasticsearch:")
}

// followed wants the page's image, and its output alone.
func followed(t *testing.T, from string, data []byte, output string) {
	t.Helper()
	all := parse(t, data)
	if image := one(t, all, "DaemonSet").at("spec", "template", "spec", "containers", 0, "image"); image != "REGISTRY/tailwater:VERSION" {
		t.Errorf("%s: the image is %v", from, image)
	}
	config, _ := one(t, all, "ConfigMap").at("data", "tailwater.yaml").(string)
	if !strings.Contains(config, output) || strings.Contains(config, "kafka.kafka.svc") {
		t.Errorf("%s: the configuration is\n%s", from, config)
	}
	checked(t, from, config)
}
