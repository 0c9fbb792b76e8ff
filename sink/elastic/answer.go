package elastic

import (
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
	return d
}

// errorReply is the body of an answer that is not 2xx.
type errorReply struct {
	Error json.RawMessage `json:"error"`
}

const maxErrorBody = 64 << 10

// judge reads the answer to n documents.
func judge(resp *http.Response, n int) sink.Result {
	if resp.StatusCode/100 != 2 {
		return failed(resp)
	}
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return sink.Result{Err: fmt.Errorf("elasticsearch: the answer broke off: %w; the documents are sent again, which stores none twice", err), Reason: "answer_lost"}
	}
	if !r.Errors {
		return sink.Result{}
	}
	if len(r.Items) != n {
		return sink.Result{Err: fmt.Errorf("elasticsearch: %d answers for %d documents; they are sent again", len(r.Items), n), Reason: "answer_lost"}
	}
	var result sink.Result
	for i, item := range r.Items {
		for _, it := range item { // one: "create"
			judgeItem(&result, i, it)
		}
	}
	return result
}

// judgeItem sorts one document. 409 is a document that an earlier try has stored.
func judgeItem(result *sink.Result, i int, it itemReply) {
	switch {
	case it.Status/100 == 2 || it.Status == http.StatusConflict:
	case it.Status == http.StatusTooManyRequests, it.Status >= 500, blocked(it.Error.Type):
		tryAgain(result, i, reasonOf(it.Status, it.Error.Type), it.Error)
	case it.Status == http.StatusNotFound && it.Error.Type == "index_not_found_exception":
		tryAgain(result, i, "no_index", it.Error)
	default:
		result.Refused = append(result.Refused, sink.Refusal{Index: i, Reason: it.Error.Type, Detail: it.Error.detail()})
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
	result.Why = "elasticsearch: " + e.detail()
	switch reason {
	case "blocked":
		result.Why += "; make room on its disks, or unlock the index (PUT INDEX/_settings {\"index.blocks.read_only_allow_delete\": null})"
	case "no_index":
		result.Why += "; create it, or let it be created (action.auto_create_index)"
	}
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
	case http.StatusTooManyRequests:
		return sink.Result{Err: fmt.Errorf("elasticsearch: 429: it has too much to do: %s", why), Reason: "overloaded"}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return sink.Result{Err: fmt.Errorf("elasticsearch: %d: not available: %s; is the cluster red?", resp.StatusCode, why), Reason: "unavailable"}
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
