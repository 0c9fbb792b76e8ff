package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The Prometheus operator whose definition of a PodMonitor the manifests are held against.
const (
	operator    = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
)

// podMonitors is the operator's own CustomResourceDefinition, from the module proxy.
func podMonitors(t *testing.T) object {
	t.Helper()
	out, err := run(t, "go", "mod", "download", "-json", operator)
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(must(t, out, err), &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != operatorSum {
		t.Fatalf("%s has the sum %s, want %s", operator, module.Sum, operatorSum)
	}
	data, err := os.ReadFile(filepath.Join(module.Dir, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"))
	return one(t, parse(t, must(t, data, err)), "CustomResourceDefinition")
}

// TestPodMonitorsAreWhatTheOperatorTakes, and what they select is there.
func TestPodMonitorsAreWhatTheOperatorTakes(t *testing.T) {
	definition := podMonitors(t)
	schema, _ := definition.at("spec", "versions", 0, "schema", "openAPIV3Schema").(map[string]any)
	monitors := 0
	for from, data := range rendered(t) {
		all := parse(t, data)
		for _, o := range all {
			if o.kind() != "PodMonitor" {
				continue
			}
			monitors++
			if got := fmt.Sprint(o["apiVersion"]); got != fmt.Sprint(definition.at("spec", "group"), "/", definition.at("spec", "versions", 0, "name")) {
				t.Errorf("%s: a PodMonitor of %s", from, got)
			}
			for _, p := range against(schema, "", map[string]any(o)) {
				t.Errorf("%s: %s", from, p)
			}
			agent := one(t, all, "DaemonSet")
			labels, _ := agent.at("spec", "template", "metadata", "labels").(map[string]any)
			for key, value := range o.at("spec", "selector", "matchLabels").(map[string]any) {
				if labels[key] != value {
					t.Errorf("%s: it selects pods with %s=%v; the agents have %v", from, key, value, labels[key])
				}
			}
			ports, _ := agent.at("spec", "template", "spec", "containers", 0, "ports").([]any)
			if port := o.at("spec", "podMetricsEndpoints", 0, "port"); !slices.ContainsFunc(ports, func(p any) bool { return object(p.(map[string]any))["name"] == port }) {
				t.Errorf("%s: it scrapes the port %v; the agents have %v", from, port, ports)
			}
		}
	}
	if monitors < 2 {
		t.Errorf("only %d PodMonitors", monitors)
	}
	// A comparison that lets everything pass would make the above worthless.
	for _, wrong := range []string{`{spec: {}}`, `{spec: {selector: {}, podMetricsEndpoint: []}}`, `{spec: {selector: {}, podMetricsEndpoints: [{interval: 30}]}}`,
		`{spec: {selector: {}, podMetricsEndpoints: [{interval: half a minute}]}}`, `{spec: {selector: {}, podMetricsEndpoints: [{relabelings: [{action: rename}]}]}}`} {
		if len(against(schema, "", map[string]any(parse(t, []byte(wrong))[0]))) == 0 {
			t.Errorf("%s passes", wrong)
		}
	}
}

// against says where a value is not what a schema of Kubernetes' kind describes. An
// unknown key is wrong.
func against(schema map[string]any, path string, value any) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, strings.TrimPrefix(path, ".")+": "+fmt.Sprintf(format, args...))
	}
	if _, number := value.(int); schema["x-kubernetes-int-or-string"] == true && number {
		return nil
	}
	if allowed, ok := schema["enum"].([]any); ok && !slices.Contains(allowed, value) {
		bad("%v is none of %v", value, allowed)
	}
	switch v := value.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		more, _ := schema["additionalProperties"].(map[string]any)
		if schema["type"] != "object" {
			bad("an object, want %v", schema["type"])
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			if _, there := v[key.(string)]; !there {
				bad("%v is missing", key)
			}
		}
		for key, inner := range v {
			s, known := properties[key].(map[string]any)
			if !known {
				s = more
			}
			switch {
			case s != nil:
				problems = append(problems, against(s, path+"."+key, inner)...)
			case path != ".metadata":
				bad("%s is unknown", key)
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		if schema["type"] != "array" {
			bad("a list, want %v", schema["type"])
		}
		for i, inner := range v {
			problems = append(problems, against(items, fmt.Sprintf("%s[%d]", path, i), inner)...)
		}
	case string:
		if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
			bad("%q does not match %s", v, pattern)
		}
		if schema["type"] != "string" && schema["x-kubernetes-int-or-string"] != true {
			bad("%q, want %v", v, schema["type"])
		}
	default:
		if want := map[reflect.Kind]string{reflect.Bool: "boolean", reflect.Int: "integer", reflect.Float64: "number"}[reflect.ValueOf(value).Kind()]; schema["type"] != want {
			bad("%v, want %v", value, schema["type"])
		}
	}
	return problems
}
