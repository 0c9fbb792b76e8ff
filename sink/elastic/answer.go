package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tailwater/tailwater/sink"
)

// reply is what of a bulk answer is asked for (filter_path) and read.
type reply struct {
	Errors bool                   `json:"errors"`
	Items  []map[string]itemReply `json:"items"`
}

type itemReply struct {
	Status int       `json:"status"`
	Error  itemError `json:"error"`
}

type itemError struct {
	Type   string     `json:"type"`
	Reason string     `json:"reason"`
	Cause  *itemError `json:"caused_by"`
}

// detail is the reason with that of its cause, which names the field and the value.
func (e itemError) detail() string {
	d := e.Type + ": " + e.Reason
	if e.Cause != nil && e.Cause.Reason != "" {
		d += " (" + e.Cause.Reason + ")"
	}
	return strings.Join(strings.Fields(d), " ") // where it quotes a document there are several lines
}

// errorReply is the body of an answer that is not 2xx.
type errorReply struct {
	Error json.RawMessage `json:"error"`
}

const (
	maxErrorBody = 64 << 10
	maxAnswer    = 64 << 20
)

// judge reads the answer to n documents, into buf.
func judge(resp *http.Response, n int, buf *bytes.Buffer) sink.Result {
	if resp.StatusCode/100 != 2 {
		return failed(resp)
	}
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return lost("the answer broke off: %w", err)
	}
	if created(buf.Bytes(), n) {
		return sink.Result{}
	}
	var r reply
	if err := json.Unmarshal(buf.Bytes(), &r); err != nil {
		return lost("the answer is no bulk answer (%w): %.100q", err, buf.Bytes())
	}
	if len(r.Items) != n {
		return lost("%d answers for %d documents: %.100q", len(r.Items), n, buf.Bytes())
	}
	var result sink.Result
	for i, item := range r.Items {
		it, known := item["create"]
		if !known || it.Status == 0 {
			return lost("document %d of %d has no answer", i+1, n)
		}
		judgeItem(&result, i, it)
	}
	return result
}

// lost is an answer that says nothing of the documents.
func lost(format string, args ...any) sink.Result {
	return sink.Result{Err: fmt.Errorf("elasticsearch: "+format+"; the documents are sent again, which stores none twice", args...), Reason: "answer_lost"}
}

// What an answer looks like whose documents are all new, and nearly every answer is.
var (
	createdHead = []byte(`{"errors":false,"items":[`)
	createdItem = []byte(`{"create":{"status":201}}`)
	createdTail = []byte(`]}`)
)

// created reports whether the answer says of n documents that they were created, and
// nothing else: seen by comparing, which costs next to nothing.
func created(answer []byte, n int) bool {
	rest, ok := bytes.CutPrefix(answer, createdHead)
	if !ok || len(rest) != n*(len(createdItem)+1)-1+len(createdTail) {
		return false
	}
	for i := range n {
		if i > 0 {
			if rest[0] != ',' {
				return false
			}
			rest = rest[1:]
		}
		if !bytes.HasPrefix(rest, createdItem) {
			return false
		}
		rest = rest[len(createdItem):]
	}
	return bytes.Equal(rest, createdTail)
}

// judgeItem sorts one document. 409 is a document that an earlier try has stored.
func judgeItem(result *sink.Result, i int, it itemReply) {
	switch {
	case it.Status/100 == 2 || it.Status == http.StatusConflict:
	case it.Status == http.StatusTooManyRequests, it.Status >= 500, blocked(it.Error.Type):
		tryAgain(result, i, reasonOf(it.Status, it.Error.Type), it.Error)
	case it.Status == http.StatusNotFound && it.Error.Type == "index_not_found_exception":
		tryAgain(result, i, "no_index", it.Error)
	case it.Status == http.StatusForbidden || it.Status == http.StatusUnauthorized:
		tryAgain(result, i, "forbidden", it.Error)
	default:
		reason := it.Error.Type
		if reason == "" {
			reason = fmt.Sprint("status_", it.Status)
		}
		result.Refused = append(result.Refused, sink.Refusal{Index: i, Reason: reason, Detail: it.Error.detail()})
	}
}

