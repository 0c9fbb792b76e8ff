package listen

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	collogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// OTLP listens for OpenTelemetry's logs over HTTP: POST /v1/logs, protobuf and JSON.
func OTLP(cfg Config, addr string) (Server, error) {
	w := newWeb(cfg)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs", w.takeOTLP)
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "ok") })
	return w, w.listen(addr, mux)
}

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// takeOTLP answers POST /v1/logs. Errors are google.rpc.Status in the request's own
// encoding, as the protocol wants it.
func (w *web) takeOTLP(rw http.ResponseWriter, r *http.Request) {
	kind := protobufType
	switch kindOf(r.Header.Get("Content-Type")) {
	case jsonValue:
		kind = jsonType
	case unknown:
	default:
		http.Error(rw, "send application/x-protobuf or application/json", http.StatusUnsupportedMediaType)
		return
	}
	rejected, why, err := w.receiveOTLP(r, kind)
	var refused *refusal
	switch {
	case errors.As(err, &refused):
	case err != nil:
		refused = &refusal{http.StatusBadRequest, "refused", err.Error(), 0}
	}
	if refused != nil {
		w.refuseOTLP(rw, refused, kind)
		return
	}
	w.answers.add("ok")
	rw.Header().Set("Content-Type", kind)
	answer := new(collogs.ExportLogsServiceResponse)
	if rejected > 0 {
		answer.PartialSuccess = &collogs.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: why}
	}
	if kind == protobufType {
		data, _ := proto.Marshal(answer) // nothing in it can be invalid
		rw.Write(data)
		return
	}
	if rejected == 0 {
		rw.Write([]byte("{}"))
		return
	}
	json.NewEncoder(rw).Encode(map[string]any{"partialSuccess": map[string]any{"rejectedLogRecords": strconv.FormatInt(rejected, 10), "errorMessage": why}})
}

func (w *web) refuseOTLP(rw http.ResponseWriter, r *refusal, kind string) {
	w.answers.add(r.name)
	if r.after > 0 {
		rw.Header().Set("Retry-After", strconv.Itoa(r.after))
	}
	if r.status == http.StatusUnauthorized {
		rw.Header().Set("WWW-Authenticate", `Bearer realm="tailwater"`)
	}
	rw.Header().Set("Content-Type", kind)
	rw.WriteHeader(r.status)
	if kind == jsonType {
		json.NewEncoder(rw).Encode(map[string]any{"code": rpcCode(r.status), "message": r.text})
		return
	}
	body := protowire.AppendTag(nil, 1, protowire.VarintType)
	body = protowire.AppendVarint(body, uint64(rpcCode(r.status)))
	body = protowire.AppendTag(body, 2, protowire.BytesType)
	rw.Write(protowire.AppendString(body, r.text))
}

// rpcCode is gRPC's word for a status.
func rpcCode(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return 16
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return 8
	case http.StatusServiceUnavailable:
		return 14
	}
	return 3
}

// receiveOTLP takes a request into the spool, and says how many of its records were not
// taken, and why.
func (w *web) receiveOTLP(r *http.Request, kind string) (rejected int64, why string, err error) {
	if !w.allowed(r) {
		return 0, "", errToken
	}
	key, err := requestKey(r, "otlp")
	if err != nil {
		return 0, "", err
	}
	body := spool.Begin(buffer(), spool.Records, "", key, 0)
	held, err := w.readBody(r, body)
	defer func() { w.cfg.Memory.give(held); giveBuffer(body.Buf) }()
	if err != nil {
		return 0, "", err
	}
	request := new(collogs.ExportLogsServiceRequest)
	if kind == jsonType {
		err = decodeOTLPJSON(body.Payload(), request)
	} else {
		err = proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 200}.Unmarshal(body.Payload(), request)
	}
	if err != nil {
		return 0, "", fmt.Errorf("the body is no ExportLogsServiceRequest: %w; nothing of it was taken", err)
	}
	f := spool.Begin(buffer(), spool.Records, w.cfg.Project, key, time.Now().UnixMilli())
	defer func() { giveBuffer(f.Buf) }()
	f.Buf, rejected = appendOTLP(f.Buf, request, w.cfg.MaxLine)
	if rejected > 0 {
		w.cfg.Drop("too_large", rejected)
		why = fmt.Sprintf("records of more than max_line, %d bytes, were not taken", w.cfg.MaxLine)
	}
	if len(f.Payload()) == 0 {
		return rejected, why, nil
	}
	if err := w.cfg.Spool.Append(f, true); err != nil && !errors.Is(err, spool.ErrKnown) {
		return 0, "", spoolError(w.cfg, err)
	}
	return rejected, why, nil
}

