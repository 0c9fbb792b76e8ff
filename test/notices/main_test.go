// Package notices holds the tests of the way from a line to people: the real binary with
// a real mail server, Alertmanager and Prometheus, and a DingTalk that checks what the
// real one checks.
package notices

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

const root = "../.."

// bin is the agent that all tests run.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return 0 // all tests here need the binary
	}
	dir, err := os.MkdirTemp("", "tw-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if bin, err = rig.Build(context.Background(), root, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for anything on a busy machine.
const patience = 90 * time.Second

// world is a directory with an agent, and servers that end with the test.
type world struct {
	*testing.T
	*rig.Home
	ctx   context.Context
	agent *rig.Agent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "tw")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Home: &rig.Home{Bin: bin, Dir: dir}}
	ctx, cancel := context.WithCancel(t.Context())
	w.ctx = ctx
	t.Cleanup(func() {
		cancel()
		if w.agent != nil {
			w.agent.Kill()
		}
		if t.Failed() {
			t.Logf("the agent's log ends with:\n%s", w.LogTail())
		}
		os.RemoveAll(dir)
	})
	return w
}

// check ends the test on an error.
func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// configure writes the configuration; $DIR stands for the world's directory.
func (w *world) configure(body string) {
	w.Helper()
	text := "state: $DIR/state\nhost: web-1\noutputs: {out: {file: {path: $DIR/out.ndjson}}}\n" + body
	if !strings.Contains(body, "\nlisten:") {
		text += "\nlisten: ''\n"
	}
	next := w.Config() + ".next"
	w.check(os.WriteFile(next, []byte(strings.ReplaceAll(text, "$DIR", w.Dir)), 0o644))
	w.check(os.Rename(next, w.Config()))
}

func (w *world) start() {
	w.Helper()
	a, err := w.Home.Start()
	w.check(err)
	w.agent = a
	w.check(a.Ready(w.ctx))
}

func (w *world) stop() {
	w.Helper()
	_, err := w.agent.Stop(w.ctx)
	w.check(err)
}

// eventually waits until look returns nil.
func (w *world) eventually(what string, look func() error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	w.check(rig.Poll(ctx, what, look))
}

// log appends n lines of a level to the log of a project.
func (w *world) log(project, level string, n int, at time.Time) {
	w.Helper()
	dir := filepath.Join(w.Dir, "logs", project)
	w.check(os.MkdirAll(dir, 0o755))
	f, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	w.check(err)
	defer f.Close()
	line := fmt.Sprintf(`{"time":%q,"level":%q,"msg":"no stock of item 17 <b>","request_id":"r-%s"}`+"\n", at.UTC().Format(time.RFC3339Nano), level, project)
	_, err = f.WriteString(strings.Repeat(line, n))
	w.check(err)
}

// command runs one of the agent's commands to its end.
func (w *world) command(args ...string) string {
	w.Helper()
	cmd := w.Command(w.ctx, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("tailwater %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// port is a free one on this host.
func (w *world) port() int {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.check(err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// serve runs a server until the test ends, and returns when url answers.
func (w *world) serve(url string, name string, args ...string) {
	w.Helper()
	out, err := os.Create(filepath.Join(w.Dir, filepath.Base(name)+".log"))
	w.check(err)
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.Dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.check(cmd.Start())
	w.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // killed: it ends with an error
		out.Close()
	})
	w.eventually(filepath.Base(name), func() error { return get(url, nil) })
}

// get asks url and decodes its JSON.
func get(url string, into any) error {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// realTool fetches a real program (see test/env/fetch).
func realTool(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skipf("no apt-get here, from whose packages the real %s comes", name)
	}
	return made(t, root+"/test/env/fetch", name)
}

// goTool builds a program that tools/go.mod pins (see test/env/tool).
func goTool(t *testing.T, program string) string {
	t.Helper()
	return made(t, root+"/test/env/tool", program)
}

// made runs a script that prints the path of a program.
func made(t *testing.T, script, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), script, name)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// put sends JSON.
func put(url, body string) error { return send(http.MethodPut, url, body) }

func send(method, url, body string) error {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s answered %s: %s", url, resp.Status, answer)
	}
	return err
}

func location(w *world, name string) *time.Location {
	w.Helper()
	l, err := time.LoadLocation(name)
	w.check(err)
	return l
}
