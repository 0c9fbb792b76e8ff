package agent

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/kube"
)

// podWatch is what a kubernetes input knows of its pods. It outlives a reload that does
// not concern it.
type podWatch struct {
	*kube.Pods
	agent *Agent
	cfg   config.KubernetesInput
	node  string
	stop  context.CancelFunc // nil while it does not run
	done  chan struct{}

	mu       sync.Mutex
	projects map[string]map[string]struct{} // the pods' UIDs by project
}

// newPodWatch makes what start runs.
func (a *Agent) newPodWatch(in *config.Input) *podWatch {
	w := &podWatch{agent: a, cfg: *in.Kubernetes, node: in.Kubernetes.NodeName(), projects: make(map[string]map[string]struct{})}
	server, token, ca := in.Kubernetes.API()
	w.Pods = kube.New(kube.Config{
		Server: server, TokenFile: token, CAFile: ca, Node: w.node, Labels: in.Kubernetes.Labels,
		Changed: w.changed, Forgotten: w.forgotten, Log: a.log.With("input", in.Name),
	})
	return w
}

// podWatchFor is the running one of that input, where its settings are the same, else a
// new one.
func (a *Agent) podWatchFor(in *config.Input) *podWatch {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was := a.watches[in.Name]; was != nil && reflect.DeepEqual(was.cfg, *in.Kubernetes) {
		return was
	}
	return a.newPodWatch(in)
}

// watchPods runs what the current inputs need, and ends what they do not.
func (a *Agent) watchPods() {
	a.mu.Lock()
	var ending []*podWatch
	next := make(map[string]*podWatch)
	for name, in := range a.inputs {
		if in.pods != nil {
			next[name] = in.pods
		}
	}
	for name, was := range a.watches {
		if next[name] != was {
			ending = append(ending, was)
		}
	}
	a.watches = next
	a.mu.Unlock()
	for _, w := range ending {
		w.end()
	}
	for _, w := range next {
		w.begin()
	}
}

// endPodWatches ends them all.
func (a *Agent) endPodWatches() {
	a.mu.Lock()
	all := a.watches
	a.watches = nil
	a.mu.Unlock()
	for _, w := range all {
		w.end()
	}
}

func (w *podWatch) begin() {
	if w.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done = stop, make(chan struct{})
	if server, _, _ := w.cfg.API(); server == "" {
		w.agent.log.Info("there is no API server to ask: the documents of pods have what the paths of their logs tell")
		close(w.done)
		return
	}
	go func() {
		defer close(w.done)
		w.Run(ctx)
	}()
}

func (w *podWatch) end() {
	if w.stop != nil {
		w.stop()
		<-w.done
	}
}

// changed wakes the flows of a pod: they take up what is known of it now.
func (w *podWatch) changed(uid string) {
	for _, f := range w.agent.allFlows() {
		if f.pod != nil && f.pod.place.UID == uid {
			w.agent.sched.wake(f)
		}
	}
}

// belongs notes that a pod's lines are counted for the project.
func (w *podWatch) belongs(pod *kube.Pod, project string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.projects[project] == nil {
		w.projects[project] = make(map[string]struct{})
	}
	w.projects[project][pod.UID] = struct{}{}
}

// forgotten drops the metrics of projects whose last pod on this node has been gone for
// a while: names come and go, and a node lives for months.
func (w *podWatch) forgotten(pod *kube.Pod) {
	var empty []string
	w.mu.Lock()
	for project, uids := range w.projects {
		if delete(uids, pod.UID); len(uids) == 0 {
			delete(w.projects, project)
			empty = append(empty, project)
		}
	}
	w.mu.Unlock()
	for _, project := range empty {
		w.agent.metrics.projects.drop(project)
	}
}

// podView is how the lines of a container are read; pod is nil while nothing but the
// path is known.
func (in *input) podView(place kube.Place, pod *kube.Pod, wrap string) *view {
	v := &view{pod: pod, wrap: cmp.Or(wrap, "cri"), extra: in.cfg.Constants()}
	add := func(key, value string) {
		if value != "" {
			v.extra = append(v.extra, record.KeyValue{Key: key, Value: value})
		}
	}
	add("namespace", place.Namespace)
	add("pod", place.Pod)
	add("container", place.Container)
	add("node", in.pods.node)
	var wants config.Annotations
	if pod == nil {
		v.project = cmp.Or(in.cfg.Project, place.GuessOwner(), in.name)
	} else {
		add("owner", pod.Owner)
		add("owner_kind", pod.OwnerKind)
		add("image", pod.Images[place.Container])
		for _, label := range in.pods.cfg.Labels {
			add(kube.FieldName(label), pod.Labels[label])
		}
		v.project = cmp.Or(in.wishedProject(pod, place), in.cfg.Project, pod.OwnerName())
		wants.Format, _ = pod.Annotation(kube.Format, place.Container)
		wants.Multiline, _ = pod.Annotation(kube.Multiline, place.Container)
		wants.Keep, _ = pod.Annotation(kube.Keep, place.Container)
		v.excluded = in.excludes(pod, place)
		in.pods.belongs(pod, v.project)
	}
	v.format, v.keep = in.annotated(wants, v.wrap, place)
	v.keys = in.reserved(v.extra)
	return v
}

