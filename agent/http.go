package agent

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// SocketName is the unix socket in the state directory over which the commands talk
// to the running agent.
const SocketName = "tailwater.sock"

// server is what the agent tells and takes over HTTP: on listen, and on the socket.
type server struct {
	http *http.Server
}

// listen opens the configured address and the socket, and serves both.
func (a *Agent) listen() (*server, error) {
	s := &server{http: &http.Server{Handler: a.routesFor(), ReadHeaderTimeout: 5 * time.Second}}
	socket, err := listenPrivately(a.cfg.State)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", filepath.Join(a.cfg.State, SocketName), err)
	}
	listeners := []net.Listener{socket}
	if a.cfg.Listen != "" {
		l, err := net.Listen("tcp", a.cfg.Listen)
		if err != nil {
			socket.Close()
			return nil, fmt.Errorf("listen %s: %w; choose another address with listen:, or turn it off with listen: \"\"", a.cfg.Listen, err)
		}
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		go s.http.Serve(l)
	}
	return s, nil
}

func (s *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

// routesFor maps paths to what answers them.
func (a *Agent) routesFor() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { serveJSON(w, http.StatusOK, a.Status()) })
	mux.HandleFunc("GET /api/v1/audit", a.serveLedger)
	mux.HandleFunc("GET /{$}", a.servePage)
	mux.HandleFunc("POST /api/v1/reload", a.changing(a.serveReload))
	mux.HandleFunc("POST /api/v1/drain", a.changing(a.serveDrain))
	mux.HandleFunc("GET /api/v1/dead", a.changing(a.serveDead)) // the lines themselves
	mux.HandleFunc("POST /api/v1/dead/replay", a.changing(a.serveReplay))
	mux.HandleFunc("GET /api/v1/alerts", a.serveAlerts)
	mux.HandleFunc("GET /api/v1/silences", a.serveSilences)
	mux.HandleFunc("POST /api/v1/silences", a.changing(a.serveSilence))
	mux.HandleFunc("DELETE /api/v1/silences/{id}", a.changing(a.serveExpire))
	mux.HandleFunc("POST /api/v1/notify", a.changing(a.serveNotify))
	if a.opts.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// changing lets only those through who may change something: over the socket its
// mode has decided already, over TCP listen_token does.
func (a *Agent) changing(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
			next(w, r)
			return
		}
		token := a.config().ListenToken.Reveal()
		if token == "" {
			http.Error(w, "refused: what changes something goes through "+SocketName+" in the state directory, or needs listen_token in the configuration", http.StatusForbidden)
			return
		}
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			http.Error(w, "refused: the Authorization header has no or a wrong token", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func serveJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v) // the client is gone when it fails
}

func (a *Agent) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	for _, out := range a.allOutputs() {
		s := out.status()
		if s.State == "up" {
			fmt.Fprintf(w, "output %s: up\n", s.Name)
		} else {
			fmt.Fprintf(w, "output %s: retrying since %s: %s; its lines wait in the files\n", s.Name, s.Since, s.LastError)
		}
	}
}

func (a *Agent) serveReload(w http.ResponseWriter, _ *http.Request) {
	if err := a.Reload(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	fmt.Fprintln(w, "reloaded")
}

func (a *Agent) serveDrain(w http.ResponseWriter, r *http.Request) {
	timeout, err := time.ParseDuration(r.FormValue("timeout"))
	if err != nil {
		http.Error(w, "timeout: give a duration such as 60s", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	left := a.Drain(ctx)
	status := http.StatusOK
	if len(left) > 0 {
		status = http.StatusGatewayTimeout
	}
	serveJSON(w, status, left)
}

var page = template.Must(template.New("status").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>tailwater on {{.Host}}</title>
<style>body{font:15px system-ui,sans-serif;margin:2rem;color:#222}table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00}</style>
<h1>tailwater {{.Version}} on {{.Host}}</h1>
<h2>Outputs</h2><table><tr><th>name<th>kind<th>state<th>delivered<th>dead letters<th>waiting bytes<th>last error</tr>
{{range .Outputs}}<tr><td>{{.Name}}<td>{{.Kind}}<td{{if ne .State "up"}} class="bad"{{end}}>{{.State}}<td class="n">{{.Delivered}}<td class="n">{{.DeadLetters}}<td class="n">{{.QueueBytes}}<td>{{.LastError}}</tr>{{end}}</table>
<h2>Inputs</h2><table><tr><th>name<th>files<th>bytes<th>lines<th>did not parse<th>behind<th>behind, seconds<th>trouble</tr>
{{range .Inputs}}<tr><td>{{.Name}}<td class="n">{{.Watched}}<td class="n">{{.Bytes}}<td class="n">{{.Lines}}<td class="n">{{.ParseErrors}}<td class="n">{{.Behind}}<td class="n">{{printf "%.1f" .LagSeconds}}<td{{if .Trouble}} class="bad"{{end}}>{{.Trouble}}</tr>{{end}}</table>
<h2>Files behind: {{.FilesBehind}}</h2><table>{{if .Files}}<tr><th>path<th>input<th>size<th>read<th>undelivered</tr>{{end}}
{{range .Files}}<tr><td>{{.Path}}<td>{{.Input}}<td class="n">{{.Size}}<td class="n">{{.Read}}<td class="n">{{.Bytes}}</tr>{{end}}</table>
<h2>Firing: {{len .Firing}}</h2><table>{{if .Firing}}<tr><th>rule<th>group<th>since<th>numbers</tr>{{end}}
{{range .Firing}}<tr class="bad"><td>{{.Rule}}<td>{{.Group}}<td>{{.Since}}<td>{{.Numbers}}</tr>{{end}}</table>
<p><a href="/metrics">metrics</a> · <a href="/api/v1/status">status as JSON</a> · <a href="/api/v1/alerts">alerts as JSON</a></p></html>
`))

func (a *Agent) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, a.Status()) // the client is gone when it fails
}
