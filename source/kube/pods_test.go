package kube_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/source/kube"
	fake "github.com/tailwater/tailwater/test/fake/kube"
)

const node = "node-a"

// world is a server with the pods that one node knows through it.
type world struct {
	*testing.T
	server *fake.Server
	pods   *kube.Pods
	log    *logged

	mu      sync.Mutex
	changed map[string]int
}

// logged keeps what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := fake.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError)
	w := &world{T: t, server: s, log: new(logged), changed: make(map[string]int)}
	t.Cleanup(func() {
		s.Cut()
		s.Close()
	})
	return w
}

// run starts following the pods.
func (w *world) run() {
	w.Helper()
	w.pods = kube.New(kube.Config{
		Server: w.server.URL, TokenFile: w.server.TokenFile, CAFile: w.server.CAFile, Node: node, Labels: []string{"app"},
		Changed: func(uid string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changed[uid]++
		},
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.pods.Run(ctx)
	}()
	w.Cleanup(func() {
		cancel()
		<-done
	})
}

// until waits for the condition.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain for %s; the log:\n%s", what, w.log.text.String())
		}
	}
}

func (w *world) knows(uid string) bool {
	pod, _ := w.pods.Find(uid, time.Now())
	return pod != nil
}

func (w *world) lists() int {
	lists, _, _ := w.server.Requests()
	return lists
}

func pod(name string) fake.Pod {
	return fake.Pod{Namespace: "shop", Name: name, UID: "uid-" + name, Node: node,
		Labels: map[string]string{"app": "web", "tier": "front"}, Images: map[string]string{"nginx": "nginx:1.27"}}
}

func TestPodsOfTheNodeAreListedAndWatched(t *testing.T) {
	w := newWorld(t)
	w.server.Put(pod("first"))
	elsewhere := pod("elsewhere")
	elsewhere.Node = "node-b"
	w.server.Put(elsewhere)
	w.run()
	w.until("the listed pod", func() bool { return w.knows("uid-first") })
	second := pod("second")
	second.Labels["pod-template-hash"] = "7d9c6b5f4"
	second.OwnerKind, second.Owner = "ReplicaSet", "web-7d9c6b5f4"
	second.Annotations = map[string]string{"tailwater/format.nginx": "combined", "tailwater/format": "json", "other": "x"}
	w.server.Put(second)
	w.until("the watched pod", func() bool { return w.knows("uid-second") })
	p, _ := w.pods.Find("uid-second", time.Now())
	if p.Owner != "web" || p.OwnerKind != "Deployment" || p.Images["nginx"] != "nginx:1.27" || len(p.Labels) != 1 || p.Labels["app"] != "web" || len(p.Annotations) != 2 {
		t.Errorf("of the pod is kept %+v", p)
	}
	for container, want := range map[string]string{"nginx": "combined", "sidecar": "json"} {
		if got, ok := p.Annotation(kube.Format, container); !ok || got != want {
			t.Errorf("the format of %s is %q, want %q", container, got, want)
		}
	}
	if w.knows("uid-elsewhere") {
		t.Error("a pod of another node is known")
	}
	_, _, queries := w.server.Requests()
	if all := strings.Join(queries, "\n"); !strings.Contains(all, "fieldSelector=spec.nodeName%3Dnode-a") || !strings.Contains(all, "allowWatchBookmarks=1") && !strings.Contains(all, "allowWatchBookmarks=true") {
		t.Errorf("the requests are\n%s", all)
	}
	w.server.Delete("uid-second")
	third := pod("third")
	w.server.Put(third)
	w.until("the event after the deletion", func() bool { return w.knows("uid-third") })
	if !w.knows("uid-second") {
		t.Error("a pod is forgotten with its deletion")
	}
}

func TestTheWatchIsCutAndTakenUpWithoutAList(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.until("the first list", func() bool { _, watches, _ := w.server.Requests(); return watches > 0 })
	for i := range 2 {
		w.server.Cut()
		p := pod(fmt.Sprint("p", i))
		w.server.Put(p)
		w.until("the pod after the cut", func() bool { return w.knows(p.UID) })
	}
	if n := w.lists(); n != 1 {
		t.Errorf("%d lists, want the first one alone", n)
	}
	if w.log.has("WARN") {
		t.Errorf("a cut connection is taken for an outage:\n%s", w.log.text.String())
	}
}

func TestForgottenHistoryIsListedAnew(t *testing.T) {
	w := newWorld(t)
	w.server.Put(pod("stays"))
	w.server.Put(pod("goes"))
	w.run()
	w.until("the first list", func() bool { return w.knows("uid-goes") })
	w.server.SetAway(true)
	w.server.Delete("uid-goes")
	w.server.Put(pod("comes"))
	w.server.Forget()
	w.server.SetAway(false)
	w.until("the pod of the lost history", func() bool { return w.knows("uid-comes") })
	if !w.knows("uid-stays") || !w.knows("uid-goes") {
		t.Error("what was known is forgotten at once")
	}
	if n := w.lists(); n != 2 {
		t.Errorf("%d lists, want 2", n)
	}
	w.server.Put(pod("later"))
	w.until("the watch after the list", func() bool { return w.knows("uid-later") })
}