// reading is how annotations have lines read.
type reading struct {
	format *parser.Format
	keep   [record.Levels]bool
	wrong  error
}

// wishedProject is the project that the pod names, "" where it names none or none that is
// a name.
func (in *input) wishedProject(pod *kube.Pod, place kube.Place) string {
	name := pod.Project(place.Container)
	if len(name) > maxProject || strings.ContainsFunc(name, unicode.IsControl) {
		in.agent.log.Warn("a pod's annotation tailwater/project is no name; the owner's is taken. Write at most 200 bytes without control characters", "input", in.name,
			"pod", place.Namespace+"/"+place.Pod, "container", place.Container)
		return ""
	}
	return name
}

// maxProject bounds a project's name, in bytes.
const maxProject = 200

// excludes tells whether the pod wants the container's log to be left alone.
func (in *input) excludes(pod *kube.Pod, place kube.Place) bool {
	text, ok := pod.Annotation(kube.Exclude, place.Container)
	if !ok || text == "" {
		return false
	}
	yes, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(text)))
	if err != nil {
		in.agent.log.Warn("a pod's annotation tailwater/exclude is neither true nor false; its log is read", "input", in.name,
			"pod", place.Namespace+"/"+place.Pod, "container", place.Container, "value", text)
	}
	return yes
}

// annotated compiles what a pod wants, once for all pods that want the same. What is
// wrong with it is logged, and the input's own way is taken.
func (in *input) annotated(a config.Annotations, wrap string, place kube.Place) (*parser.Format, [record.Levels]bool) {
	key := strings.Join([]string{wrap, a.Format, a.Multiline, a.Keep}, "\x00")
	known, ok := in.readings.Load(key)
	if !ok {
		cfg, wrong := in.cfg.Annotated(a)
		r := reading{keep: cfg.Keeps(), wrong: wrong}
		var err error
		if r.format, err = parser.Compile(wrapped(cfg.ParserConfig(), wrap)); err != nil {
			r.format, r.wrong = in.format, cmp.Or(wrong, err)
		}
		if in.distinct.Add(1) > maxReadings {
			in.readings.Clear()
			in.distinct.Store(1)
		}
		known, _ = in.readings.LoadOrStore(key, r)
	}
	r := known.(reading)
	if r.wrong != nil {
		in.agent.log.Warn("a pod's annotation is wrong and passed over", "input", in.name, "pod", place.Namespace+"/"+place.Pod,
			"container", place.Container, "error", r.wrong)
	}
	return r.format, r.keep
}

// maxReadings bounds the memory for what pods have asked for.
const maxReadings = 1000

// wrapped puts the runtime's form around the format of a container's lines.
func wrapped(c parser.Config, wrap string) parser.Config {
	if c.Kind == "cri" || c.Kind == "docker" { // it is said already
		if c.Inner == nil {
			c.Inner = new(parser.Config)
		}
		c.Kind = wrap
		return c
	}
	inner := c
	c.Kind, c.Inner = wrap, &inner
	return c
}

// collectPods sends what the kubernetes inputs know of their pods.
func (a *Agent) collectPods(ch chan<- prometheus.Metric) {
	for name, w := range a.allPodWatches() {
		podsKnown.send(ch, float64(w.Known()), name)
		up := 0.0
		if w.Up() {
			up = 1
		}
		apiServerUp.send(ch, up, name)
	}
}

// podStatus adds what keeps the kubernetes inputs from knowing their pods.
func (a *Agent) podStatus(inputs []InputStatus) {
	all := a.allPodWatches()
	for i := range inputs {
		if w := all[inputs[i].Name]; w != nil {
			inputs[i].Trouble = w.Trouble()
		}
	}
}

func (a *Agent) allPodWatches() map[string]*podWatch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.watches)
}
