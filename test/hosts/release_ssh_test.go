package hosts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

// remote is a site that is reached over ssh, as the host web1: a real sshd, which knows
// one key and nothing of the machine's own configuration.
type remote struct {
	*site
	env []string // by which the script finds ssh
}

// newRemote makes one in a directory whose name has what shells split and expand.
func newRemote(t *testing.T) *remote {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("there is no ssh here")
	}
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("there is no ssh-keygen here")
	}
	r := &remote{site: newSite(t, `o p't $HOME`)}
	daemon := fetched(t, "sshd")
	at := func(name string) string { return filepath.Join(r.Dir, "ssh", name) }
	r.check(os.MkdirAll(at("bin"), 0o755))
	r.check(os.Symlink(r.rsync, at("bin/rsync"))) // the host's
	for _, name := range []string{"host", "user"} {
		if out, err := exec.CommandContext(r.ctx, keygen, "-q", "-t", "ed25519", "-N", "", "-f", at(name)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.check(err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	for name, text := range map[string]string{
		"sshd_config": `Port %[2]s
ListenAddress 127.0.0.1
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
SetEnv PATH=%[1]s/bin:/usr/local/bin:/usr/bin:/bin
`,
		"config": `Host web1
  HostName 127.0.0.1
  Port %[2]s
  IdentityFile %[1]s/user
  IdentitiesOnly yes
  UserKnownHostsFile %[1]s/known
  StrictHostKeyChecking no
  LogLevel ERROR
Host web2
  HostName 127.0.0.1
  Port 1
`,
		// As root it wants a user and a directory of its own, which it gets in a mount namespace.
		"start": `if [ "$(id -u)" = 0 ]; then
  { cat /etc/passwd; echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin'; } >%[1]s/passwd
  mount --bind %[1]s/passwd /etc/passwd
  mount -t tmpfs none /run
  mkdir -m 755 /run/sshd
fi
exec "$1" -D -e -f %[1]s/sshd_config
`,
	} {
		r.check(os.WriteFile(at(name), fmt.Appendf(nil, text, at(""), port), 0o600))
	}
	r.check(os.Mkdir(at("client"), 0o755))
	r.check(os.WriteFile(at("client/ssh"), fmt.Appendf(nil, "#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, at("config")), 0o755))
	r.env = []string{"PATH=" + at("client") + ":" + os.Getenv("PATH")}

	var cmd *exec.Cmd
	if os.Getuid() == 0 {
		cmd = exec.Command("unshare", "-m", "sh", "-e", at("start"), daemon)
	} else {
		cmd = exec.Command("sh", "-e", at("start"), daemon)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.check(cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("sshd said:\n%s", said.String())
		}
	})
	r.check(rig.Poll(r.ctx, "the sshd", func() error {
		select {
		case <-ended:
			return rig.Final(errors.New(said.String()))
		default:
		}
		out, code := r.run(r.env, at("client/ssh"), "-o", "BatchMode=yes", "web1", "true")
		if code != 0 {
			return errors.New(out)
		}
		return nil
	}))
	return r
}

// to releases to a host with options that a shell must not split.
func (r *remote) to(host string, args ...string) (string, int) {
	r.Helper()
	odd := filepath.Join(r.Dir, `tail "water".yaml`)
	if err := os.Symlink(r.Config(), odd); err != nil && !os.IsExist(err) {
		r.Fatal(err)
	}
	restart := fmt.Sprintf(`[ "a  *  b" = 'a  *  b' ] && %[1]s/restart %[1]s "$(echo '%[2]s')"`, r.Dir, strings.ReplaceAll(r.dir, "'", `'\''`))
	return r.releaseTo(host+":"+r.dir, r.env, append([]string{"--config", odd, "--restart", restart}, args...)...)
}

// TestReleaseOverSSH: with the real sshd and rsync, good releases and ones that fail; what
// is given to the script arrives on the host as it is.
func TestReleaseOverSSH(t *testing.T) {
	t.Parallel()
	real, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	r := newRemote(t)
	log := r.log("a.log")
	r.check(log.Write(100, 50))
	if out, code := r.to("web1", "--dry-run", "--binary", real[0]); code != 0 || !strings.Contains(out, "would run: ssh") {
		t.Errorf("a dry run: code %d, %s", code, out)
	}
	if _, err := os.Stat(r.dir); err == nil {
		t.Error("a dry run has made the directory")
	}
	if out, code := r.to("web2", "--binary", real[0]); code != 1 || !strings.Contains(out, "nothing was changed") {
		t.Errorf("to a host that is not there: code %d, %s", code, out)
	}
	if out, code := r.to("web1", "--binary", real[0]); code != 0 {
		t.Fatalf("the first release: code %d, %s\n%s", code, out, r.LogTail())
	}
	if v := r.runs(); v != "v2.0.0" || !r.notices.say("tailwater v2.0.0 is released") {
		t.Errorf("after the first release %s runs; notices: %v", v, r.notices.all)
	}
	r.check(log.Write(100, 50))
	if out, code := r.to("web1", "--channel", "hook", "--wait", "2", "--binary", r.moody("v2.2.0", "exit 1")); code != 3 {
		t.Errorf("a release that fails: code %d, %s", code, out)
	}
	if v := r.runs(); v != "v2.0.0" || !r.notices.say("the release of tailwater v2.2.0 failed") {
		t.Errorf("after a release that failed %s runs; notices: %v", v, r.notices.all)
	}
	if out, code := r.to("web1", "--binary", real[1]); code != 0 {
		t.Errorf("the second release: code %d, %s", code, out)
	}
	if v := r.runs(); v != "v2.1.0" {
		t.Errorf("after the second release %s runs", v)
	}
	r.exact(log)
}

// TestAReleaseGoesOnWithoutItsConnection: the connection is lost while a version that is
// not well has been started. The host goes back by itself.
func TestAReleaseGoesOnWithoutItsConnection(t *testing.T) {
	t.Parallel()
	real, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	r := newRemote(t)
	if out, code := r.to("web1", "--binary", real[0]); code != 0 {
		t.Fatalf("the first release: code %d, %s\n%s", code, out, r.LogTail())
	}
	// Its agent has the client cut off, by the pid that the wrapper has left.
	wrapper := filepath.Join(r.Dir, "ssh", "client", "ssh")
	pids := filepath.Join(r.Dir, "ssh", "pids")
	r.check(os.WriteFile(wrapper, []byte(strings.Replace(mustRead(t, wrapper), "exec", "echo $$ >>"+pids+"\nexec", 1)), 0o755))
	bad := r.moody("v2.2.0", "kill -9 $(tail -n 1 "+pids+"); exit 1")
	out, code := r.to("web1", "--wait", "3", "--binary", bad)
	if code != 6 || !strings.Contains(out, "release.log") {
		t.Errorf("a release whose connection is lost: code %d, %s", code, out)
	}
	said := filepath.Join(r.dir, "release.log")
	r.check(rig.Poll(r.ctx, "the host to go back", func() error {
		text, err := os.ReadFile(said)
		if err != nil || !strings.Contains(string(text), "v2.0.0 runs again") {
			return fmt.Errorf("%v; its log says: %s", err, text)
		}
		return nil
	}))
	if v := r.runs(); v != "v2.0.0" {
		t.Errorf("afterwards %s runs", v)
	}
	r.check(rig.Poll(r.ctx, "the notice", func() error {
		if !r.notices.say("the release of tailwater v2.2.0 failed") {
			return errors.New("nobody was told")
		}
		return nil
	}))
	if out, code := r.to("web1", "--binary", real[1]); code != 0 { // the lock is free
		t.Errorf("the next release: code %d, %s", code, out)
	}
}
