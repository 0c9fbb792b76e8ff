package kube

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"
)

// KeepDeleted is how long a pod is known after its end.
const KeepDeleted = time.Minute

// Wait is how long a pod's first lines wait for its metadata at most, when the API
// server can be reached and has not told of the pod yet.
const Wait = 10 * time.Second

// Config is what Pods are made from.
type Config struct {
	// Server is the API server's URL; "" asks nobody.
	Server string
	// TokenFile and CAFile are read again as they change; "" sends no token, and trusts
	// the system's authorities.
	TokenFile, CAFile string
	// Node is the name of the node whose pods are asked for.
	Node string
	// Labels are the pods' labels to be kept.
	Labels []string
	// Changed is called, from Run's goroutine and with nothing locked, with the UID of
	// each pod that was learned of or has changed in what is kept of it.
	Changed func(uid string)
	// Forgotten is called likewise when a pod is not known any more.
	Forgotten func(*Pod)
	Log       *slog.Logger
}

// Pods are the pods of a node. Its methods may be called from any goroutine.
type Pods struct {
	client    client
	node      string
	labels    []string
	changed   func(string)
	forgotten func(*Pod)
	log       *slog.Logger
	now       func() time.Time
	stale     bool // what the server has at hand is too old; Run's
	silent    chan struct{}

	mu       sync.Mutex // guards what follows
	known    map[string]*entry
	asked    map[string]time.Time // when somebody first asked for a pod that is not known
	away     bool                 // the last try failed
	why      string
	listedAt time.Time // when the last list that succeeded began
	heardAt  time.Time // when the server last said anything
}

type entry struct {
	pod     *Pod
	deleted time.Time // zero while it lives
}

// New returns Pods that know none; Run learns of them.
func New(c Config) *Pods {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Pods{
		client: client{server: strings.TrimSuffix(c.Server, "/"), tokenFile: c.TokenFile, caFile: c.CAFile},
		node:   c.Node, labels: c.Labels, changed: c.Changed, forgotten: c.Forgotten, log: c.Log, now: time.Now,
		known: make(map[string]*entry), asked: make(map[string]time.Time), silent: make(chan struct{}, 1),
	}
}

// Find returns the pod, nil while it is not known. It may come until then: before that
// moment it is worth waiting; a zero time says that it is not. written is when the pod
// is known to have been there already.
func (p *Pods) Find(uid string, written time.Time) (pod *Pod, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.known[uid]; e != nil {
		return e.pod, time.Time{}
	}
	if p.client.server == "" || p.away || written.Before(p.listedAt.Add(-listSlack)) {
		return nil, time.Time{} // one that was there and is not in the list has ended
	}
	first, ok := p.asked[uid]
	if !ok {
		first = p.now()
		p.asked[uid] = first
	}
	until = first.Add(Wait)
	if now := p.now(); !now.Before(until) && now.Sub(p.heardAt) >= Wait && first.After(p.listedAt) && !p.listedAt.IsZero() {
		// Not a word in all that time, and no list since: the next ones need not wait
		// before the server speaks again.
		p.awayNow("it has said nothing for " + Wait.String())
		select {
		case p.silent <- struct{}{}: // the watch may hang: it is begun anew
		default:
		}
	}
	return nil, until
}

// keepAsked is how long it is remembered that a pod was asked for in vain.
const keepAsked = 10 * time.Minute

// Recall makes a pod known that was learned of in an earlier life, unless it is known.
func (p *Pods) Recall(pod *Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[pod.UID] == nil {
		p.known[pod.UID] = &entry{pod: pod, deleted: p.now()} // until the server says otherwise
		delete(p.asked, pod.UID)
	}
}

// listSlack is by how much a list may be behind what kubelet knows.
const listSlack = 5 * time.Second

// Trouble says why the API server tells nothing, "" while it does.
func (p *Pods) Trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// Up reports whether the API server tells of the pods.
func (p *Pods) Up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.away && !p.listedAt.IsZero()
}

