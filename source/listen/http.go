package listen

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tailwater/tailwater/source/listen/spool"
)

// web is an HTTP server of one of the two kinds.
type web struct {
	cfg    *Config
	server *http.Server
	addr   net.Addr
	tokens [][sha256.Size]byte
	open   atomic.Int64
	answers
}

// HTTP listens for POST /v1/logs/{project}.
func HTTP(cfg Config, addr string) (Server, error) {
	w := newWeb(cfg)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs/{project}", w.take)
	mux.HandleFunc("POST /v1/logs", w.take)
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "ok") })
	return w, w.listen(addr, mux)
}

// serverLog takes what the HTTP server has to say.
type serverLog struct{ web *web }

// Write implements io.Writer. A sender that is not let in shows nowhere else.
func (l serverLog) Write(line []byte) (int, error) {
	cfg := l.web.cfg
	if text, failed := bytes.CutPrefix(line, []byte("http: TLS handshake error ")); failed {
		l.web.answers.add("handshake")
		cfg.Log.Warn("a sender's TLS handshake did not succeed", "input", cfg.Name, "error", string(bytes.TrimSpace(text)))
	} else {
		cfg.Log.Debug("http", "input", cfg.Name, "error", string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

func newWeb(cfg Config) *web {
	w := &web{cfg: &cfg}
	for _, t := range cfg.Tokens {
		w.tokens = append(w.tokens, sha256.Sum256([]byte(t)))
	}
	return w
}

func (w *web) listen(addr string, h http.Handler) error {
	l, err := listenTCP(w.cfg, addr, &w.open)
	if err != nil {
		return err
	}
	w.addr = l.Addr()
	w.server = &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, WriteTimeout: 6 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: log.New(serverLog{w}, "", 0),
	}
	go w.server.Serve(l)
	return nil
}

// Addrs implements Server.
func (w *web) Addrs() []net.Addr { return []net.Addr{w.addr} }

// Stats implements Server.
func (w *web) Stats() Stats {
	return Stats{Connections: int(w.open.Load()), Answers: w.answers.all()}
}

// Close implements Server.
func (w *web) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		w.server.Close()
	}
}

// allowed tells whether the request has one of the tokens, in a time that does not tell
// which or how nearly. It looks at all of them.
func (w *web) allowed(r *http.Request) bool {
	if len(w.tokens) == 0 {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		_, given, _ = r.BasicAuth()
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	found := 0
	for i := range w.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], w.tokens[i][:])
	}
	return found == 1
}

// refusal is an answer that takes nothing.
type refusal struct {
	status int
	name   string // for the counter
	text   string
	after  int // seconds after which to try again; 0 says nothing
}

func (r *refusal) Error() string { return r.text }

func (w *web) refuse(rw http.ResponseWriter, req *http.Request, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{status: http.StatusInternalServerError, name: "failed", text: err.Error()}
	}
	w.turnAway(rw, req, r, "text/plain; charset=utf-8", []byte(r.text+"\n"))
}

const (
	// restBytes and restTime bound what is read of a body that is not taken.
	restBytes = 64 << 20
	restTime  = 3 * time.Second
)