// tryAgain notes a document that will be taken later, and in words why not now: those
// of the first such document, as there is mostly one reason for all.
func tryAgain(result *sink.Result, i int, reason string, e itemError) {
	result.Retry = append(result.Retry, i)
	if result.Why != "" {
		return
	}
	result.Reason = reason
	result.Why = "elasticsearch: " + e.detail() + advice(reason, e)
}

// advice is what to do about it.
func advice(reason string, e itemError) string {
	switch {
	case reason == "blocked":
		return "; make room on its disks, or unlock the index (PUT INDEX/_settings {\"index.blocks.read_only_allow_delete\": null})"
	case reason == "no_index" && strings.Contains(e.Reason, "require_alias"):
		return "; the alias does not exist: run tailwater setup, or make it"
	case reason == "no_index":
		return "; create it, or let it be created (action.auto_create_index)"
	case reason == "forbidden":
		return "; these credentials may not write there: give the role create_doc and auto_configure on the indexes"
	case e.Type == "unavailable_shards_exception", e.Type == "no_shard_available_action_exception":
		return "; the index is red: GET _cluster/allocation/explain says why its primary shard is nowhere"
	}
	return ""
}

// blocked are errors of the index and not of the document: they end when somebody
// makes room or unlocks it.
func blocked(kind string) bool { return kind == "cluster_block_exception" }

func reasonOf(status int, kind string) string {
	switch {
	case blocked(kind):
		return "blocked"
	case status == http.StatusTooManyRequests:
		return "overloaded"
	}
	return "unavailable"
}

// errTooLarge is a request that the server does not take for its size.
var errTooLarge = errors.New("elasticsearch: request too large")

// failed is an answer to the request as a whole, in words for the person on call.
func failed(resp *http.Response) sink.Result {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	why := explain(body)
	switch resp.StatusCode {
	case http.StatusRequestEntityTooLarge:
		return sink.Result{Err: errTooLarge, Reason: "too_large"}
	case http.StatusUnauthorized:
		return sink.Result{Err: fmt.Errorf("elasticsearch: 401: it does not know these credentials: %s; check api_key, or user and password", why), Reason: "unauthorized"}
	case http.StatusForbidden:
		return sink.Result{Err: fmt.Errorf("elasticsearch: 403: these credentials may not write: %s; give the role create_doc and auto_configure on the indexes", why), Reason: "forbidden"}
	case http.StatusNotFound:
		return sink.Result{Err: fmt.Errorf("elasticsearch: 404: nothing answers to _bulk there: %s; are the urls those of Elasticsearch, with the right path?", why), Reason: "failed"}
	case http.StatusTooManyRequests:
		return sink.Result{Err: fmt.Errorf("elasticsearch: 429: it has too much to do: %s; less is sent at once, and if that lasts it needs more nodes", why), Reason: "overloaded"}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return sink.Result{Err: fmt.Errorf("elasticsearch: %d: not available: %s; GET _cluster/health says whether it has a master and is red, and GET _cluster/allocation/explain why", resp.StatusCode, why), Reason: "unavailable"}
	}
	return sink.Result{Err: fmt.Errorf("elasticsearch: %d: %s", resp.StatusCode, why), Reason: "failed"}
}

// explain takes the server's own words out of an error body.
func explain(body []byte) string {
	var outer errorReply
	var inner itemError
	if json.Unmarshal(body, &outer) == nil && json.Unmarshal(outer.Error, &inner) == nil && inner.Type != "" {
		return inner.detail()
	}
	text := strings.Join(strings.Fields(string(body)), " ")
	return text[:min(len(text), 200)]
}