// Known is the number of pods that are known.
func (p *Pods) Known() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known)
}

// heard notes that the server speaks.
func (p *Pods) heard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heardLocked()
}

func (p *Pods) heardLocked() {
	if p.away {
		p.log.Info("the API server tells of the pods again", "server", p.client.server)
	}
	p.away, p.why, p.heardAt = false, "", p.now()
}

// failed notes that a try failed: nobody waits until one succeeds.
func (p *Pods) failed(err error) {
	p.mu.Lock()
	p.awayNow(err.Error())
	waiting := p.takeAsked()
	p.mu.Unlock()
	p.tell(waiting)
}

// awayNow is called with mu held.
func (p *Pods) awayNow(why string) {
	p.away, p.why = true, why
	p.log.Warn("the API server tells nothing of the pods; logs flow on, those of new pods with what their paths say", "server", p.client.server, "error", why)
}

func (p *Pods) takeAsked() (uids []string) {
	for uid := range p.asked {
		uids = append(uids, uid)
	}
	return uids
}

func (p *Pods) tell(uids []string) {
	if p.changed == nil {
		return
	}
	for _, uid := range uids {
		p.changed(uid)
	}
}

// listed replaces what is known by what a list has told.
func (p *Pods) listed(all []object, began time.Time) {
	var news []string
	p.mu.Lock()
	p.heardLocked()
	p.listedAt = began
	there := make(map[string]bool, len(all))
	for i := range all {
		pod := all[i].pod(p.labels)
		there[pod.UID] = true
		if p.putLocked(pod) {
			news = append(news, pod.UID)
		}
	}
	for uid, e := range p.known {
		if !there[uid] && e.deleted.IsZero() {
			e.deleted = p.now()
		}
	}
	for uid := range p.asked {
		if p.known[uid] == nil {
			news = append(news, uid) // they may learn now that they wait in vain
		}
	}
	p.mu.Unlock()
	p.tell(news)
}

func (p *Pods) put(o *object) {
	pod := o.pod(p.labels)
	p.mu.Lock()
	p.heardLocked()
	changed := p.putLocked(pod)
	p.mu.Unlock()
	if changed {
		p.tell([]string{pod.UID})
	}
}

// putLocked takes a pod in, and reports whether it says anything new.
func (p *Pods) putLocked(pod *Pod) (changed bool) {
	delete(p.asked, pod.UID)
	e := p.known[pod.UID]
	if e == nil {
		p.known[pod.UID] = &entry{pod: pod}
		return true
	}
	e.deleted = time.Time{}
	if reflect.DeepEqual(e.pod, pod) {
		return false
	}
	e.pod = pod
	return true
}

func (p *Pods) delete(o *object) {
	p.put(o) // it may be the first that is heard of it
	uid := cmp.Or(o.Metadata.Annotations[mirrorAnnotation], o.Metadata.UID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.known[uid]; e != nil {
		e.deleted = p.now()
	}
}

// sweepLoop forgets what has been gone for long enough, until ctx ends.
func (p *Pods) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(KeepDeleted / 12)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.sweep()
		}
	}
}

func (p *Pods) sweep() {
	var gone []*Pod
	p.mu.Lock()
	now := p.now()
	if p.away || p.listedAt.IsZero() {
		p.mu.Unlock()
		return // while nobody tells of pods, those known are worth keeping
	}
	for uid, e := range p.known {
		if !e.deleted.IsZero() && now.Sub(e.deleted) >= KeepDeleted {
			delete(p.known, uid)
			gone = append(gone, e.pod)
		}
	}
	for uid, first := range p.asked {
		if now.Sub(first) >= keepAsked {
			delete(p.asked, uid)
		}
	}
	p.mu.Unlock()
	if p.forgotten == nil {
		return
	}
	for _, pod := range gone {
		p.forgotten(pod)
	}
}