// turnAway answers with a refusal, and then reads the rest of the body: a connection
// that is closed over bytes that nobody has read is reset, and most senders write all of
// a body before they look for an answer. They would see the reset, and not what is wrong.
func (w *web) turnAway(rw http.ResponseWriter, req *http.Request, r *refusal, contentType string, body []byte) {
	w.answers.add(r.name)
	c := http.NewResponseController(rw)
	c.EnableFullDuplex() // the answer goes first; it cannot fail where HTTP is 1.1
	h := rw.Header()
	if r.after > 0 {
		h.Set("Retry-After", fmt.Sprint(r.after))
	}
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="tailwater"`)
	}
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	rw.WriteHeader(r.status)
	rw.Write(body)
	c.Flush()
	c.SetReadDeadline(time.Now().Add(restTime))
	io.CopyN(io.Discard, req.Body, restBytes)
}

// spoolError is the answer for what Append says.
func spoolError(cfg *Config, err error) error {
	switch {
	case errors.Is(err, spool.ErrFull):
		return &refusal{http.StatusTooManyRequests, "full", "the outputs are behind and the spool is full; send this again later", 5}
	case errors.Is(err, spool.ErrLarge):
		return errLarge
	case errors.Is(err, spool.ErrOther):
		return &refusal{http.StatusUnprocessableEntity, "refused", "this Idempotency-Key came before with another body; give each body a key of its own", 0}
	}
	cfg.Log.Error("what was received cannot be spooled; the sender is told to send it again. Make room on the disk or mend it", "input", cfg.Name, "error", err)
	return &refusal{http.StatusServiceUnavailable, "failed", "this cannot be stored at the moment; send it again later", 5}
}

// take answers POST /v1/logs/{project}.
func (w *web) take(rw http.ResponseWriter, r *http.Request) {
	lines, repeated, err := w.receive(r)
	if err != nil {
		w.refuse(rw, r, err)
		return
	}
	name := "ok"
	if repeated {
		name = "repeated"
	}
	w.answers.add(name)
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(rw, "{\"accepted\":%d,\"repeated\":%t}\n", lines, repeated)
}

// receive takes the request's body into the spool.
func (w *web) receive(r *http.Request) (lines int, repeated bool, err error) {
	if !w.allowed(r) {
		return 0, false, errToken
	}
	project := r.PathValue("project")
	if project == "" {
		project = w.cfg.Project
	} else if err := checkProject(project); err != nil {
		return 0, false, err
	}
	key, err := requestKey(r, project)
	if err != nil {
		return 0, false, err
	}
	f := spool.Begin(buffer(), spool.JSONLines, project, key, time.Now().UnixMilli())
	held, err := w.readBody(r, f)
	defer func() { w.cfg.Memory.give(held); giveBuffer(f.Buf) }()
	if err != nil {
		return 0, false, err
	}
	lines, err = w.arrange(r.Header.Get("Content-Type"), &f, project, key)
	if err != nil || lines == 0 {
		return 0, false, err
	}
	switch err := w.cfg.Spool.Append(f, true); {
	case errors.Is(err, spool.ErrKnown):
		return lines, true, nil
	case err != nil:
		return 0, false, spoolError(w.cfg, err)
	}
	return lines, false, nil
}

var errToken = &refusal{http.StatusUnauthorized, "unauthorized", "no token, or a wrong one; send Authorization: Bearer TOKEN", 0}

func checkProject(name string) error {
	if len(name) > 200 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return &refusal{http.StatusBadRequest, "refused", "the path's project is no name; write at most 200 bytes of UTF-8 without control characters", 0}
	}
	return nil
}

const maxKeyLength = 256

// requestKey is what the sender calls this request, the zero Key when it does not.
func requestKey(r *http.Request, project string) (key spool.Key, err error) {
	name := r.Header.Get("Idempotency-Key")
	if name == "" {
		return key, nil
	}
	if len(name) > maxKeyLength {
		return key, &refusal{http.StatusBadRequest, "refused", fmt.Sprintf("the Idempotency-Key is longer than %d bytes", maxKeyLength), 0}
	}
	return keyOf("http", project, name), nil
}

// keyOf is the spool's key for a name in a space.
func keyOf(space, scope, name string) (key spool.Key) {
	sum := sha256.Sum256([]byte(space + "\x00" + scope + "\x00" + name))
	copy(key[:], sum[:])
	return key
}

// byteOrderMark is what some put before UTF-8. It is no part of the text.
const byteOrderMark = "\ufeff"

// arrange makes of the body, which the frame holds, what the spool wants, and counts
// its lines. What is made anew replaces the frame.
func (w *web) arrange(contentType string, f **spool.Frame, project string, key spool.Key) (lines int, err error) {
	(*f).Trim(byteOrderMark)
	body := (*f).Payload()
	declared := kindOf(contentType)
	if declared == ndjson {
		return countLines(body), nil
	}
	text := trimSpace(body)
	if len(text) == 0 {
		return 0, nil
	}
	if declared == jsonValue || declared == unknown && (text[0] == '{' || text[0] == '[') {
		switch {
		case json.Valid(text):
			err = w.remake(f, project, key, func(dst []byte, most int) []byte {
				dst, lines = appendValues(dst, text, most)
				return dst
			})
			return lines, err
		case beginsWithObject(text):
			return countLines(body), nil // NDJSON under another name
		case declared == jsonValue:
			return 0, &refusal{http.StatusBadRequest, "refused", "the body is not JSON: " + jsonTrouble(text) + "; nothing of it was taken. Send JSON, or name it application/x-ndjson or text/plain", 0}
		}
	}
	err = w.remake(f, project, key, func(dst []byte, most int) []byte {
		dst, lines = w.appendText(dst, body, most)
		return dst
	})
	return lines, err
}

var errLarge = &refusal{http.StatusRequestEntityTooLarge, "too_large", "this unfolds to too much; send fewer lines at once", 0}

// remake replaces the frame by one of Records, which fill appends. It need not go on
// behind most bytes, as that is too much.
func (w *web) remake(f **spool.Frame, project string, key spool.Key, fill func(dst []byte, most int) []byte) error {
	next := spool.Begin(buffer(), spool.Records, project, key, time.Now().UnixMilli())
	most := w.cfg.Memory.unfolded(len((*f).Payload()))
	next.Buf = fill(next.Buf, most)
	giveBuffer((*f).Buf)
	*f = next
	if len(next.Buf) > most {
		return errLarge
	}
	return nil
}

// appendText appends the events of a text, until there are more than most bytes.
func (w *web) appendText(dst, body []byte, most int) ([]byte, int) {
	if n := len(body); body[n-1] != '\n' {
		body = append(body, '\n')
	}
	lines := 0
	lost := w.cfg.Split(body, func(event []byte, truncated bool) {
		if len(dst) > most {
			return
		}
		r := spool.Record{Text: event}
		if truncated {
			r.Flags |= spool.Truncated
		}
		dst = spool.AppendRecord(dst, &r)
		lines++
	})
	if lost > 0 && len(dst) <= most {
		w.cfg.Abandon("overlong", lost)
	}
	return dst, lines
}

// bodyKind is what a Content-Type says.
type bodyKind int

const (
	unknown bodyKind = iota
	jsonValue
	ndjson
	plainText
)

func kindOf(contentType string) bodyKind {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = strings.ToLower(strings.TrimSpace(contentType))
	}
	switch kind {
	case "application/json", "text/json":
		return jsonValue
	case "application/x-ndjson", "application/ndjson", "application/x-jsonlines", "application/jsonlines", "application/jsonl", "application/x-jsonl",
		"application/stream+json", "application/json-lines", "application/json-seq":
		return ndjson
	case "application/octet-stream", "application/x-www-form-urlencoded", "":
		return unknown
	}
	switch {
	case strings.HasSuffix(kind, "+json"):
		return jsonValue
	case strings.HasPrefix(kind, "text/"):
		return plainText
	}
	return unknown
}
