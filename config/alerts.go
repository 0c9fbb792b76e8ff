package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// Alert is a rule: when somebody is to be told.
type Alert struct {
	Name string `yaml:",name" check:"name"`

	When  string   `yaml:"when" required:"yes" also:"condition expr query if" doc:"The condition: terms such as count(status_code >= 500), share(..), rate(..), p99(request_time), max(..), avg(..) or a level's name, compared with numbers and joined by and, or, not." example:"error >= 10 or fatal >= 1"`
	Input []string `yaml:"input" unset:"all but kafka inputs" min:"1" also:"inputs source" doc:"Inputs whose lines are watched. All lines are, also those that keep leaves out. Of a kafka input that is named here, all that it reads but what the same rule has counted where an agent has read it."`
	Where string   `yaml:"where" unset:"every line" also:"filter" doc:"Predicate that narrows the lines." example:"method == GET and path =~ '^/api/'"`
	Per   []string `yaml:"per" unset:"one group" also:"by group_by group" doc:"Fields that make the groups; each group is watched for itself." example:"project, path"`

	Within     time.Duration `yaml:"within" default:"1m" min:"1s" max:"1d" also:"window interval timeframe" doc:"The sliding window of event time that is looked at."`
	For        time.Duration `yaml:"for" default:"0s" max:"1d" doc:"How long the condition must hold before somebody is told."`
	Repeat     time.Duration `yaml:"repeat" default:"1h" min:"1s" also:"repeat_interval realert" doc:"After what time an incident that goes on is told again."`
	Lateness   time.Duration `yaml:"lateness" default:"2m" min:"1s" max:"1d" doc:"How much older than the newest a line may be and still be counted, in its own second."`
	StaleAfter time.Duration `yaml:"stale_after" default:"10m" min:"1s" doc:"Age by the wall clock from which an incident that is found is counted only, and nobody is told: it is over."`
	MaxGroups  int           `yaml:"max_groups" default:"1000" min:"1" max:"1000000" doc:"Groups that are watched at a time; the lines of more are counted as overflow, which is logged and shown."`
	Scope      string        `yaml:"scope" unset:"fleet where an output or an input is Kafka, else host" oneof:"host fleet" doc:"Whose lines are counted together: those of this host, or those of all hosts of the fleet, through Kafka."`

	Notify      []string   `yaml:"notify" unset:"all channels" min:"1" ref:"notify" also:"channels to receivers" doc:"Channels that are told."`
	Labels      []Labelled `yaml:"labels" doc:"Constant labels of the notices, for silences and for Alertmanager." example:"{severity: page}"`
	Annotations []Labelled `yaml:"annotations" doc:"What else a notice is to say, as Go templates with .Rule .Group.FIELD .Host .RequestID .From .To .FromMilli .ToMilli .Numbers." example:"{summary: '{{.Group.project}} is failing: {{.Numbers}}'}"`
	Links       []Labelled `yaml:"links" doc:"Links of a notice, by name, as templates like the annotations." example:"{kibana: 'https://kibana/app/discover#/?_g=(time:(from:''{{.From}}'',to:''{{.To}}''))'}"`
}

// Labelled is a text with a name.
type Labelled struct {
	Name string `yaml:",name" check:"label"`
	Text string `yaml:",scalar" doc:"The text."`
}

// Rule returns the rule as the engine wants it.
func (a *Alert) Rule() alert.RuleConfig {
	return alert.RuleConfig{
		Name: a.Name, Inputs: a.Input, Per: fields(a.Per), When: a.When, Where: a.Where,
		Within: a.Within, For: a.For, Repeat: a.Repeat, Lateness: a.Lateness, StaleAfter: a.StaleAfter,
		MaxGroups: a.MaxGroups, Scope: a.Scope, Notify: a.Notify,
		Labels: texts(a.Labels), Annotations: texts(a.Annotations), Links: texts(a.Links),
	}
}

// fields are the names of fields, several of which may stand in one text: "project, path".
func fields(list []string) (out []string) {
	for _, text := range list {
		for field := range strings.SplitSeq(text, ",") {
			if field = strings.TrimSpace(field); field != "" {
				out = append(out, field)
			}
		}
	}
	return out
}

func texts(all []Labelled) map[string]string {
	out := make(map[string]string, len(all))
	for _, l := range all {
		out[l.Name] = l.Text
	}
	return out
}

// Check compiles the rule.
func (a *Alert) Check(problem func(key, text string)) {
	_, err := alert.Compile(a.Rule())
	tellMistakes(err, a.When, problem)
}

// placed says where in the text the mistake is, and what it is.
func placed(wrong *alert.Error, src string) string {
	switch {
	case wrong.Line > 1 || strings.Contains(strings.TrimSpace(src), "\n") && wrong.Line > 0:
		return fmt.Sprintf("line %d, column %d: %s", wrong.Line, wrong.Col, wrong.Text)
	case wrong.Col > 0:
		return fmt.Sprintf("column %d: %s", wrong.Col, wrong.Text)
	}
	return wrong.Text
}

// parts are the errors that errors.Join has put together.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

func checkLabel(s string) error {
	if !legalField.MatchString(s) {
		return fmt.Errorf("%q is no name; write letters, digits, '_', '.' and '-', a letter first", s)
	}
	return nil
}
