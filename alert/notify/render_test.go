package notify

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

func sampleItem(kind alert.Kind, text string) Item {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Item{
		Kind: kind, At: began, Numbers: []string{"error = 12 (limit: >= 10)"},
		Incident: alert.Incident{
			ID: "0123456789", Rule: "app-errors", Group: []record.KeyValue{{Key: "project", Value: "pay"}}, Began: began, Last: began,
			Within: time.Minute, Hosts: []alert.Tally{{Name: "web-1", Lines: 12}}, Files: []alert.Tally{{Name: "/var/log/pay.log", Lines: 12}},
			Samples: []alert.Sample{{Time: began, Text: text, RequestID: "r-1", Host: "web-1", File: "/var/log/pay.log"}},
		},
		Links: map[string]string{"kibana": "https://kibana/?q=(a b)"},
	}
}

func TestNoticeSaysWhatThePersonOnCallNeeds(t *testing.T) {
	m := Message{Host: "web-1", Items: []Item{sampleItem(alert.Opened, "ERROR no more connections")}}
	for _, text := range []string{m.Plain(10_000), m.Markdown(10_000)} {
		for _, want := range []string{"FIRING", "app-errors", "project=pay", "error = 12", "within 1m", "web-1 (12)", "/var/log/pay.log", "ERROR no more connections", "request_id=r-1", "https://kibana/", "0123456789"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	if title := m.Title(); title != "[FIRING] app-errors project=pay: error = 12 (limit: >= 10) within 1m" {
		t.Error(title)
	}
	m.Items = append(m.Items, sampleItem(alert.Resolved, ""))
	if title := m.Title(); title != "[1 firing, 1 resolved] app-errors" {
		t.Error(title)
	}
}

func TestHostileLineMakesNoMarkdown(t *testing.T) {
	m := Message{Items: []Item{sampleItem(alert.Opened, "`![x](http://evil/x.png)` <font>\n# heading\r\n[a](http://evil)\x00\x1b[31m")}}
	text := m.Markdown(10_000)
	line := ""
	for l := range strings.SplitSeq(text, "\n") {
		if strings.Contains(l, "evil") {
			line += l
		}
		if strings.HasPrefix(l, "# heading") {
			t.Errorf("a heading: %q", l)
		}
	}
	if strings.Count(line, "`") != 2 || !strings.HasSuffix(line, "`") || strings.ContainsAny(text, "\x00\x1b\r") {
		t.Errorf("%q", line)
	}
}

func TestManyNoticesKeepTheLimit(t *testing.T) {
	m := Message{Texts: []string{strings.Repeat("é", 3000)}}
	for range 200 {
		m.Items = append(m.Items, sampleItem(alert.Opened, strings.Repeat("界", 170)))
	}
	for _, limit := range []int{500, 4000, 12_000, 64_000} {
		for _, text := range []string{m.Plain(limit), m.Markdown(limit)} {
			if len(text) > limit || !utf8.ValidString(text) || !strings.Contains(text, "more; see tailwater alerts") && limit < 20_000 {
				t.Errorf("limit %d: %d bytes, valid %v", limit, len(text), utf8.ValidString(text))
			}
		}
	}
}

func TestMatchers(t *testing.T) {
	labels := map[string]string{"rule": "slow", "project": "pay"}
	for text, want := range map[string]bool{
		"rule=slow": true, "rule=fast": false, "rule!=slow": false, "rule=~s.*": true, "rule=~s": false, "project!~shop|pay": false,
		"team=": true, "team!=x": true, `rule="slow"`: true,
	} {
		m, err := ParseMatcher(text)
		if err != nil || m.matches(labels) != want {
			t.Errorf("%s: %v, %v", text, m.matches(labels), err)
		}
	}
	for _, text := range []string{"", "rule", "=x", "rule=~(", "rule!x"} {
		if _, err := ParseMatcher(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("a`b", "[x](y)", 100)
	f.Add("\xff\xfe\n\n", "", 0)
	f.Add(strings.Repeat("界", 100), "é", 333)
	f.Fuzz(func(t *testing.T, text, group string, limit int) {
		it := sampleItem(alert.Opened, strings.ToValidUTF8(text, "\uFFFD"))
		it.Incident.Group[0].Value = strings.ToValidUTF8(group, "\uFFFD")
		m := Message{Items: []Item{it, it}, Texts: []string{strings.ToValidUTF8(text, "\uFFFD")}}
		limit = min(max(limit, 500), 20_000)
		for _, s := range []string{m.Plain(limit), m.Markdown(limit), m.Title()} {
			if len(s) > limit+200 || !utf8.ValidString(s) {
				t.Errorf("limit %d: %d bytes: %q", limit, len(s), s)
			}
		}
	})
}
