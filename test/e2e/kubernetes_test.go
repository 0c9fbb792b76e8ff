package e2e

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	fake "github.com/tailwater/tailwater/test/fake/kube"
	"github.com/tailwater/tailwater/test/rig"
)

// node is a world that is a Kubernetes node: kubelet's directory, an API server, and
// the agent between them.
type node struct {
	*world
	*rig.Kubelet
	api *fake.Server
}

// newNode makes the node. more is added to the kubernetes input, beside it other keys of
// an input.
func newNode(t *testing.T, more, beside string) *node {
	t.Helper()
	api, err := fake.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{api: api}
	t.Cleanup(func() {
		api.Cut()
		api.Close()
	})
	n.world = newWorld(t, fmt.Sprintf(`
inputs:
  pods:
    kubernetes: {node: node-a, root: $DIR/logs, server: '%s', token_file: '%s', ca: '%s', labels: [app, app.kubernetes.io/version]%s}
%s
`, api.URL, api.TokenFile, api.CAFile, more, beside)+fileOutput)
	n.Kubelet = &rig.Kubelet{Root: n.path("logs")}
	return n
}

// container starts one of a pod that the API server knows as a Deployment's.
func (n *node) container(pod fake.Pod, name string) *rig.Container {
	n.Helper()
	if pod.Namespace == "" {
		pod.Namespace = "shop"
	}
	pod.UID, pod.Node = "uid-"+pod.Name, "node-a"
	if pod.Owner == "" {
		pod.OwnerKind, pod.Owner = "ReplicaSet", "web-7d9c6b5f4"
	}
	labels := map[string]string{"app": "web", "pod-template-hash": "7d9c6b5f4", "app.kubernetes.io/version": "1.2.3"}
	maps.Copy(labels, pod.Labels)
	pod.Labels = labels
	if pod.Images == nil {
		pod.Images = map[string]string{name: "registry/" + name + ":1"}
	}
	n.api.Put(pod)
	c, err := n.Start(pod.Namespace, pod.Name, pod.UID, name)
	n.check(err)
	return c
}

// docs waits for so many documents and returns them.
func (n *node) docs(count int) []map[string]any {
	n.Helper()
	var docs []map[string]any
	n.check(rig.Poll(n.ctx, fmt.Sprint(count, " documents"), func() error {
		if docs = n.documents(n.path("out.ndjson")); len(docs) < count {
			return fmt.Errorf("there are %d: %v", len(docs), docs)
		}
		return nil
	}))
	if len(docs) > count {
		n.Fatalf("%d documents, want %d: %v", len(docs), count, docs)
	}
	return docs
}

// has wants fields of a document; "" wants a field not to be there.
func (n *node) has(doc map[string]any, want map[string]string) {
	n.Helper()
	for key, value := range want {
		got, there := doc[key]
		if there != (value != "") || there && got != value {
			n.Errorf("%s is %v, want %q, in %v", key, got, value, doc)
		}
	}
}

func TestDocumentsSayWhosePodTheyAreOf(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "")
	n.start()
	c := n.container(fake.Pod{Name: "web-7d9c6b5f4-x2x4z"}, "app")
	n.check(c.WriteString(c.Line("stderr", `{"level":"error","msg":"it broke","request_id":"r-1","pod":"mine"}`, false)))
	doc := n.docs(1)[0]
	n.has(doc, map[string]string{
		"namespace": "shop", "pod": "web-7d9c6b5f4-x2x4z", "container": "app", "node": "node-a", "owner": "web", "owner_kind": "Deployment",
		"image": "registry/app:1", "app": "web", "app_kubernetes_io_version": "1.2.3", "project": "web", "level": "error", "message": "it broke",
		"request_id": "r-1", "orig_pod": "mine", "host": "rig", "input": "pods", "file": c.Path(), "uid": "",
	})
}

