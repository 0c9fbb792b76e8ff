package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	fake "github.com/tailwater/tailwater/test/fake/kube"
	"github.com/tailwater/tailwater/test/rig"
)

const (
	podCount  = 250
	podLines  = 30 // of each pod in a second
	podWarmUp = 15 * time.Second
	podTime   = 30 * time.Second
)

// pods is a full node: 250 pods, each of which writes 30 lines a second, each line with
// a write of its own, as container runtimes do.
func (b *bench) pods() error {
	home := &rig.Home{Bin: b.bin, Dir: filepath.Join(b.work, "pods")}
	if err := os.MkdirAll(home.Dir, 0o755); err != nil {
		return err
	}
	api, err := fake.New(home.Dir)
	if err != nil {
		return err
	}
	defer func() {
		api.Cut()
		api.Close()
	}()
	// The limits are those of deploy/daemonset.
	if err := home.WriteConfig(fmt.Sprintf(`
limits: {memory: 160MiB, cpus: 1}
inputs:
  pods:
    kubernetes: {node: node-a, root: $DIR/pods, server: '%s', token_file: '%s', ca: '%s', labels: [app]}
outputs:
  out: {file: {path: '$DIR/out.ndjson'}}
`, api.URL, api.TokenFile, api.CAFile)); err != nil {
		return err
	}
	node, err := startPods(api, filepath.Join(home.Dir, "pods"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	a, err := home.Start()
	if err != nil {
		return err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return err
	}
	share, after, err := cost(a, podWarmUp, podTime, func(long time.Duration) error { return node.write(ctx, long) })
	if err != nil {
		return err
	}
	if err := lines(ctx, a, node.lines); err != nil {
		return fmt.Errorf("%w\n%s", err, home.LogTail())
	}
	b.report.section("Kubernetes", fmt.Sprintf("%d pods on a node, %d lines a second of each, to a file", podCount, podLines), "what", "measured", "wanted")
	b.report.row("share of a core", share, "5 %")
	b.report.row("resident MiB", mib(float64(after.RSS)), "64")
	b.report.row("peak resident MiB", mib(float64(after.Peak)), "64")
	return nil
}

// node is the pods of a node, and how many lines they have written.
type node struct {
	pods  []*rig.Container
	lines int
}

func startPods(api *fake.Server, root string) (*node, error) {
	kubelet := &rig.Kubelet{Root: root}
	n := new(node)
	for i := range podCount {
		p := fake.Pod{Namespace: "shop", Name: fmt.Sprintf("web-7d9c6b5f4-%05d", i), UID: fmt.Sprintf("uid-%05d", i), Node: "node-a",
			Labels: map[string]string{"app": "web"}, OwnerKind: "ReplicaSet", Owner: "web-7d9c6b5f4", Images: map[string]string{"app": "web:1"}}
		api.Put(p)
		c, err := kubelet.Start(p.Namespace, p.Name, p.UID, "app")
		if err != nil {
			return nil, err
		}
		n.pods = append(n.pods, c)
	}
	return n, nil
}

// write has the pods write in turns, evenly over the time.
func (n *node) write(ctx context.Context, long time.Duration) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start, written := time.Now(), 0
	for written < int(podCount*podLines*long.Seconds()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for due := int(podCount * podLines * time.Since(start).Seconds()); written < due; written++ {
			pod := n.pods[written%podCount]
			text := fmt.Sprintf(`{"time":"%s","level":"info","logger":"shop.Orders","msg":"order %d of customer %d was stored","request_id":"%016x","elapsed_ms":%d}`,
				time.Now().UTC().Format(time.RFC3339Nano), written, written%4999, written*7919, written%300)
			if err := pod.WriteString(pod.Line("stdout", text, false)); err != nil {
				return err
			}
			n.lines++
		}
	}
	return nil
}
