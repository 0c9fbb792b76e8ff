package kube

import (
	"path/filepath"
	"regexp"
	"strings"
)

// Place is what kubelet's path of a log says: ROOT/NAMESPACE_POD_UID/CONTAINER/N.log,
// where N counts the container's restarts.
type Place struct{ Namespace, Pod, UID, Container string }

// Glob is the pattern of all logs under kubelet's directory whose namespace the pattern
// matches. No name in it can hold an underscore.
func Glob(root, namespace string) string {
	return filepath.Join(root, namespace+"_*_*", "*", "*.log")
}

// ParsePath takes a log's path apart.
func ParsePath(path string) (p Place, ok bool) {
	dir, file := filepath.Split(path)
	dir, p.Container = filepath.Split(strings.TrimSuffix(dir, "/"))
	names := strings.Split(filepath.Base(dir), "_")
	if len(names) != 3 || file == "" {
		return Place{}, false
	}
	p.Namespace, p.Pod, p.UID = names[0], names[1], names[2]
	return p, p.Namespace != "" && p.Pod != "" && p.UID != "" && p.Container != ""
}

// What controllers append to the names of their pods: five characters of an alphabet
// without vowels, after a hash of the same for a Deployment and a time for a CronJob;
// and a number for a StatefulSet.
var (
	ofDeployment = regexp.MustCompile(`^(.+)-[bcdfghjklmnpqrstvwxz2456789]{5,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	ofController = regexp.MustCompile(`^(.+?)(-\d{8}|-\d{10})?-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	ofSet        = regexp.MustCompile(`^(.+)-\d{1,5}$`)
)

// GuessOwner derives the owner's name from a pod's, for want of better: the lines of a
// service have one project while the API server is away too, not one for each pod.
func (p Place) GuessOwner() string {
	for _, form := range []*regexp.Regexp{ofDeployment, ofController, ofSet} {
		if m := form.FindStringSubmatch(p.Pod); m != nil {
			return m[1]
		}
	}
	return p.Pod
}