// TestNamesThatNoPodCanHave: whatever stands in kubelet's directory is read, with all that
// its path tells and always with a project, and no name ends more than itself.
func TestNamesThatNoPodCanHave(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "")
	long := strings.Repeat("x", 200)
	odd := "evil pod\n{\"x\": ${A}"
	places := []struct{ dir, project, pod, namespace string }{
		{"shop_a_b_u1", "pods", "", ""}, {"__u2", "pods", "", ""}, {"shop_" + odd + "_u3", odd, odd, "shop"},
		{"shop_\xff\xfe_u4", "\ufffd\ufffd", "\ufffd\ufffd", "shop"}, {"shop_" + long + "_u5", long, long, "shop"}, {"shop_web-0_u6", "web", "web-0", "shop"},
	}
	for i, p := range places {
		n.check(os.MkdirAll(n.path("logs", p.dir, "app"), 0o755))
		n.check(os.WriteFile(n.path("logs", p.dir, "app", "0.log"), fmt.Appendf(nil, "2026-11-25T10:00:00.123456789Z stdout F line %d\n", i), 0o644))
	}
	n.start()
	seen := make(map[any]bool)
	for _, d := range n.docs(len(places)) {
		var i int
		_, err := fmt.Sscanf(fmt.Sprint(d["message"]), "line %d", &i)
		n.check(err)
		n.has(d, map[string]string{"project": places[i].project, "pod": places[i].pod, "namespace": places[i].namespace})
		seen[d["message"]] = true
	}
	if len(seen) != len(places) {
		t.Errorf("these are the lines: %v", seen)
	}
	n.stop(0)
}

func TestAnnotationsSayHowAPodIsRead(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "")
	n.start()
	c := n.container(fake.Pod{Name: "web-1", Annotations: map[string]string{
		"tailwater/format.proxy": `$remote_addr "$request" $status`, "tailwater/multiline.app": `{starts_with: '^> '}`, "tailwater/format.app": "plain",
		"tailwater/project": "checkout", "tailwater/project.proxy": "edge", "tailwater/exclude.noise": "true", "tailwater/keep.strict": "warn,error",
		"tailwater/format.wrong": "${file:/etc/passwd}", "tailwater/project.long": strings.Repeat("x", 201),
	}, Labels: map[string]string{"tailwater/project": "not-this"}}, "proxy")
	n.check(c.WriteString(c.Line("stdout", `10.0.0.1 "GET /a HTTP/1.1" 503`, false)))
	write := func(name string, lines ...string) *rig.Container {
		c, err := n.Start("shop", "web-1", "uid-web-1", name)
		n.check(err)
		for _, l := range lines {
			n.check(c.WriteString(c.Line("stdout", l, false)))
		}
		return c
	}
	write("app", "> one", "and its rest", "> two")
	noise := write("noise", "nobody wants this")
	write("strict", `{"level":"info","msg":"left out"}`, `{"level":"warn","msg":"kept"}`)
	write("wrong", "read all the same")
	write("long", "of no such project")
	byLabel := n.container(fake.Pod{Name: "web-2", Labels: map[string]string{"tailwater/project": "labelled"}}, "app")
	n.check(byLabel.WriteString(byLabel.Line("stdout", "by label", false)))
	byMessage := make(map[any]map[string]any)
	for _, d := range n.docs(7) {
		byMessage[d["message"]] = d
	}
	n.has(byMessage[nil], map[string]string{"project": "edge", "method": "GET", "path": "/a", "container": "proxy"})
	for _, message := range []string{"> one\nand its rest", "> two", "kept", "read all the same"} {
		if d := byMessage[message]; d == nil {
			t.Errorf("no document says %q: %v", message, byMessage)
		} else {
			n.has(d, map[string]string{"project": "checkout"})
		}
	}
	n.has(byMessage["by label"], map[string]string{"project": "labelled"})
	n.has(byMessage["of no such project"], map[string]string{"project": "web"})
	n.check(rig.Poll(n.ctx, "the metrics", func() error {
		if m, err := n.agent.Metrics(); err != nil || m.Sum("excluded_bytes_total") != float64(noise.Bytes) || m.Sum("file_lag_bytes") != 0 {
			return fmt.Errorf("excluded bytes: %v, want %d; lag %v; %v", m.Sum("excluded_bytes_total"), noise.Bytes, m.Sum("file_lag_bytes"), err)
		}
		return nil
	}))
	if n.LogCount("annotation is wrong") != 1 || n.LogCount("root:") != 0 {
		t.Errorf("of the wrong annotation the log says %d times that it is wrong", n.LogCount("annotation is wrong"))
	}
	// The pod changes its mind: what comes then is wanted, and nothing of before.
	n.container(fake.Pod{Name: "web-1"}, "proxy")
	n.waitForPod("noise", noise)
}

