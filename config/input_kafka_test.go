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
		"from topic to topic": {`
inputs: {relay: {kafka: {brokers: ['k1:9092'], topics: ['raw-*']}}}
outputs: {queue: {kafka: {brokers: ['k1:9092'], topic: 'logs-{project}'}}}
`, ""},
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
