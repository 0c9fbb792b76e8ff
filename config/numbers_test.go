package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/internal/schema"
)

// around is what must stand beside a section's key so that the rest is good.
var around = map[string]string{
	"":                      "%s\ninputs: {n: {files: [/a]}}\noutputs: {n: {discard: {}}}\n",
	"limits":                "limits: {%s}\ninputs: {n: {files: [/a]}}\noutputs: {n: {discard: {}}}\n",
	"inputs.NAME":           "inputs: {n: {files: [/a], %s}}\noutputs: {n: {discard: {}}}\nlimits: {memory: 1TiB}\n",
	"inputs.NAME.multiline": "inputs: {n: {files: [/a], multiline: {%s}}}\noutputs: {n: {discard: {}}}\n",
	"outputs.NAME.file":     "outputs: {n: {file: {path: x, %s}}}\ninputs: {n: {files: [/a]}}\n",
	"outputs.NAME.kafka":    "outputs: {n: {kafka: {brokers: ['k:9092'], topic: x, %s}}}\ninputs: {n: {files: [/a]}}\n",

	"reports.NAME":        "reports: {n: {count: warn, %s}}\ninputs: {n: {files: [/a]}}\noutputs: {n: {discard: {}}}\n",
	"watchdog":            "watchdog: {notify: [h], %s}\nnotify: {h: {webhook: {url: 'http://h'}}}\ninputs: {n: {files: [/a]}}\noutputs: {n: {discard: {}}}\n",
	"inputs.NAME.http":    "inputs: {n: {http: {listen: ':1', %s}}}\noutputs: {n: {discard: {}}}\n",
	"inputs.NAME.otlp":    "inputs: {n: {otlp: {listen: ':1', %s}}}\noutputs: {n: {discard: {}}}\n",
	"inputs.NAME.forward": "inputs: {n: {forward: {listen: ':1', %s}}}\noutputs: {n: {discard: {}}}\n",
	"inputs.NAME.syslog":  "inputs: {n: {syslog: {listen: ':1', %s}}}\noutputs: {n: {discard: {}}}\n",

	"alerts.NAME": "alerts: {n: {when: error >= 1, %s}}\ninputs: {n: {files: [/a]}}\noutputs: {n: {discard: {}}}\n",

	"outputs.NAME.elasticsearch": "outputs: {n: {elasticsearch: {urls: ['http://e:9200'], index: x, %s}}}\ninputs: {n: {files: [/a]}}\n",
}

// TestEveryNumberAtItsBounds: at 0, at 1 and at the largest value each number is
// either good or refused with one problem on its line; its own bounds are good.
func TestEveryNumberAtItsBounds(t *testing.T) {
	tried := 0
	for _, s := range schema.Describe(Config{}) {
		for _, k := range s.Keys {
			values := map[string][]string{
				"size": {"0", "1", "9223372036854775807"}, "duration": {"0s", "1ns", "106751d"}, "whole number": {"0", "1", "9223372036854775807"},
			}[k.Type]
			if values == nil {
				continue
			}
			text, ok := around[s.Path]
			if !ok {
				t.Errorf("say in this test what stands around the keys of %s", s)
				continue
			}
			tried++
			for _, v := range append(values, k.Min, k.Max) {
				if v == "" {
					continue
				}
				_, problems := Parse("f.yml", fmt.Appendf(nil, text, k.Name+": "+v))
				switch {
				case len(problems) > 0 && (v == k.Min || v == k.Max):
					t.Errorf("%s: %v", k.Name, problems)
				case len(problems) > 1, len(problems) == 1 && (problems[0].Line != 1 || !strings.Contains(problems[0].Text, k.Name)):
					t.Errorf("%s: %s: %v", k.Name, v, problems)
				}
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d numbers were found", tried)
	}
}