// appendOTLP appends the request's records. Attributes stand in the order of their
// weight, as of two with one name the later wins: resource, scope, record.
func appendOTLP(dst []byte, request *collogs.ExportLogsServiceRequest, maxLine int) (out []byte, rejected int64) {
	var shared, text []byte
	for _, of := range request.GetResourceLogs() {
		var project []byte
		for _, kv := range of.GetResource().GetAttributes() {
			if kv.GetKey() == "service.name" {
				project = []byte(kv.GetValue().GetStringValue())
			}
		}
		if checkProject(string(project)) != nil {
			project = nil
		}
		for _, in := range of.GetScopeLogs() {
			shared = appendAttributes(shared[:0], of.GetResource().GetAttributes(), true)
			shared = appendNonEmpty(shared, "scope.name", in.GetScope().GetName())
			shared = appendNonEmpty(shared, "scope.version", in.GetScope().GetVersion())
			shared = appendAttributes(shared, in.GetScope().GetAttributes(), true)
			for _, l := range in.GetLogRecords() {
				r := otlpRecord(l)
				text = appendOTLPText(append(text[:0], shared...), l)
				text[0] = '{' // in the place of the first comma, or before nothing
				if r.Text, r.Project = text, project; len(text) > maxLine {
					rejected++
					continue
				}
				dst = spool.AppendRecord(dst, &r)
			}
		}
	}
	return dst, rejected
}

// otlpRecord is what a log record says beside its text.
func otlpRecord(l *logs.LogRecord) spool.Record {
	r := spool.Record{Flags: spool.IsJSON}
	nanos := l.GetTimeUnixNano()
	if nanos == 0 {
		nanos = l.GetObservedTimeUnixNano()
	}
	if nanos <= math.MaxInt64 {
		r.Time = int64(nanos / 1e6)
	}
	if n := l.GetSeverityNumber(); n >= 1 && n <= 24 {
		r.Level = [...]record.Level{record.LevelDebug, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal}[(n-1)/4]
	}
	if id := l.GetTraceId(); len(id) > 0 {
		r.Fields = spool.AppendField(nil, "trace_id", hex.AppendEncode(nil, id), record.Text)
	}
	return r
}

// appendOTLPText appends the members of a log record as JSON, each with a comma before it,
// and the end of the object.
func appendOTLPText(dst []byte, l *logs.LogRecord) []byte {
	dst = appendAttributes(dst, l.GetAttributes(), l.GetBody().GetValue() != nil)
	dst = appendNonEmpty(dst, "event_name", l.GetEventName())
	if text := l.GetSeverityText(); text != "" {
		dst = appendNonEmpty(dst, "severity_text", text)
	}
	if id := l.GetSpanId(); len(id) > 0 {
		dst = appendNonEmpty(dst, "span_id", hex.EncodeToString(id))
	}
	if id := l.GetTraceId(); len(id) > 0 {
		dst = appendNonEmpty(dst, "trace_id", hex.EncodeToString(id))
	}
	switch body := l.GetBody().GetValue().(type) {
	case nil:
	case *common.AnyValue_KvlistValue:
		dst = appendAttributes(dst, body.KvlistValue.GetValues(), false)
	case *common.AnyValue_StringValue:
		dst = appendMember(dst, "message", appendQuoted(nil, []byte(body.StringValue)))
	default:
		dst = appendMember(dst, "message", appendQuoted(nil, appendAny(nil, l.GetBody(), 0)))
	}
	if len(dst) == 0 {
		dst = append(dst, ',')
	}
	return append(dst, '}')
}

// appendMember appends ,"key":value.
func appendMember(dst []byte, key string, value []byte) []byte {
	dst = append(dst, ',')
	dst = appendQuoted(dst, []byte(key))
	dst = append(dst, ':')
	return append(dst, value...)
}

func appendNonEmpty(dst []byte, key, text string) []byte {
	if text == "" {
		return dst
	}
	dst = append(dst, ',')
	dst = appendQuoted(dst, []byte(key))
	dst = append(dst, ':')
	return appendQuoted(dst, []byte(text))
}

// appendAttributes appends attributes as members. Beside a body, one that is called
// message gets another name, or it would be taken for that.
func appendAttributes(dst []byte, all []*common.KeyValue, beside bool) []byte {
	for _, kv := range all {
		key := kv.GetKey()
		if beside && key == "message" {
			key = "attributes.message"
		}
		dst = append(dst, ',')
		dst = appendQuoted(dst, []byte(key))
		dst = append(dst, ':')
		dst = appendAny(dst, kv.GetValue(), 0)
	}
	return dst
}

// appendAny appends a value as JSON. The protobuf library has bounded the nesting.
func appendAny(dst []byte, v *common.AnyValue, depth int) []byte {
	if depth > maxPackDepth {
		return append(dst, "null"...)
	}
	switch x := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return appendQuoted(dst, []byte(x.StringValue))
	case *common.AnyValue_BoolValue:
		return strconv.AppendBool(dst, x.BoolValue)
	case *common.AnyValue_IntValue:
		return strconv.AppendInt(dst, x.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		return appendFloat(dst, x.DoubleValue)
	case *common.AnyValue_BytesValue:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, x.BytesValue)
		return append(dst, '"')
	case *common.AnyValue_ArrayValue:
		dst = append(dst, '[')
		for i, e := range x.ArrayValue.GetValues() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendAny(dst, e, depth+1)
		}
		return append(dst, ']')
	case *common.AnyValue_KvlistValue:
		dst = append(dst, '{')
		for i, kv := range x.KvlistValue.GetValues() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, []byte(kv.GetKey()))
			dst = append(dst, ':')
			dst = appendAny(dst, kv.GetValue(), depth+1)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// flexible reads a number that may stand in quotes, as JSON's mapping of protobuf has
// 64-bit ones.
type flexible string

func (n *flexible) UnmarshalJSON(b []byte) error {
	*n = flexible(strings.Trim(string(b), `"`))
	return nil
}
