package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const pods = `
inputs: {pods: {kubernetes: {}, keep: [error]}}
outputs: {o: {discard: {}}}
`

func TestAKubernetesInputNeedsNothing(t *testing.T) {
	t.Setenv("NODE_NAME", "node-a")
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "6443")
	k := load(t, pods).Inputs[0].Kubernetes
	server, token, ca := k.API()
	if k.NodeName() != "node-a" || server != "https://[fd00::1]:6443" || token != serviceAccount+"/token" || ca != serviceAccount+"/ca.crt" {
		t.Error(k.NodeName(), server, token, ca)
	}
	files, exclude := load(t, pods).Inputs[0].Patterns()
	if !reflect.DeepEqual(files, []string{"/var/log/pods/*_*_*/*/*.log"}) || exclude != nil {
		t.Error(files, exclude)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if server, _, _ := k.API(); server != "" {
		t.Errorf("outside of a cluster it asks %s", server)
	}
}

func TestNamespacesBecomeGlobs(t *testing.T) {
	in := load(t, strings.Replace(pods, "kubernetes: {}", "kubernetes: {root: /x, namespaces: ['shop-*', pay, '!shop-test']}, exclude: ['*.bak']", 1)).Inputs[0]
	files, exclude := in.Patterns()
	if !reflect.DeepEqual(files, []string{"/x/shop-*_*_*/*/*.log", "/x/pay_*_*/*/*.log"}) || !reflect.DeepEqual(exclude, []string{"/x/shop-test_*_*/*/*", "*.bak"}) {
		t.Error(files, exclude)
	}
}

func TestWhatAKubernetesInputRefuses(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	for text, want := range map[string]string{
		"kubernetes: {labels: [host]}":                         `"host" is a field of tailwater's own`,
		"kubernetes: {labels: [pod]}":                          "would have the name of the field pod",
		"kubernetes: {labels: ['a b']}":                        "is no key of a label",
		"kubernetes: {namespaces: [A_b]}":                      "is no glob of namespaces",
		"kubernetes: {server: 'k8s:6443'}":                     "is not a URL",
		"kubernetes: {labels: [app]}, fields: {app: x}":        "a value of its own",
		"kubernetes: {}, fields: {node: x}":                    "a value of its own",
		"kubernetes: {}, to: [screen]":                         "come back for ever",
		"kubernetes: {node_name: x}":                           `unknown key "node_name"`,
		"kubernetes: {}, files: [/x]":                          "keep one",
		"kubernetes: {labels: [app.kubernetes.io/name, tier]}": "",
	} {
		_, problems := Parse("t.yaml", []byte("inputs: {pods: {to: [o], "+text+"}}\noutputs: {o: {discard: {}}, screen: {stdout: {}}}\n"))
		if strings.Contains(text, "screen") {
			_, problems = Parse("t.yaml", []byte("inputs: {pods: {"+text+"}}\noutputs: {o: {discard: {}}, screen: {stdout: {}}}\n"))
		}
		var said []string
		for _, p := range problems {
			said = append(said, p.String())
		}
		if all := strings.Join(said, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
			t.Errorf("%s: %q, want %q", text, all, want)
		}
	}
}

func TestAnnotationsChangeAnInput(t *testing.T) {
	in := load(t, pods).Inputs[0]
	for _, c := range []struct {
		a    Annotations
		want func(*Input) bool
	}{
		{Annotations{}, func(in *Input) bool { return reflect.DeepEqual(in.Keep, []string{"error"}) && in.Format.Name == "auto" }},
		{Annotations{Format: "json"}, func(in *Input) bool { return in.Format.Name == "json" }},
		{Annotations{Format: `$remote_addr "it's: #1" {$request}`}, func(in *Input) bool { return in.Format.Nginx.Format == `$remote_addr "it's: #1" {$request}` }},
		{Annotations{Format: `{regex: '(?P<level>\w+) (?P<message>.*)'}`}, func(in *Input) bool { return in.Format.Regex != "" }},
		{Annotations{Multiline: "none"}, func(in *Input) bool { return in.Multiline.Mode == "none" }},
		{Annotations{Multiline: `{starts_with: '^\d{4}-'}`}, func(in *Input) bool { return in.Multiline.StartsWith == `^\d{4}-` }},
		{Annotations{Keep: "warn, error"}, func(in *Input) bool { return reflect.DeepEqual(in.Keep, []string{"warn", "error"}) }},
		{Annotations{Keep: "[fatal]"}, func(in *Input) bool { return reflect.DeepEqual(in.Keep, []string{"fatal"}) }},
	} {
		got, err := in.Annotated(c.a)
		if err != nil || !c.want(got) {
			t.Errorf("%+v: %v, %+v", c.a, err, got)
		}
	}
	if in.Format.Name != "auto" || len(in.Keep) != 1 {
		t.Error("the input itself has changed")
	}
}

// TestAnnotationsReachNothingOfTheAgents: whoever may create a pod writes them.
func TestAnnotationsReachNothingOfTheAgents(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOKEN", "hunter2")
	in := load(t, pods).Inputs[0]
	for _, a := range []Annotations{
		{Format: "${file:" + secret + "}"}, {Format: "${TOKEN}"}, {Format: "{conf: " + secret + "}"}, {Format: "{nginx: {conf: /dev/zero}}"},
		{Format: "{cri: {conf: /dev/zero}}"}, {Multiline: "${TOKEN}"}, {Keep: "${TOKEN}"}, {Format: "{nginx: *x}"}, {Format: "{nginx: &a {<<: *a}}"},
		{Format: "{regex: '('}"}, {Format: "no such"}, {Multiline: "{starts_with: '('}"}, {Keep: "loud"}, {Format: strings.Repeat("{cri: ", 100)}, {Format: "\x00"}, {Format: "json\nkeep: [warn]"},
	} {
		got, err := in.Annotated(a)
		if err == nil && !strings.Contains(a.Format, "$") {
			t.Errorf("%+v is taken: %+v", a, got.Format)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", a, err)
		}
		if err == nil && got.Format.Nginx != nil && strings.Contains(got.Format.Nginx.Format, "hunter2") {
			t.Errorf("%+v is expanded", a)
		}
	}
}

func FuzzAnnotated(f *testing.F) {
	f.Add("json", "none", "warn")
	f.Add(`$remote_addr "$request"`, "{starts_with: '^x'}", "[warn, error]")
	f.Add("{regex: '(?P<message>.*)'}", "", "")
	_, problems := Parse("t.yaml", []byte(pods))
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	c, _ := Parse("t.yaml", []byte(pods))
	f.Fuzz(func(t *testing.T, format, multiline, keep string) {
		in, err := c.Inputs[0].Annotated(Annotations{format, multiline, keep})
		if in == nil {
			t.Fatal("no input")
		}
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Error("an error that says nothing")
		}
		if in.Format.Conf != "" || in.Format.Nginx != nil && in.Format.Nginx.Conf != "" {
			t.Errorf("a file is named: %+v", in.Format)
		}
	})
}
