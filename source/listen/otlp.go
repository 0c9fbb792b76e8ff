package listen

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	collogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

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
		w.refuse(rw, r, &refusal{http.StatusUnsupportedMediaType, "refused", "send application/x-protobuf or application/json", 0})
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
		w.refuseOTLP(rw, r, refused, kind)
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

func (w *web) refuseOTLP(rw http.ResponseWriter, req *http.Request, r *refusal, kind string) {
	if kind == jsonType {
		body, _ := json.Marshal(map[string]any{"code": rpcCode(r.status), "message": r.text}) // nothing in it can be invalid
		w.turnAway(rw, req, r, kind, body)
		return
	}
	body := protowire.AppendTag(nil, 1, protowire.VarintType)
	body = protowire.AppendVarint(body, uint64(rpcCode(r.status)))
	body = protowire.AppendTag(body, 2, protowire.BytesType)
	w.turnAway(rw, req, r, kind, protowire.AppendString(body, r.text))
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
	f := spool.Begin(buffer(), spool.Records, w.cfg.Project, key, time.Now().UnixMilli())
	o := otlpReader{maxLine: w.cfg.MaxLine, body: len(body.Payload()), memory: w.cfg.Memory, dst: f.Buf}
	defer func() { w.cfg.Memory.give(o.held); giveBuffer(f.Buf) }()
	if kind == jsonType {
		err = o.requestJSON(body.Payload())
	} else {
		err = o.request(body.Payload())
	}
	f.Buf = o.dst
	switch {
	case errors.Is(err, errBusy):
		return 0, "", err
	case errors.Is(err, errUnfolded):
		return 0, "", &refusal{http.StatusRequestEntityTooLarge, "too_large", err.Error(), 0}
	case err != nil:
		return 0, "", fmt.Errorf("the body is no ExportLogsServiceRequest: %w; nothing of it was taken", err)
	}
	if o.rejected > 0 {
		w.cfg.Drop("too_large", o.rejected)
		why = fmt.Sprintf("records of more than max_line, %d bytes, were not taken", w.cfg.MaxLine)
	}
	if len(f.Payload()) == 0 {
		return o.rejected, why, nil
	}
	if err := w.cfg.Spool.Append(f, true); err != nil && !errors.Is(err, spool.ErrKnown) {
		return 0, "", spoolError(w.cfg, err)
	}
	return o.rejected, why, nil
}