// waitForPod writes lines until one is delivered, and wants it to be the first.
func (n *node) waitForPod(container string, c *rig.Container) {
	n.Helper()
	i := 0
	n.check(rig.Poll(n.ctx, "a line of "+container, func() error {
		i++
		n.check(c.WriteString(c.Line("stdout", fmt.Sprint("wanted ", i), false)))
		for _, d := range n.documents(n.path("out.ndjson")) {
			if d["container"] == container && d["message"] == "nobody wants this" {
				return rig.Final(fmt.Errorf("what was excluded is shipped: %v", d))
			}
			if d["container"] == container {
				return nil
			}
		}
		return fmt.Errorf("none")
	}))
}

func TestNamespacesAreChosen(t *testing.T) {
	t.Parallel()
	n := newNode(t, ", namespaces: ['shop*', '!shop-test']", "")
	for i, namespace := range []string{"kube-system", "shop-test", "shop", "shop-eu"} {
		c := n.container(fake.Pod{Namespace: namespace, Name: fmt.Sprint("p-", i)}, "app")
		n.check(c.WriteString(c.Line("stdout", "of "+namespace, false)))
	}
	n.start()
	for _, d := range n.docs(2) {
		if d["namespace"] != "shop" && d["namespace"] != "shop-eu" {
			t.Errorf("a line of %v", d["namespace"])
		}
	}
}

func TestLogsFlowWithTheAPIServerAway(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "")
	n.api.SetAway(true)
	n.start()
	n.check(rig.Poll(n.ctx, "the agent to notice", func() error {
		if n.LogCount("tells nothing of the pods") == 0 {
			return fmt.Errorf("it has not")
		}
		return nil
	}))
	c := n.container(fake.Pod{Name: "web-7d9c6b5f4-x2x4z"}, "app")
	n.check(c.Write(1, 10))
	written := time.Now()
	n.has(n.docs(1)[0], map[string]string{"namespace": "shop", "pod": c.Pod, "container": "app", "node": "node-a", "project": "web", "owner": "", "image": "", "app": ""})
	if waited := time.Since(written); waited > 5*time.Second {
		t.Errorf("the line was there after %v: it waited for what cannot come", waited)
	}
	n.api.SetAway(false)
	n.check(rig.Poll(n.ctx, "the metadata to come back", func() error {
		n.check(c.Write(1, 10))
		if docs := n.documents(n.path("out.ndjson")); docs[len(docs)-1]["owner"] != "web" {
			return fmt.Errorf("the last document is %v", docs[len(docs)-1])
		}
		return nil
	}))
}

// TestTheSameLineIsTheSameDocumentAgain: it is read again after a crash, when the API
// server is away and cannot say whose it is.
func TestTheSameLineIsTheSameDocumentAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "    line_timeout: 1s\n")
	c := n.container(fake.Pod{Name: "web-7d9c6b5f4-x2x4z", Annotations: map[string]string{"tailwater/project": "checkout"}}, "app")
	n.check(c.Write(10, 10))
	n.start()
	first := n.docs(10)
	n.stop(0)
	n.api.SetAway(true)
	n.check(n.replace("out.ndjson", "again.ndjson"))
	n.check(c.Write(1, 10)) // a file that has nothing new need not be read
	n.start()
	n.check(rig.Poll(n.ctx, "the line after the restart", func() error {
		docs := n.documents(n.path("again.ndjson"))
		if len(docs) == 0 {
			return fmt.Errorf("none")
		}
		last := docs[len(docs)-1]
		for _, key := range []string{"project", "owner", "image", "app", "namespace", "pod", "container"} {
			if last[key] != first[0][key] {
				return rig.Final(fmt.Errorf("%s was %v and is %v", key, first[0][key], last[key]))
			}
		}
		return nil
	}))
}

