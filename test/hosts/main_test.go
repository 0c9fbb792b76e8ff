// Package hosts tests tailwater's homes on hosts: the packages, the systemd unit, the
// container image, and the scripts around them, with the real dpkg, rpm, systemd and
// rsync.
package hosts

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

const root = "../.."

// built is where the agent and the packages of these tests are.
var built string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tw-hosts")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = dir
	return m.Run()
}

// agent is the agent that the tests run.
var agent = sync.OnceValues(func() (string, error) {
	return rig.Build(context.Background(), root, built)
})

// theAgent is the path of the agent that the tests run.
func theAgent(t *testing.T) string {
	t.Helper()
	bin, err := agent()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// make runs a target of the Makefile.
func makeTarget(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "make", append([]string{"-s", "-C", root}, args...)...)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// tempDir is a short path to a directory that goes with the test.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fetched is the path of a real program (see test/env/fetch).
func fetched(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skipf("no apt-get here, from whose packages the real %s comes", name)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "test/env/fetch"), name)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderrOf(err))
	}
	return strings.TrimSpace(string(out))
}

func stderrOf(err error) []byte {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.Stderr
	}
	return nil
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
