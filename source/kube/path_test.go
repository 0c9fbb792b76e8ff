package kube

import (
	"log/slog"
	"testing"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

func TestPathsOfKubelet(t *testing.T) {
	for path, want := range map[string]Place{
		"/var/log/pods/shop_web-7d9c6b5f4-x2x4z_3f1e/nginx/0.log":          {"shop", "web-7d9c6b5f4-x2x4z", "3f1e", "nginx"},
		"/var/log/pods/kube-system_etcd-n1_0f3c/etcd/12.log.20261125-1404": {"kube-system", "etcd-n1", "0f3c", "etcd"},
	} {
		if got, ok := ParsePath(path); !ok || got != want {
			t.Errorf("%s says %+v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"/var/log/pods/shop_web/nginx/0.log", "/var/log/messages", "", "/", "/a_b_c/0.log", "/var/log/pods/__x/c/0.log"} {
		if got, ok := ParsePath(path); ok {
			t.Errorf("%q is taken for the log of %+v", path, got)
		}
	}
}

func TestOwnersAreGuessedFromNames(t *testing.T) {
	for pod, want := range map[string]string{
		"web-7d9c6b5f4-x2x4z":       "web",
		"kube-proxy-x2x4z":          "kube-proxy",
		"report-29384920-x2x4z":     "report",
		"backup-zk8v4":              "backup",
		"kafka-0":                   "kafka",
		"kafka-broker-12":           "kafka-broker",
		"debug":                     "debug",
		"api-gateway-55c8d7f-abcde": "api-gateway-55c8d7f-abcde", // no controller's alphabet
	} {
		if got := (Place{Pod: pod}).GuessOwner(); got != want {
			t.Errorf("%s is taken for one of %s, want %s", pod, got, want)
		}
	}
}

func TestOwnersOfCronJobsAndSets(t *testing.T) {
	yes := true
	for _, c := range []struct{ kind, name, hash, owner, ownerKind string }{
		{"Job", "report-29384920", "", "report", "CronJob"},
		{"Job", "migrate-v2", "", "migrate-v2", "Job"},
		{"ReplicaSet", "bare", "", "bare", "ReplicaSet"},
		{"ReplicaSet", "web-7d9c6b5f4", "7d9c6b5f4", "web", "Deployment"},
		{"ReplicaSet", "web-7d9c6b5f4", "", "web", "Deployment"}, // as the name of the pod is read, too
		{"ReplicaSet", "web-frontend", "", "web-frontend", "ReplicaSet"},
		{"ReplicaSet", "web-7d9c6b5f4", "other", "web-7d9c6b5f4", "ReplicaSet"},
		{"StatefulSet", "kafka", "", "kafka", "StatefulSet"},
	} {
		var o object
		o.Metadata.Labels = map[string]string{"pod-template-hash": c.hash}
		o.Metadata.OwnerReferences = []reference{{Kind: "Other", Name: "x"}, {Kind: c.kind, Name: c.name, Controller: &yes}}
		if name, kind := o.owner(); name != c.owner || kind != c.ownerKind {
			t.Errorf("%s %s belongs to %s %s", c.kind, c.name, kind, name)
		}
	}
}

func TestAPodIsKeptAMinuteAfterItsEnd(t *testing.T) {
	var forgotten []*Pod
	p := New(Config{Server: "https://none", Forgotten: func(pod *Pod) { forgotten = append(forgotten, pod) }})
	now := time.Unix(1e9, 0)
	p.now = func() time.Time { return now }
	var o object
	o.Metadata.UID, o.Metadata.Name = "u", "p"
	p.listed(nil, now)
	p.put(&o)
	p.delete(&o)
	now = now.Add(KeepDeleted - time.Second)
	p.sweep()
	if pod, _ := p.Find("u", now); pod == nil || len(forgotten) > 0 {
		t.Fatal("it is forgotten too early")
	}
	now = now.Add(time.Second)
	p.sweep()
	if pod, _ := p.Find("u", now); pod != nil || len(forgotten) != 1 {
		t.Fatal("it is not forgotten")
	}
}

func TestAServerThatSaysNothingIsNotWaitedForTwice(t *testing.T) {
	p := New(Config{Server: "https://none", Log: discard})
	now := time.Unix(1e9, 0)
	p.now = func() time.Time { return now }
	p.listed(nil, now)
	now = now.Add(time.Minute)
	if _, until := p.Find("a", now); until != now.Add(Wait) {
		t.Fatalf("the first waits until %v", until)
	}
	now = now.Add(Wait)
	p.Find("a", now) // in vain
	if _, until := p.Find("b", now); !until.IsZero() {
		t.Errorf("the next one waits until %v", until)
	}
	p.heard()
	if _, until := p.Find("c", now); until.IsZero() {
		t.Error("nobody waits though the server speaks again")
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/var/log/pods/shop_web-1_3f1e/nginx/0.log")
	f.Add("/a_b_c/d/")
	f.Fuzz(func(t *testing.T, path string) {
		if p, ok := ParsePath(path); ok && (p.GuessOwner() == "" || p.Namespace == "" || p.Container == "") {
			t.Errorf("%q: %+v", path, p)
		}
	})
}
