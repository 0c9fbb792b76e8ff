// Package manifests tests what deploy/ holds for Kubernetes: rendered by the real
// kustomize and helm, and held against the schemas of Kubernetes.
package manifests

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/tailwater/tailwater/test/rig"
)

const root = "../.."

// object is a rendered Kubernetes object.
type object map[string]any

func (o object) kind() string { return fmt.Sprint(o["kind"]) }

// at follows a path of keys and indexes; nil where it leads nowhere.
func (o object) at(path ...any) any {
	var v any = map[string]any(o)
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// run runs a command in the module's root and returns what it prints.
func run(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, errs.Bytes())
	}
	return out, err
}

// tool runs one of the Go tools that have a module of their own. The first run on a
// machine builds it.
func tool(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	return run(t, "go", append([]string{"tool", "-modfile=tools/" + name + "/go.mod", name}, args...)...)
}

func must(t *testing.T, out []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parse takes a stream of documents apart.
func parse(t *testing.T, data []byte) (all []object) {
	t.Helper()
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		if o != nil {
			all = append(all, o)
		}
	}
}

// one returns the only object of its kind.
func one(t *testing.T, all []object, kind string) object {
	t.Helper()
	var found []object
	for _, o := range all {
		if o.kind() == kind {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s", len(found), kind)
	}
	return found[0]
}

// overlays are what kustomize builds.
var overlays = []string{"daemonset", "daemonset/overlays/nonroot", "daemonset/overlays/docker", "daemonset/overlays/elasticsearch", "sidecar"}

// releases are values with which the chart is rendered.
var releases = map[string][]string{
	"defaults": nil,
	"nonroot":  {"--set", "user=65532"},
	"everything": {"--set", "podMonitor.create=true,paths.docker=/var/lib/docker/containers,image.tag=1.2.3,image.pullSecrets[0].name=pull",
		"--set-json", `env=[{"name":"A","value":"b"}]`, "--set", "podLabels.team=sre,podAnnotations.note=x,affinity.nodeAffinity=null"},
	"nothing": {"--set", "rbac.create=false,serviceAccount.create=false,priorityClass.create=false,networkPolicy.create=false,tolerations=null,nodeSelector=null"},
}

func helm(t *testing.T, name string) []byte {
	t.Helper()
	if made["helm "+name] != nil {
		return made["helm "+name]
	}
	out, err := tool(t, "helm", append([]string{"template", "tailwater", "deploy/helm/tailwater", "--namespace", "tailwater"}, releases[name]...)...)
	return must(t, out, err)
}

// made is what rendered has made, for all tests.
var made map[string][]byte

// rendered is everything there is, by where it comes from.
func rendered(t *testing.T) map[string][]byte {
	t.Helper()
	if made != nil {
		return made
	}
	all := make(map[string][]byte)
	for _, dir := range overlays {
		out, err := tool(t, "kustomize", "build", "deploy/"+dir)
		all["kustomize "+dir] = must(t, out, err)
	}
	for name := range releases {
		all["helm "+name] = helm(t, name)
	}
	for _, file := range []string{"deploy/sidecar/emptydir.yaml"} {
		data, err := os.ReadFile(filepath.Join(root, file))
		all[file] = must(t, data, err)
	}
	made = all
	return all
}

func TestManifestsAreWhatKubernetesTakes(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3 here: the schemas of Kubernetes come from PyPI")
	}
	validate, err := run(t, "test/env/kubernetes-validate")
	must(t, validate, err)
	dir := t.TempDir()
	var files []string
	for from, data := range rendered(t) {
		file := filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-").Replace(from)+".yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	out, err := run(t, strings.TrimSpace(string(validate)), append([]string{"--strict"}, files...)...)
	if err != nil {
		t.Error(err)
	}
	if n := strings.Count(string(out), " passed "); n < 50 {
		t.Errorf("only %d objects were looked at:\n%s", n, out)
	}
	// A validator that lets everything pass would make the above worthless.
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, bytes.Replace(helm(t, "defaults"), []byte("terminationGracePeriodSeconds"), []byte("terminationGracePeriod"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, strings.TrimSpace(string(validate)), "--strict", bad); err == nil {
		t.Errorf("an unknown field passes:\n%s", out)
	}
}

func TestChartIsSound(t *testing.T) {
	out, err := tool(t, "helm", "lint", "--strict", "deploy/helm/tailwater")
	must(t, out, err)
	for _, wrong := range [][]string{{"--set", "imagee.tag=x"}, {"--set", "user=root"}, {"--set-json", `config={"outputs":null}`}} {
		if out, err := tool(t, "helm", append([]string{"template", "tailwater", "deploy/helm/tailwater"}, wrong...)...); err == nil {
			t.Errorf("the values %v are taken:\n%.300s", wrong, out)
		}
	}
}

// TestTheAgentIsHardened: what every rendered agent must not be able to do.
func TestTheAgentIsHardened(t *testing.T) {
	for from, data := range rendered(t) {
		agents := 0
		for _, o := range parse(t, data) {
			if o.kind() != "DaemonSet" && o.kind() != "Deployment" {
				if o.kind() == "ClusterRole" && !reflect.DeepEqual(o.at("rules"), []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"list", "watch"}}}) {
					t.Errorf("%s: the role allows %v", from, o.at("rules"))
				}
				continue
			}
			pod := object(o.at("spec", "template", "spec").(map[string]any))
			if pod.at("securityContext", "seccompProfile", "type") != "RuntimeDefault" {
				t.Errorf("%s: no seccomp profile", from)
			}
			for _, list := range []string{"containers", "initContainers"} {
				containers, _ := pod[list].([]any)
				for _, c := range containers {
					if c := object(c.(map[string]any)); c["name"] == "tailwater" {
						agents++
						hardened(t, from, pod, c)
					}
				}
			}
		}
		if agents != 1 {
			t.Errorf("%s: %d agents", from, agents)
		}
	}
}

