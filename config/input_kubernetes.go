package config

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tailwater/tailwater/source/kube"
)

// KubernetesInput reads the logs of a node's pods.
type KubernetesInput struct {
	Node       string   `yaml:"node" unset:"$NODE_NAME, else the host's name" also:"node_name" doc:"Name of the node, whose pods the API server is asked for." example:"'${NODE_NAME}'"`
	Namespaces []string `yaml:"namespaces" unset:"all" min:"1" check:"namespace" also:"namespace" doc:"Namespaces, as globs; one that begins with ! leaves out what it matches." example:"['*', '!kube-system']"`
	Labels     []string `yaml:"labels" check:"podlabel" also:"pod_labels label" doc:"Pod labels that become fields of the documents; dots and slashes in their names become _." example:"[app, app.kubernetes.io/version]"`
	Root       string   `yaml:"root" default:"/var/log/pods" also:"path log_path" doc:"Directory where kubelet keeps the pods' logs."`
	Server     string   `yaml:"server" unset:"inside of a cluster its API server, else none" check:"url" also:"api_server api" doc:"The API server. Without one, documents have what the paths tell." example:"https://10.0.0.1:6443"`
	TokenFile  string   `yaml:"token_file" unset:"the service account's, where server is unset" doc:"File of the bearer token; it is read anew for each request."`
	CA         string   `yaml:"ca" unset:"the service account's, where server is unset; else the system's authorities" also:"ca_file" doc:"File of the authorities that the API server's certificate is held against, in PEM form."`
}

// serviceAccount is where kubelet puts what a pod needs to talk to the API server.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// NodeName is the node whose pods are read.
func (k *KubernetesInput) NodeName() string {
	host, _ := os.Hostname()
	return cmp.Or(k.Node, os.Getenv("NODE_NAME"), host)
}

// API is how the API server is reached; server is "" where there is none.
func (k *KubernetesInput) API() (server, tokenFile, ca string) {
	if k.Server != "" {
		return k.Server, k.TokenFile, k.CA
	}
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" {
		return "", "", ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "https://" + host + ":" + cmp.Or(port, "443"),
		cmp.Or(k.TokenFile, filepath.Join(serviceAccount, "token")), cmp.Or(k.CA, filepath.Join(serviceAccount, "ca.crt"))
}

// globs are the patterns of the logs, and of those among them that are left out.
func (k *KubernetesInput) globs() (files, exclude []string) {
	for _, pattern := range k.Namespaces {
		if out, no := strings.CutPrefix(pattern, "!"); no {
			exclude = append(exclude, filepath.Join(k.Root, out+"_*_*", "*", "*"))
		} else {
			files = append(files, kube.Glob(k.Root, pattern))
		}
	}
	if len(files) == 0 {
		files = []string{kube.Glob(k.Root, "*")}
	}
	return files, exclude
}

// Patterns are the globs of the files that the input reads, and of those that it leaves
// alone.
func (in *Input) Patterns() (files, exclude []string) {
	if in.Kubernetes == nil {
		return in.Files, in.Exclude
	}
	files, exclude = in.Kubernetes.globs()
	return files, append(exclude, in.Exclude...)
}

var legalNamespace = regexp.MustCompile(`^!?[a-z0-9*?\[\]-]{1,63}$`)

func checkNamespace(s string) error {
	if !legalNamespace.MatchString(s) {
		return fmt.Errorf("%q is no glob of namespaces; write a namespace's name, or shop-*, or !kube-system for what is to be left out", s)
	}
	if _, err := path.Match(s, ""); err != nil {
		return fmt.Errorf("%q is no glob: the [ is not closed", s)
	}
	return nil
}

// podFields are the fields that the input gives to its documents by itself.
var podFields = []string{"namespace", "pod", "container", "node", "owner", "owner_kind", "image"}

var legalLabel = regexp.MustCompile(`^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)

func checkPodLabel(s string) error {
	if !legalLabel.MatchString(s) {
		return fmt.Errorf("%q is no key of a label; write one such as app or app.kubernetes.io/name", s)
	}
	field := kube.FieldName(s)
	if slices.Contains(podFields, field) {
		return fmt.Errorf("the label %q would have the name of the field %s, which the documents have anyway; leave it out", s, field)
	}
	return checkFieldName(field)
}

// checkKubernetes refuses constant fields that pods give values to, and, inside of a
// cluster, an output to stdout: what is written there is a pod's log again.
func (c *Config) checkKubernetes(problem func(key, text string)) {
	for _, in := range c.Inputs {
		if in.Kubernetes == nil {
			continue
		}
		taken := slices.Clone(podFields)
		for _, label := range in.Kubernetes.Labels {
			taken = append(taken, kube.FieldName(label))
		}
		for _, f := range in.Fields {
			if slices.Contains(taken, f.Name) {
				problem("inputs."+in.Name+".fields."+f.Name, "each pod gives this field a value of its own; choose another name")
			}
		}
		if os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
			continue
		}
		for _, out := range c.Outputs {
			if out.Stdout != nil && (in.To == nil || slices.Contains(in.To, out.Name)) {
				problem("outputs."+out.Name, fmt.Sprintf("what is written to stdout here is a pod's log, which input %q reads: each line would come back for ever; leave %q out of its to:", in.Name, out.Name))
			}
		}
	}
}