func TestBookmarksMoveTheVersionOn(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.until("the watch", func() bool { _, watches, _ := w.server.Requests(); return watches > 0 })
	for range 3 {
		w.server.Bookmark()
	}
	w.server.Put(pod("marker"))
	w.until("what came after the bookmarks", func() bool { return w.knows("uid-marker") })
	w.server.Bookmark()
	w.server.Put(pod("last"))
	w.until("the last pod", func() bool { return w.knows("uid-last") })
	w.server.Cut()
	w.until("another watch", func() bool { _, watches, _ := w.server.Requests(); return watches > 1 })
	_, _, queries := w.server.Requests()
	if last := queries[len(queries)-1]; !strings.Contains(last, "resourceVersion=106") {
		t.Errorf("the watch is taken up by %s, want version 106", last)
	}
}

func TestNobodyWaitsWhileTheServerIsAway(t *testing.T) {
	w := newWorld(t)
	w.server.SetAway(true)
	w.run()
	w.until("the failure to be noticed", func() bool { return w.pods.Trouble() != "" })
	if _, until := w.pods.Find("uid-new", time.Now()); !until.IsZero() {
		t.Errorf("a pod is waited for until %v with the server away", until)
	}
	w.server.SetAway(false)
	w.until("the server to be heard again", func() bool { return w.pods.Trouble() == "" })
	if _, until := w.pods.Find("uid-other", time.Now().Add(time.Minute)); until.IsZero() {
		t.Error("a new pod is not waited for though the server answers")
	}
	if _, until := w.pods.Find("uid-orphan", time.Now().Add(-time.Hour)); !until.IsZero() {
		t.Error("a pod that ended before the list is waited for")
	}
}

func TestASlowServerIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.server.SetDelay(300 * time.Millisecond)
	w.server.Put(pod("slow"))
	w.run()
	if p, until := w.pods.Find("uid-slow", time.Now()); p != nil || until.IsZero() {
		t.Fatalf("before the first answer: %v, %v", p, until)
	}
	w.until("the pod", func() bool { return w.knows("uid-slow") })
	w.until("the one that waits to be told", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.changed["uid-slow"] == 1
	})
}

// TestAWatchThatHangsIsBegunAnew: the connection lives and nothing comes over it, as with a
// server that has lost the watch, or something between that has. A pod that waits in vain
// for as long as pods wait ends that, and the next ones are told of again.
func TestAWatchThatHangsIsBegunAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.until("the watch", func() bool { _, watches, _ := w.server.Requests(); return watches > 0 })
	w.server.Mute()
	w.server.Put(pod("new"))
	written := time.Now()
	w.until("the pod that the watch did not tell of", func() bool {
		p, _ := w.pods.Find("uid-new", written)
		return p != nil
	})
	if waited := time.Since(written); waited < kube.Wait {
		t.Errorf("the watch was begun anew after %v, though it may just have been quiet", waited)
	}
	if trouble := w.pods.Trouble(); trouble != "" {
		t.Errorf("the server counts as away: %s", trouble)
	}
	w.server.Put(pod("later"))
	w.until("what came after", func() bool { return w.knows("uid-later") })
	if n := w.lists(); n != 2 {
		t.Errorf("%d lists, want 2", n)
	}
}

func TestTheTokenIsReplacedWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.until("the watch", func() bool { _, watches, _ := w.server.Requests(); return watches > 0 })
	if err := w.server.SetToken("rotated"); err != nil {
		t.Fatal(err)
	}
	w.server.Cut()
	w.server.Put(pod("new"))
	w.until("the pod by the new token", func() bool { return w.knows("uid-new") })
	if w.pods.Trouble() != "" {
		t.Error(w.pods.Trouble())
	}
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.server.Refuse(http.StatusForbidden)
	w.run()
	w.until("the refusal to be noticed", func() bool { return strings.Contains(w.pods.Trouble(), "ClusterRole") })
	if _, until := w.pods.Find("uid-new", time.Now()); !until.IsZero() {
		t.Error("a pod is waited for that nobody may tell of")
	}
	w.server.Put(pod("seen"))
	w.server.Refuse(0)
	w.until("the pod", func() bool { return w.knows("uid-seen") })
}

func TestAPodFromAFileIsKnownByKubeletsName(t *testing.T) {
	w := newWorld(t)
	p := pod("etcd-node-a")
	p.Annotations = map[string]string{"kubernetes.io/config.mirror": "0f3c2a"}
	p.OwnerKind, p.Owner = "Node", node
	w.server.Put(p)
	w.run()
	w.until("the static pod", func() bool { return w.knows("0f3c2a") })
	got, _ := w.pods.Find("0f3c2a", time.Now())
	if got.Owner != "etcd" || got.OwnerKind != "Node" {
		t.Errorf("its owner is %s %s", got.OwnerKind, got.Owner)
	}
	w.server.Delete(p.UID)
	w.server.Put(pod("marker"))
	w.until("the event after", func() bool { return w.knows("uid-marker") })
	if !w.knows("0f3c2a") {
		t.Error("it is forgotten with its deletion")
	}
}
