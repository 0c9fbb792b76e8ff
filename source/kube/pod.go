package kube

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Pod is what documents and readers need to know of a pod. It is not changed once it
// has been given out; its JSON form is kept in the state.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"` // as kubelet's directories have it
	Node      string `json:"node,omitempty"`
	// Owner is what the pod belongs to in the eyes of its people: the Deployment, not
	// its ReplicaSet; the CronJob, not its Job. Both are "" for a pod of its own.
	Owner     string `json:"owner,omitempty"`
	OwnerKind string `json:"owner_kind,omitempty"`
	// Labels are those that were asked for, and Annotations those of Prefix without it.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Images are those of the containers, by the containers' names.
	Images map[string]string `json:"images,omitempty"`
}

// Prefix begins the labels and annotations that are meant for tailwater.
const Prefix = "tailwater/"

// The annotations that mean something, without Prefix. One of a container alone has the
// container's name behind a dot: format.nginx.
const (
	Project   = "project"
	Format    = "format"
	Multiline = "multiline"
	Keep      = "keep"
	Exclude   = "exclude"
)

// Annotation returns the annotation of that name for the container: its own, else the
// pod's.
func (p *Pod) Annotation(name, container string) (value string, ok bool) {
	if value, ok = p.Annotations[name+"."+container]; ok {
		return value, true
	}
	value, ok = p.Annotations[name]
	return value, ok
}

// Project names the project of the container's lines: by annotation, by label, and ""
// when neither is there.
func (p *Pod) Project(container string) string {
	value, _ := p.Annotation(Project, container)
	return cmp.Or(value, p.Labels[Prefix+Project])
}

// OwnerName is the owner's name, and for a pod without one the pod's.
func (p *Pod) OwnerName() string { return cmp.Or(p.Owner, p.Name) }

// FieldName is the name of the field that a label becomes.
func FieldName(label string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, label)
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// object is the part of the API's Pod that is read.
type object struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
		OwnerReferences []reference       `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		NodeName            string      `json:"nodeName"`
		InitContainers      []container `json:"initContainers"`
		Containers          []container `json:"containers"`
		EphemeralContainers []container `json:"ephemeralContainers"`
	} `json:"spec"`
}

type reference struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller *bool  `json:"controller"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

// mirrorAnnotation is what the API has of a pod that kubelet runs from a file: the uid
// that kubelet itself knows it by, which is the one in the paths of its logs.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// pod takes what is needed from the API's object. labels are those to be kept.
func (o *object) pod(labels []string) *Pod {
	m := &o.Metadata
	p := &Pod{Namespace: m.Namespace, Name: m.Name, UID: cmp.Or(m.Annotations[mirrorAnnotation], m.UID), Node: o.Spec.NodeName}
	p.Owner, p.OwnerKind = o.owner()
	for key, value := range m.Labels {
		if key == Prefix+Project || slices.Contains(labels, key) {
			put(&p.Labels, key, value)
		}
	}
	for key, value := range m.Annotations {
		if name, ours := strings.CutPrefix(key, Prefix); ours {
			put(&p.Annotations, name, value)
		}
	}
	for _, list := range [][]container{o.Spec.InitContainers, o.Spec.Containers, o.Spec.EphemeralContainers} {
		for _, c := range list {
			put(&p.Images, c.Name, c.Image)
		}
	}
	return p
}

func put(m *map[string]string, key, value string) {
	if *m == nil {
		*m = make(map[string]string)
	}
	(*m)[key] = value
}

// cronTime is what a CronJob appends to the names of its jobs: minutes since 1970, and
// seconds in old clusters.
var cronTime = regexp.MustCompile(`-(\d{8}|\d{10})$`)

// templateHash is what a Deployment appends to the names of its ReplicaSets.
var templateHash = regexp.MustCompile(`^(.+)-[bcdfghjklmnpqrstvwxz2456789]{8,10}$`)

// owner finds what the pod belongs to, from its controller alone: objects other than
// pods are not asked for.
func (o *object) owner() (name, kind string) {
	refs := o.Metadata.OwnerReferences
	i := slices.IndexFunc(refs, func(r reference) bool { return r.Controller != nil && *r.Controller })
	if i < 0 {
		return "", ""
	}
	name, kind = refs[i].Name, refs[i].Kind
	switch kind {
	case "ReplicaSet": // a Deployment writes the hash that it appends to the name into a label
		if hash := o.Metadata.Labels["pod-template-hash"]; hash != "" {
			if deployment, ok := strings.CutSuffix(name, "-"+hash); ok {
				return deployment, "Deployment"
			}
		} else if of := templateHash.FindStringSubmatch(name); of != nil { // or somebody has removed it
			return of[1], "Deployment"
		}
	case "Job":
		if cut := cronTime.FindStringIndex(name); cut != nil && cut[0] > 0 {
			return name[:cut[0]], "CronJob"
		}
	case "Node": // a pod from a file, which has the node's name appended to its own
		if own, ok := strings.CutSuffix(o.Metadata.Name, "-"+name); ok {
			return own, kind
		}
		return o.Metadata.Name, kind
	}
	return name, kind
}
