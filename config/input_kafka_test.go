package config

import (
	"strings"
	"testing"
)

func TestKafkaInputs(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"right": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['logs-*']}, to: [search]}}
outputs: {search: {elasticsearch: {urls: ['http://e:9200'], index: 'logs-{project}-{date}'}}, screen: {stdout: {}}}
`, ""},
		"the only output needs no to": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['logs-*']}}}
outputs: {search: {elasticsearch: {urls: ['http://e:9200'], index: logs}}}
`, ""},
		"two outputs": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['logs-*']}}}
outputs: {search: {elasticsearch: {urls: ['http://e:9200'], index: logs}}, screen: {stdout: {}}}
`, "exactly one output"},
		"a loop": {`
inputs: {relay: {kafka: {brokers: ['k1:9092', 'k2:9092'], topics: ['logs-*']}}}
outputs: {queue: {kafka: {brokers: ['k2:9092'], topic: 'logs-{project}'}}}
`, "come back for ever"},
		"a loop by one project": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['raw', 'logs-sh[aeiou]p']}}}
outputs: {queue: {kafka: {brokers: ['K1:9092'], topic: 'logs-{project}'}}}
`, "come back for ever"},
		"a loop by an odd end": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['*-raw']}}}
outputs: {queue: {kafka: {brokers: ['k1:9092'], topic: '{project}'}}}
`, "come back for ever"},
		"another end": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['*-raw', 'in-?']}}}
outputs: {queue: {kafka: {brokers: ['k1:9092'], topic: '{project}-indexed'}}}
`, ""},
		"from topic to topic": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['raw-*']}}}
outputs: {queue: {kafka: {brokers: ['k1:9092'], topic: 'logs-{project}'}}}
`, ""},
		"a key that is none": {`
inputs: {app: {files: ['/a']}}
outputs: {queue: {kafka: {brokers: ['k1:9092'], topic: logs, key: request_id}}}
`, "write '{request_id}'"},
		"no glob": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['logs-[']}}}
outputs: {screen: {stdout: {}}}
`, "no glob of topics"},
		"a key of files": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['logs-*']}, start: end}}
outputs: {screen: {stdout: {}}}
`, "start"},
	} {
		_, problems := Parse("t.yaml", []byte(c.text))
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		all := strings.Join(got, "\n")
		if c.want == "" && len(problems) > 0 || !strings.Contains(all, c.want) {
			t.Errorf("%s: %q is not in: %s", name, c.want, all)
		}
	}
}

func TestGlobsThatMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		meet bool
	}{
		{"", "", true}, {"", "*", true}, {"**", "", true}, {"a", "", false}, {"a", "?", true}, {"a*", "*b", true}, {"a*c", "b*", false},
		{"a?c", "a*c", true}, {"a?c", "ac*", true}, {"a?c", "ad*b", false}, {"*x*y", "y*x", false}, {"*x*y*", "y*x", true}, {"logs-*", "logs", false},
		{strings.Repeat("*a", 60) + "b", strings.Repeat("*a", 60), false},
	} {
		if got := meet([]rune(c.a), []rune(c.b)); got != c.meet {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
		if got := meet([]rune(c.b), []rune(c.a)); got != c.meet {
			t.Errorf("%q and %q: %v", c.b, c.a, got)
		}
	}
}