func hardened(t *testing.T, from string, pod, c object) {
	t.Helper()
	s := object(c["securityContext"].(map[string]any))
	if s["allowPrivilegeEscalation"] != false || s["readOnlyRootFilesystem"] != true || !reflect.DeepEqual(s.at("capabilities", "drop"), []any{"ALL"}) {
		t.Errorf("%s: %v", from, s)
	}
	added := s.at("capabilities", "add")
	if root := s["runAsUser"] == 0; root && !reflect.DeepEqual(added, []any{"DAC_READ_SEARCH"}) || !root && added != nil {
		t.Errorf("%s: uid %v gets the capabilities %v", from, s["runAsUser"], added)
	}
	if s["runAsUser"] != 0 && s["runAsNonRoot"] != true && pod.at("securityContext", "runAsNonRoot") != true {
		t.Errorf("%s: nothing says that it is not root", from)
	}
	if c.at("resources", "requests", "memory") == nil || c.at("resources", "limits", "memory") == nil {
		t.Errorf("%s: no resources", from)
	}
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if pod[key] != nil {
			t.Errorf("%s: %s", from, key)
		}
	}
	for _, m := range c["volumeMounts"].([]any) {
		if m := object(m.(map[string]any)); m["readOnly"] != true && m["mountPath"] != "/var/lib/tailwater" {
			t.Errorf("%s: %v can be written", from, m["mountPath"])
		}
	}
	if grace, _ := pod["terminationGracePeriodSeconds"].(int); grace <= 25 {
		t.Errorf("%s: a grace of %d s is less than shutdown_timeout", from, grace)
	}
}

// TestConfigurationsInManifestsAreGood: the agent itself checks what the ConfigMaps hold.
func TestConfigurationsInManifestsAreGood(t *testing.T) {
	for from, data := range rendered(t) {
		if strings.HasSuffix(from, ".yaml") {
			continue // it has none of its own
		}
		text, _ := one(t, parse(t, data), "ConfigMap").at("data", "tailwater.yaml").(string)
		checked(t, from, text)
	}
}

// agent is the program of the tests, in the directory built.
var (
	agent = sync.OnceValues(func() (string, error) { return rig.Build(context.Background(), root, built) })
	built string
)

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if built, err = os.MkdirTemp("", "tw-bin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// checked has the agent look at a configuration.
func checked(t *testing.T, from, config string) {
	t.Helper()
	bin, err := agent()
	must(t, nil, err)
	file := filepath.Join(t.TempDir(), "tailwater.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "check", "-c", file)
	cmd.Env = append(os.Environ(), "NODE_NAME=node-a", "ES_PASSWORD=x", "POD_NAME=p", "POD_NAMESPACE=n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", from, err, out, config)
	}
}

// TestChartAndManifestsAreTheSame: whoever changes one must change the other.
func TestChartAndManifestsAreTheSame(t *testing.T) {
	built, err := tool(t, "kustomize", "build", "deploy/daemonset")
	plain, chart := parse(t, must(t, built, err)), parse(t, helm(t, "defaults"))
	for _, path := range [][]any{
		{"DaemonSet", "spec", "template", "spec"}, {"DaemonSet", "spec", "updateStrategy"}, {"ClusterRole", "rules"}, {"PriorityClass", "value"},
		{"NetworkPolicy", "spec", "ingress"}, {"NetworkPolicy", "spec", "egress"},
	} {
		a, b := one(t, plain, path[0].(string)).at(path[1:]...), one(t, chart, path[0].(string)).at(path[1:]...)
		if spec, ok := b.(map[string]any); ok {
			if containers, ok := spec["containers"].([]any); ok {
				delete(containers[0].(map[string]any), "imagePullPolicy") // a value of the chart's alone
			}
		}
		if a == nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%v differs:\n%s\nand in the chart\n%s", path, text(a), text(b))
		}
	}
	var configs []any
	for _, all := range [][]object{plain, chart} {
		var c any
		raw, _ := one(t, all, "ConfigMap").at("data", "tailwater.yaml").(string)
		if err := yaml.Unmarshal([]byte(raw), &c); err != nil {
			t.Fatal(err)
		}
		configs = append(configs, c)
	}
	if !reflect.DeepEqual(configs[0], configs[1]) {
		t.Errorf("the configurations differ:\n%s\nand in the chart\n%s", text(configs[0]), text(configs[1]))
	}
}

func text(v any) string {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
