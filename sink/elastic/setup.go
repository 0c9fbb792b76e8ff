package elastic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The names of what Setup makes. The two that are the users' own, custom and the
// policy, are made once and never touched again.
const (
	mappingsName = "tailwater-mappings"
	settingsName = "tailwater-settings"
	customName   = "tailwater-custom"
	policyName   = "tailwater-logs"
	// rolloverPolicyName is for data streams and aliases, whose indexes are not daily.
	rolloverPolicyName = "tailwater-rollover"

	// templatePriority is above that of the templates that Elasticsearch brings (up to
	// 100; its own for logs-*-* would make data streams of our daily indexes), and
	// below what people give to theirs.
	templatePriority = 150
)

// Setup makes or updates what the output's indexes need: an index template with the
// types of the documents' fields, and, where the cluster has such a thing, a
// lifecycle policy. say is told of each step. output names the template.
func (s *Sink) Setup(ctx context.Context, output string, say func(string)) error {
	v, err := s.version(ctx)
	if err != nil {
		return err
	}
	say("speaking with " + v.String())
	managed, err := s.setupPolicy(ctx, v, say)
	if err != nil {
		return err
	}
	for name, body := range map[string]any{mappingsName: mappings(), settingsName: settings(v, managed)} {
		if err := s.put(ctx, "/_component_template/"+name, map[string]any{"template": body}); err != nil {
			return err
		}
	}
	say("component templates " + mappingsName + " and " + settingsName + ": written")
	if err := s.putOnce(ctx, "/_component_template/"+customName, map[string]any{"template": map[string]any{}}, say,
		"component template "+customName, "it is yours: what stands in it wins over ours"); err != nil {
		return err
	}
	name := "tailwater-" + output
	template := map[string]any{
		"index_patterns": []string{s.index.Pattern()}, "priority": templatePriority,
		"composed_of": []string{settingsName, mappingsName, customName},
		"_meta":       map[string]string{"description": "fields of tailwater's documents; setup writes it anew"},
	}
	own := make(map[string]any) // settings beside those of all outputs
	if managed && s.target != ToIndex {
		own["index.lifecycle.name"] = rolloverPolicyName
	}
	switch s.target {
	case ToDataStream:
		template["data_stream"] = map[string]any{}
	case ToAlias:
		template["index_patterns"] = []string{s.index.Pattern() + "-*"} // not the alias itself
		if managed {
			own["index.lifecycle.rollover_alias"] = s.index.Pattern()
		}
	}
	if len(own) > 0 {
		template["template"] = map[string]any{"settings": own}
	}
	if err = s.put(ctx, "/_index_template/"+name, template); err != nil {
		return err
	}
	say(fmt.Sprintf("index template %s for %s: written (priority %d)", name, strings.Join(template["index_patterns"].([]string), ", "), templatePriority))
	if s.target == ToAlias {
		return s.setupAlias(ctx, say)
	}
	return nil
}

// setupAlias makes the first index behind an alias. An alias whose name differs from
// line to line cannot be made beforehand.
func (s *Sink) setupAlias(ctx context.Context, say func(string)) error {
	alias := s.index.Pattern()
	if strings.Contains(alias, "*") {
		say(fmt.Sprintf("aliases %s: made by you, one for each name: PUT NAME-000001 {\"aliases\": {\"NAME\": {\"is_write_index\": true}}}", alias))
		return nil
	}
	_, err := s.ask(ctx, http.MethodGet, "/_alias/"+alias, nil)
	var refused *statusError
	switch {
	case err == nil:
		say("alias " + alias + ": exists, left as it is")
		return nil
	case !errors.As(err, &refused) || refused.status != http.StatusNotFound:
		return err
	}
	first := alias + "-000001"
	if err := s.put(ctx, "/"+first, map[string]any{"aliases": map[string]any{alias: map[string]any{"is_write_index": true}}}); err != nil {
		return err
	}
	say("alias " + alias + ": created, with its first index " + first)
	return nil
}

// lookForTemplate says what to do when an index of that name has no template: its
// fields then have the types that their first values look like.
func (s *Sink) lookForTemplate(index string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body, err := s.ask(ctx, http.MethodPost, "/_index_template/_simulate_index/"+url.PathEscape(index), nil) // a body would be a template to go with
	if err != nil {
		return // it may not be asked, and that is no reason for alarm
	}
	var is struct {
		Template struct {
			Mappings json.RawMessage `json:"mappings"`
		} `json:"template"`
	}
	if json.Unmarshal(body, &is) == nil && len(is.Template.Mappings) <= len("{}") {
		s.log.Warn("indexes have no template: Elasticsearch guesses the types of their fields from the first values. Run tailwater setup -c FILE, which gives new indexes the right ones",
			"output", s.name, "index", index)
	}
}