// TestShortLivedPods: each lives a second, its last line has no end, and the API server
// is two seconds late.
func TestShortLivedPods(t *testing.T) {
	t.Parallel()
	apart := 15 * time.Millisecond
	if torture() > 0 {
		apart = 100 * time.Millisecond
	}
	n := newNode(t, "", "    line_timeout: 1s\n")
	n.api.SetDelay(2 * time.Second)
	n.start()
	n.check(rig.Poll(n.ctx, "the first list", func() error {
		if m, err := n.agent.Metrics(); err != nil || m.Sum("kubernetes_api_up") != 1 {
			return fmt.Errorf("the API server is not up: %v", err)
		}
		return nil
	}))
	const pods, life = 200, time.Second
	type short struct {
		*rig.Container
		born time.Time
	}
	var all []short
	remove := func(s short) {
		n.pause(time.Until(s.born.Add(life)))
		n.api.Delete(s.UID)
		n.check(s.Remove())
	}
	removed := 0
	for i := range pods {
		c := n.container(fake.Pod{Name: fmt.Sprintf("job-%d-x2x4z", i), OwnerKind: "Job", Owner: fmt.Sprint("job-", i), Images: map[string]string{"main": fmt.Sprint("image-", i)}}, "main")
		n.check(c.Write(19, 20))
		last := c.Line("stdout", strings.TrimSuffix(string(c.Append(nil, 1, 20)), "\n"), false)
		n.check(c.WriteString(strings.TrimSuffix(last, "\n")))
		all = append(all, short{c, time.Now()})
		n.pause(apart)
		for removed < len(all) && time.Since(all[removed].born) >= life {
			remove(all[removed])
			removed++
		}
	}
	for ; removed < len(all); removed++ {
		remove(all[removed])
	}
	var lines []*rig.Lines
	for _, s := range all {
		lines = append(lines, s.Lines)
	}
	n.check(rig.Poll(n.ctx, "all lines", func() error { return n.count().Clean(nil, lines...) }))
	n.check(n.count().Exact(nil, lines...))
	for _, d := range n.documents(n.path("out.ndjson")) {
		i := strings.TrimSuffix(strings.TrimPrefix(d["pod"].(string), "job-"), "-x2x4z")
		n.has(d, map[string]string{"owner": "job-" + i, "owner_kind": "Job", "image": "image-" + i, "project": "job-" + i})
		if t.Failed() {
			break
		}
	}
}

// TestKubeletsRotations: while the agent is down the log is rotated three times, and
// while it runs as often, in kubelet's way; the container is restarted in between.
func TestKubeletsRotations(t *testing.T) {
	t.Parallel()
	lines := 2000
	if torture() > 0 {
		lines = 100_000 // 10 MiB, kubelet's default
	}
	for _, docker := range []bool{false, true} {
		n := newNode(t, "", "    format: json\n")
		n.Docker = docker
		c := n.container(fake.Pod{Name: "web-7d9c6b5f4-x2x4z"}, "app")
		n.check(c.Write(lines, 30))
		n.start()
		n.exactContainers(c)
		n.agent.Kill()
		for range 3 {
			n.check(c.Write(lines, 30))
			n.check(c.Rotate())
		}
		n.check(c.Write(lines, 30))
		n.check(c.Restart())
		n.check(c.Write(lines, 30))
		n.start()
		n.exactContainers(c)
		for range 3 {
			n.check(c.Write(lines, 30))
			n.check(c.Rotate())
		}
		n.check(c.Write(lines, 30))
		n.exactContainers(c)
		for _, d := range n.documents(n.path("out.ndjson")) {
			if d["pod"] != c.Pod || d["project"] != "web" || d["parse_error"] != nil {
				t.Fatalf("a document of the pod is %v", d)
			}
		}
		n.stop(0)
	}
}

