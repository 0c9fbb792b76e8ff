package manifests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// span is what $TAILWATER_TORTURE asks for; without it there is no real API server.
func span(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("TAILWATER_TORTURE"))
	if err != nil {
		t.Skip("a real kube-apiserver takes minutes to build: make torture")
	}
	return d
}

func cluster(t *testing.T) *rig.Cluster {
	t.Helper()
	c, err := rig.StartCluster(t.Context(), root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// paths is where objects of a kind are created; %s is the namespace.
var paths = map[string]string{
	"Namespace": "/api/v1/namespaces", "ConfigMap": "/api/v1/namespaces/%s/configmaps", "ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts",
	"DaemonSet": "/apis/apps/v1/namespaces/%s/daemonsets", "Deployment": "/apis/apps/v1/namespaces/%s/deployments",
	"NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies", "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
	"ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/%s/podmonitors",
}

func create(t *testing.T, c *rig.Cluster, o object, query string) error {
	t.Helper()
	path, known := paths[o.kind()]
	if !known {
		t.Fatalf("where are objects of kind %s created?", o.kind())
	}
	if strings.Contains(path, "%s") {
		namespace, _ := o.at("metadata", "namespace").(string)
		if namespace == "" {
			namespace = "default"
		}
		path = fmt.Sprintf(path, namespace)
	}
	_, err := c.Do(t.Context(), http.MethodPost, path+"?fieldValidation=Strict"+query, o)
	return err
}

func namespace(name string) object {
	return object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}
}

// install creates what the base manifests hold and returns a token of their account.
func install(t *testing.T, c *rig.Cluster) (token string) {
	t.Helper()
	out, err := tool(t, "kustomize", "build", "deploy/daemonset")
	for _, o := range parse(t, must(t, out, err)) {
		if err := create(t, c, o, ""); err != nil {
			t.Fatalf("%s: %v", o.kind(), err)
		}
	}
	answer, err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/tailwater/serviceaccounts/tailwater/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": 7200}})
	var made struct{ Status struct{ Token string } }
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	if err != nil || made.Status.Token == "" {
		t.Fatalf("no token: %v, %s", err, answer)
	}
	return made.Status.Token
}

func TestARealAPIServerTakesTheManifests(t *testing.T) {
	span(t)
	c := cluster(t)
	check(t, create(t, c, namespace("tailwater"), ""))
	check(t, create(t, c, podMonitors(t), ""))
	check(t, rig.Poll(t.Context(), "the operator's definitions to be served", func() error {
		_, err := c.Do(t.Context(), http.MethodGet, "/apis/monitoring.coreos.com/v1/podmonitors", nil)
		return err
	}))
	n := 0
	for from, data := range rendered(t) {
		for _, o := range parse(t, data) {
			if o.kind() == "Namespace" {
				continue // there already
			}
			n++
			if err := create(t, c, o, "&dryRun=All"); err != nil {
				t.Errorf("%s: %s: %v", from, o.kind(), err)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d objects", n)
	}
	wrong := namespace("wrong")
	wrong["metadata"].(map[string]any)["unknown"] = "x"
	if err := create(t, c, wrong, "&dryRun=All"); err == nil {
		t.Error("an unknown field is taken: the dry run proves nothing")
	}
}

func TestTheAccountMayDoWhatItMustAndNoMore(t *testing.T) {
	span(t)
	c := cluster(t)
	token := install(t, c)
	for _, ask := range []struct {
		method, path string
		allowed      bool
	}{
		{http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a", true},
		{http.MethodGet, "/api/v1/pods?watch=1&timeoutSeconds=1&allowWatchBookmarks=1", true},
		{http.MethodGet, "/api/v1/namespaces/tailwater/pods/x", false},
		{http.MethodGet, "/api/v1/secrets", false},
		{http.MethodGet, "/api/v1/namespaces/tailwater/configmaps/tailwater", false},
		{http.MethodGet, "/api/v1/nodes", false},
		{http.MethodGet, "/apis/apps/v1/replicasets", false},
		{http.MethodDelete, "/api/v1/namespaces/tailwater/pods/x", false},
	} {
		_, err := c.As(t.Context(), token, ask.method, ask.path, nil)
		status := (*rig.StatusError)(nil)
		if forbidden := errors.As(err, &status) && status.Code == http.StatusForbidden; ask.allowed && err != nil || !ask.allowed && !forbidden {
			t.Errorf("%s %s: %v", ask.method, ask.path, err)
		}
	}
}

// TestPodChurn: twenty pods a second come and go through a real API server and real
// files; in the end the agent is as small as in the beginning, and every line is there.
func TestPodChurn(t *testing.T) {
	d := span(t)
	c := cluster(t)
	dir, err := os.MkdirTemp("", "tw")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(t.Context(), d+10*time.Minute)
	defer cancel()
	bin, err := agent()
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "token"), []byte(install(t, c)), 0o600))
	check(t, create(t, c, namespace("shop"), ""))
	h := &rig.Home{Bin: bin, Dir: dir}
	check(t, h.WriteConfig(fmt.Sprintf(`
limits: {memory: 160MiB, cpus: 1}
inputs:
  pods: {kubernetes: {node: node-a, root: $DIR/pods, server: '%s', token_file: $DIR/token, ca: '%s'}, line_timeout: 1s}
outputs:
  out: {file: {path: '$DIR/out.ndjson', rotate: 64MiB}}
`, c.URL, c.CAFile)))
	k := &rig.Kubelet{Root: filepath.Join(dir, "pods")}
	check(t, os.MkdirAll(k.Root, 0o755))
	a, err := h.Start()
	check(t, err)
	defer a.Kill()
	check(t, a.Ready(ctx))

	churn := &churn{T: t, ctx: ctx, c: c, k: k}
	warm := min(2*time.Minute, d/5)
	churn.run(warm)
	before := takeStock(t, a)
	churn.run(d - warm)
	churn.end()
	// A pod is known for a minute after its end; then the stock is as it was.
	var after stock
	check(t, rig.Poll(ctx, "the agent to be as small as before", func() error {
		after = takeStock(t, a)
		return after.within(before)
	}))
	t.Logf("%d pods; at %v %+v; at the end %+v", churn.pods, warm, before, after)
	check(t, rig.Poll(ctx, "every line", func() error { return delivered(dir, churn) }))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// churn creates pods, has each write, and removes it after a second.
type churn struct {
	*testing.T
	ctx  context.Context
	c    *rig.Cluster
	k    *rig.Kubelet
	pods int
	live []churned
}

type churned struct {
	*rig.Container
	born time.Time
}

func (c *churn) run(d time.Duration) {
	c.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-tick.C
		c.create()
		for len(c.live) > 0 && time.Since(c.live[0].born) > time.Second {
			c.remove()
		}
	}
}

func (c *churn) create() {
	c.Helper()
	name := fmt.Sprintf("bare-%d", c.pods)
	c.pods++
	answer, err := c.c.Do(c.ctx, http.MethodPost, "/api/v1/namespaces/shop/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]any{"app": "shop"}},
		"spec": map[string]any{"nodeName": "node-a", "containers": []any{map[string]any{"name": "main", "image": "shop:1"}}},
	})
	check(c.T, err)
	var made struct{ Metadata struct{ UID string } }
	check(c.T, json.Unmarshal(answer, &made))
	l, err := c.k.Start("shop", name, made.Metadata.UID, "main")
	check(c.T, err)
	check(c.T, l.Write(5, 20))
	c.live = append(c.live, churned{l, time.Now()})
}