// setupPolicy makes the lifecycle policy and tells whether the cluster has it.
func (s *Sink) setupPolicy(ctx context.Context, v version, say func(string)) (bool, error) {
	const own = "indexes are kept until somebody deletes them"
	if v.openSearch {
		say("lifecycle: OpenSearch has its own (ISM), which setup leaves alone; " + own)
		return false, nil
	}
	hot := map[string]any{"set_priority": map[string]int{"priority": 100}}
	name := policyName
	if s.target != ToIndex {
		name = rolloverPolicyName
		hot["rollover"] = map[string]any{"max_age": "1d", "max_primary_shard_size": "50gb"}
	}
	policy := map[string]any{"policy": map[string]any{"phases": map[string]any{
		"hot":  map[string]any{"actions": hot},
		"warm": map[string]any{"min_age": "2d", "actions": map[string]any{"set_priority": map[string]int{"priority": 50}}},
	}}}
	err := s.putOnce(ctx, "/_ilm/policy/"+name, policy, say, "lifecycle policy "+name,
		"it deletes nothing: add a delete phase to say how long logs are kept")
	var refused *statusError
	if errors.As(err, &refused) && (refused.status == http.StatusBadRequest || refused.status == http.StatusMethodNotAllowed) &&
		(strings.Contains(refused.why, "no handler") || strings.Contains(refused.why, "Invalid index name [_ilm]")) { // 8 and 7
		say("lifecycle: this cluster has no lifecycle management (ILM); " + own)
		return false, nil
	}
	return err == nil, err
}

// mappings are the types of the documents' fields. What a line brings beside them is
// a keyword when it is text: whether a first value looks like a date must not decide
// what the later ones may be.
func mappings() map[string]any {
	keyword := map[string]any{"type": "keyword", "ignore_above": 2048}
	of := func(kind string) map[string]any { return map[string]any{"type": kind} }
	properties := map[string]any{
		"@timestamp": map[string]any{"type": "date", "ignore_malformed": false}, "message": of("text"), "offset": of("long"),
		"status_code": of("integer"), "upstream_status": of("integer"),
		"bytes_sent": of("long"), "total_bytes_sent": of("long"), "request_length": of("long"), "upstream_response_length": of("long"),
		"request_time": of("float"), "upstream_time": of("float"), "upstream_connect_time": of("float"), "upstream_header_time": of("float"),
		"remote_addr": of("ip"), "partial": of("boolean"), "truncated": of("boolean"),
	}
	for _, name := range []string{"id", "project", "host", "input", "file", "level", "request_id", "trace_id", "span_id", "method", "path", "query",
		"http_version", "vhost", "referer", "user_agent", "remote_user", "upstream_addr", "upstream_times", "parse_error", "logger", "thread"} {
		properties[name] = keyword
	}
	return map[string]any{"mappings": map[string]any{
		"date_detection": false,
		"dynamic_templates": []any{map[string]any{"text_is_keyword": map[string]any{
			"match_mapping_type": "string", "mapping": keyword}}},
		"properties": properties,
	}}
}

// settings are those of each index. A value that does not fit its field's type is
// left out of the index and the document kept.
func settings(v version, managed bool) map[string]any {
	index := map[string]any{"mapping.ignore_malformed": true, "codec": "best_compression"}
	if managed {
		index["lifecycle.name"] = policyName
	}
	if !v.openSearch && v.atLeast(8, 14) {
		// A line's thousandth field is not searchable, but the line is.
		index["mapping.total_fields.ignore_dynamic_beyond_limit"] = true
	}
	return map[string]any{"settings": map[string]any{"index": index}}
}

// version is what a server says of itself.
type version struct {
	number       string
	major, minor int
	openSearch   bool
}

func (v version) String() string {
	if v.openSearch {
		return "OpenSearch " + v.number
	}
	return "Elasticsearch " + v.number
}

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

func (s *Sink) version(ctx context.Context) (version, error) {
	body, err := s.ask(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return version{}, err
	}
	var banner struct {
		Version struct{ Number, Distribution string }
	}
	if err := json.Unmarshal(body, &banner); err != nil || banner.Version.Number == "" {
		return version{}, fmt.Errorf("elasticsearch: GET / tells no version; is it Elasticsearch that listens at the configured urls?")
	}
	v := version{number: banner.Version.Number, openSearch: banner.Version.Distribution == "opensearch"}
	parts := strings.SplitN(v.number, ".", 3)
	v.major, _ = strconv.Atoi(parts[0])
	if len(parts) > 1 {
		v.minor, _ = strconv.Atoi(parts[1])
	}
	return v, nil
}

// putOnce makes what users change afterwards: when it is there, it stays as it is.
func (s *Sink) putOnce(ctx context.Context, path string, body any, say func(string), what, advice string) error {
	_, err := s.ask(ctx, http.MethodGet, path, nil)
	if err == nil {
		say(what + ": exists, left as it is")
		return nil
	}
	var refused *statusError
	if !errors.As(err, &refused) || refused.status != http.StatusNotFound {
		return err
	}
	if err := s.put(ctx, path, body); err != nil {
		return err
	}
	say(what + ": created; " + advice)
	return nil
}

func (s *Sink) put(ctx context.Context, path string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, http.MethodPut, path, data)
	return err
}

// statusError is an answer that is not 2xx.
type statusError struct {
	what   string
	status int
	why    string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("elasticsearch: %s: %d: %s", e.what, e.status, e.why)
	switch e.status {
	case http.StatusUnauthorized:
		text += "; check api_key, or user and password"
	case http.StatusForbidden:
		text += "; setup needs the cluster privileges manage_index_templates and manage_ilm"
	}
	return text
}

// ask sends one request and returns the body of a 2xx.
func (s *Sink) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var from io.Reader
	if body != nil {
		from = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, from)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.transport.Perform(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &statusError{method + " " + path, resp.StatusCode, explain(answer)}
	}
	return answer, nil
}