// exactContainers waits for every line and wants each once, in the order of its
// container.
func (n *node) exactContainers(all ...*rig.Container) {
	n.Helper()
	var lines []*rig.Lines
	for _, c := range all {
		lines = append(append(lines, c.Lines), c.Before...)
	}
	n.check(rig.Poll(n.ctx, "every line", func() error { return n.count().Clean(nil, lines...) }))
	n.check(n.count().Exact(nil, lines...))
}

// TestStopsAndKillsOfTheNodeAgent: pods write and rotate, and the agent is stopped and
// killed at random moments.
func TestStopsAndKillsOfTheNodeAgent(t *testing.T) {
	t.Parallel()
	rounds := 3
	if torture() > 0 {
		rounds = 50
	}
	n := newNode(t, "", "    format: json\n")
	var all []*rig.Container
	for i := range 5 {
		all = append(all, n.container(fake.Pod{Name: fmt.Sprintf("web-7d9c6b5f4-x2x4%c", 'v'+i)}, "app"))
	}
	for round := range 2 * rounds {
		n.start()
		if round == 0 { // at the very first start, what was rotated before is not read
			for _, c := range all {
				n.check(c.Write(1, 60))
			}
			n.exactContainers(all...)
		}
		for step := range 4 {
			for i, c := range all {
				n.check(c.Write(250, 60))
				if (round+step+i)%7 == 0 {
					n.check(c.Rotate())
				}
			}
			n.pause(time.Duration(1+(round*31+step*17)%40) * time.Millisecond)
		}
		if round%2 == 0 {
			n.agent.Kill()
		} else {
			n.stop(0)
		}
	}
	n.start()
	n.exactContainers(all...)
}

// TestANoisyPodStarvesNobody: one container writes as fast as it can; the others' lines
// are delivered within three seconds.
func TestANoisyPodStarvesNobody(t *testing.T) {
	t.Parallel()
	quiet, rounds, burst := 20, 10, 6000
	if torture() > 0 {
		quiet, rounds, burst = 99, 300, 60_000
	}
	n := newNode(t, "", "    format: json\n")
	n.check(n.replace("out.ndjson", "{project}.ndjson"))
	noisy := n.container(fake.Pod{Name: "noisy-7d9c6b5f4-x2x4z", Annotations: map[string]string{"tailwater/project": "noisy"}}, "app")
	var others []*rig.Container
	for i := range quiet {
		others = append(others, n.container(fake.Pod{Name: fmt.Sprint("quiet-", i), Annotations: map[string]string{"tailwater/project": "quiet"}}, "app"))
	}
	n.start()
	var worst time.Duration
	for round := range rounds {
		n.check(noisy.Write(burst, 1000))
		written := time.Now()
		for _, c := range others {
			n.check(c.Write(1, 20))
		}
		n.check(rig.Poll(n.ctx, "the others' lines", func() error {
			tally, err := rig.Count(n.path("quiet.ndjson"))
			if err != nil {
				return rig.Final(err)
			}
			for _, c := range others {
				if !tally.Has(c.ID, c.N-1) {
					return fmt.Errorf("line %d of %s is missing", c.N-1, c.ID)
				}
			}
			return nil
		}))
		worst = max(worst, time.Since(written))
		if round%4 == 3 {
			n.check(noisy.Rotate())
		}
	}
	t.Logf("the slowest round took %v", worst)
	if worst > 3*time.Second {
		t.Errorf("the others' lines took %v, with one noisy pod beside them", worst)
	}
}
