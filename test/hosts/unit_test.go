package hosts

import (
	"context"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const unit = root + "/deploy/systemd/tailwater.service"

// TestUnitIsHardened: systemd's own measure of what a service could do to its host.
func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	analyze := fetched(t, "systemd-analyze")
	// The threshold is ten times the exposure.
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold=19", unit).CombinedOutput()
	if err != nil {
		t.Errorf("the exposure is not under 2.0: %v\n%s", err, out)
	}
	// A measure that lets everything pass would be none.
	bare := filepath.Join(tempDir(t), "bare.service")
	if err := os.WriteFile(bare, []byte("[Service]\nExecStart=/bin/true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold=19", bare).CombinedOutput(); err == nil {
		t.Errorf("a service without any hardening passes:\n%s", out)
	}
}

// TestUnitIsUnderstood: systemd takes every line of the unit and of its drop-in.
func TestUnitIsUnderstood(t *testing.T) {
	t.Parallel()
	analyze := fetched(t, "systemd-analyze")
	dir := tempDir(t)
	dropIn := filepath.Join(dir, "tailwater.service.d", "drain-at-shutdown.conf")
	if err := os.Mkdir(filepath.Dir(dropIn), 0o755); err != nil {
		t.Fatal(err)
	}
	// The programs are where they are on a host that has the package.
	here := strings.NewReplacer("/usr/bin/tailwater", theAgent(t), "/usr/lib/tailwater/drain-at-shutdown", "/bin/true")
	for from, to := range map[string]string{unit: filepath.Join(dir, "tailwater.service"), root + "/deploy/systemd/drain-at-shutdown.conf": dropIn} {
		if err := os.WriteFile(to, []byte(here.Replace(mustRead(t, from))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verify := func() string {
		cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, "tailwater.service"))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":/lib/systemd/system")
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		return string(out)
	}
	if said := verify(); said != "" {
		t.Errorf("systemd says of the unit:\n%s", said)
	}
	if err := os.WriteFile(dropIn, []byte("[Service]\nRestartSecs=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := verify(); !strings.Contains(said, "RestartSecs") {
		t.Errorf("systemd says nothing of an unknown key: %q", said)
	}
}

// TestRPMHoldsTheSame: the rpm can be read by the real rpm, and has the files of the deb.
func TestRPMHoldsTheSame(t *testing.T) {
	t.Parallel()
	rpm := fetched(t, "rpm")
	dirs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	for debArch, rpmArch := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		rpmFile := filepath.Join(dirs[0], "packages", "tailwater-1.0.0-1."+rpmArch+".rpm")
		query := func(what ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), rpm, append(append([]string{"-qp"}, what...), rpmFile)...)
			cmd.Env = append(os.Environ(), "RPM_CONFIGDIR="+filepath.Join(filepath.Dir(rpm), "tree/usr/lib/rpm"), "HOME="+built)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("rpm -qp %v: %v\n%s", what, err, stderrOf(err))
			}
			return string(out)
		}
		files := strings.Fields(query("-l"))
		cmd := exec.CommandContext(t.Context(), "dpkg-deb", "-c", filepath.Join(dirs[0], "packages", "tailwater_1.0.0-1_"+debArch+".deb"))
		listing, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(listing)) {
			name := strings.TrimPrefix(line[strings.LastIndex(line, " ./")+1:], ".")
			name = strings.Replace(strings.TrimSpace(name), "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
			if !strings.HasSuffix(name, "/") && !slices.Contains(files, name) {
				t.Errorf("the rpm for %s lacks %s", rpmArch, name)
			}
		}
		if config := query("-c"); strings.TrimSpace(config) != "/etc/tailwater/tailwater.yaml" {
			t.Errorf("its configuration files are %q", config)
		}
		scripts := query("--scripts")
		for _, want := range []string{"useradd --system", "systemctl --no-reload preset", "systemctl try-restart", "disable --now"} {
			if !strings.Contains(scripts, want) {
				t.Errorf("no script of the rpm for %s has %q", rpmArch, want)
			}
		}
	}
}

// TestSamePackagesTwice: the same commit gives the same bytes.
func TestSamePackagesTwice(t *testing.T) {
	t.Parallel()
	dirs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	dist := tempDir(t)
	if err := makeTarget(t.Context(), "package", "DIST="+dist, "VERSION=v1.0.0", "ARCHS="+arch); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dist, "packages", "*"))
	if err != nil || len(names) != 2 {
		t.Fatalf("%d packages, %v; want a deb and an rpm", len(names), err)
	}
	for _, name := range names {
		if mustRead(t, filepath.Join(dirs[0], "packages", filepath.Base(name))) != mustRead(t, name) {
			t.Errorf("built again, %s has other bytes", filepath.Base(name))
		}
	}
}

// TestSameBinaryElsewhere: the same files give the same bytes wherever they lie.
func TestSameBinaryElsewhere(t *testing.T) {
	t.Parallel()
	listing, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("not a git repository: %v", err)
	}
	elsewhere := tempDir(t)
	for name := range strings.Lines(string(listing)) {
		name = strings.TrimSpace(name)
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(elsewhere, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	binary := func(dir, out string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "make", "-s", "-C", dir, filepath.Join(out, "linux-"+arch, "tailwater"), "DIST="+out, "VERSION=v1.0.0", "COMMIT=0123456789ab", "ARCHS="+arch)
		cmd.Env = append(os.Environ(), "MAKEFLAGS=")
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		return filepath.Join(out, "linux-"+arch, "tailwater")
	}
	here, there := binary(root, tempDir(t)), binary(elsewhere, tempDir(t))
	if mustRead(t, here) != mustRead(t, there) {
		t.Error("built elsewhere, the binary has other bytes")
	}
	info, err := os.Stat(here)
	if err != nil {
		t.Fatal(err)
	}
	const most = 32 << 20
	t.Logf("the binary has %.1f MiB", float64(info.Size())/(1<<20))
	if info.Size() > most {
		t.Errorf("the binary has %d bytes, at most %d are promised", info.Size(), most)
	}
	if bi, err := buildinfo.ReadFile(here); err != nil || bi.Main.Path != "github.com/tailwater/tailwater" {
		t.Errorf("its build information: %v, %v", bi, err)
	}
}

// TestVersionsOfPackages: a package manager has to sort them as git does.
func TestVersionsOfPackages(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("no dpkg here")
	}
	version := func(git string) string {
		cmd := exec.CommandContext(context.Background(), filepath.Join(root, "deploy/packages/build"), "--print-version", git)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1764000000")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderrOf(err))
		}
		return strings.TrimSpace(string(out))
	}
	order := []string{"abc1234", "v0.9.9", "v1.0.0-rc.1", "v1.0.0", "v1.0.0-3-gabc1234", "v1.0.1", "v1.10.0"}
	for i, older := range order[:len(order)-1] {
		a, b := version(older), version(order[i+1])
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", a, "lt", b).Run(); err != nil {
			t.Errorf("%s (%s) does not sort before %s (%s)", older, a, order[i+1], b)
		}
	}
}