func (c *churn) remove() {
	c.Helper()
	oldest := c.live[0]
	c.live = c.live[1:]
	_, err := c.c.Do(c.ctx, http.MethodDelete, "/api/v1/namespaces/shop/pods/"+oldest.Pod+"?gracePeriodSeconds=0", nil)
	check(c.T, err)
	check(c.T, oldest.Remove())
}

func (c *churn) end() {
	for len(c.live) > 0 {
		c.remove()
	}
}

// delivered wants five lines of each pod, each with its image.
func delivered(dir string, c *churn) error {
	names, err := filepath.Glob(filepath.Join(dir, "out*.ndjson*"))
	if err != nil {
		return err
	}
	lines, known := make(map[string]int), 0
	for _, name := range names {
		data, err := rig.ReadAll(name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			var doc struct{ Pod, Image string }
			if err := json.Unmarshal([]byte(line), &doc); err != nil {
				return err
			}
			lines[doc.Pod]++
			if doc.Image == "shop:1" {
				known++
			}
		}
	}
	for i := range c.pods {
		if n := lines[fmt.Sprintf("bare-%d", i)]; n != 5 {
			return fmt.Errorf("%d lines of pod %d of %d, want 5", n, i, c.pods)
		}
	}
	if known != 5*c.pods {
		return rig.Final(fmt.Errorf("%d of %d lines have their pod's image", known, 5*c.pods))
	}
	return nil
}

// stock is what must not grow.
type stock struct {
	Goroutines, Files, Series int
	RSS                       int64
}

func takeStock(t *testing.T, a *rig.Agent) (s stock) {
	t.Helper()
	p, err := a.Proc()
	check(t, err)
	m, err := a.Metrics()
	check(t, err)
	return stock{Goroutines: int(m["go_goroutines"]), Files: p.Files, Series: len(m), RSS: p.RSS}
}

// within reports what is more than a tenth above what it was.
func (s stock) within(was stock) error {
	for what, pair := range map[string][2]int{
		"goroutines": {s.Goroutines, was.Goroutines}, "descriptors": {s.Files, was.Files}, "series": {s.Series, was.Series}, "resident bytes": {int(s.RSS), int(was.RSS)},
	} {
		if pair[0] > pair[1]*11/10 {
			return fmt.Errorf("%d %s, and %d before", pair[0], what, pair[1])
		}
	}
	return nil
}
