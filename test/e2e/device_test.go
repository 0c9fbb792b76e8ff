package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// device is a disk in a file, with a file system on it.
type device struct {
	w     *world
	image string
	at    string // where it is mounted
	loop  string // its present device, "" while there is none
}

// newDevice makes the file system; attach mounts it.
func (w *world) newDevice(name, mount string) *device {
	w.Helper()
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			w.Skipf("no %s here", tool)
		}
	}
	d := &device{w: w, image: w.path(name), at: mount}
	w.check(os.WriteFile(d.image, nil, 0o600))
	w.check(os.Truncate(d.image, 16<<20))
	w.check(os.MkdirAll(mount, 0o755))
	d.run("mkfs.ext4", "-q", d.image)
	w.Cleanup(d.detach)
	return d
}

func (d *device) run(name string, args ...string) string {
	d.w.Helper()
	out, err := exec.CommandContext(d.w.ctx, name, args...).CombinedOutput()
	if err != nil {
		d.w.Skipf("%s %s: %v: %s: loop devices need root", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *device) attach() {
	d.w.Helper()
	d.loop = d.run("losetup", "-f", "--show", d.image)
	d.run("mount", d.loop, d.at)
}

// detach unmounts it, at once though somebody looks into it, and lets the device go.
func (d *device) detach() {
	if d.loop == "" {
		return
	}
	if err := syscall.Unmount(d.at, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		d.w.Error(err)
	}
	exec.Command("losetup", "-d", d.loop).Run()
	d.loop = ""
}

func (w *world) deviceOf(name string) uint64 {
	info, err := os.Stat(name)
	w.check(err)
	return uint64(info.Sys().(*syscall.Stat_t).Dev)
}

// TestDiskIsAttachedAgain: the logs' disk comes back as another device, while the agent
// runs and while it does not. Nothing is read twice (pains 18).
func TestDiskIsAttachedAgain(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, oneInput)
			disk := w.newDevice("disk.img", w.path("logs"))
			disk.attach()
			a := w.log("a.log")
			w.write(a, 500, 20)
			was := w.deviceOf(a.Name)
			w.start()
			w.exact(a)
			w.check(a.Close())
			if running {
				w.check(rig.Poll(w.ctx, "the idle log to be closed", func() error {
					if open := w.openLogs(); len(open) > 0 {
						return fmt.Errorf("open: %v", open)
					}
					return nil
				}))
			} else {
				w.stop(0)
			}
			disk.detach()
			if running {
				w.pause(700 * time.Millisecond) // the agent sees that the directory is empty
			}
			// Another one takes the number.
			other := w.newDevice("other.img", w.path("other"))
			other.attach()
			disk.attach()
			if w.deviceOf(a.Name) == was {
				t.Skip("the device has got its old number")
			}
			w.check(a.Reopen())
			w.write(a, 500, 20)
			if !running {
				w.start()
			}
			w.exact(a)
			w.check(a.Close())
			w.stop(0)
		})
	}
}

// TestReadsThatFail: the kernel answers reads of a log with ESTALE and EIO, as network
// file systems and bad disks do. It is opened again by its path, and read on; the agent
// lives and the neighbours do not wait (pains 18).
func TestReadsThatFail(t *testing.T) {
	t.Parallel()
	strace := realTool(t, "strace")
	for _, failure := range []string{"ESTALE", "EIO"} {
		w := newWorld(t, oneInput)
		a, b := w.log("a.log"), w.log("b.log")
		w.write(a, 1000, 20)
		w.write(b, 1000, 20)
		w.start()
		w.exact(a, b)
		trace := exec.CommandContext(w.ctx, strace, "-f", "-qq", "-o", w.path("trace"), "-e", "trace=pread64,preadv", "-P", a.Name,
			"-e", "inject=pread64,preadv:error="+failure+":when=1..4", "-p", fmt.Sprint(w.agent.PID()))
		var words strings.Builder
		trace.Stderr = &words
		w.check(trace.Start())
		injected := func() int {
			text, err := os.ReadFile(w.path("trace"))
			if err != nil {
				return 0
			}
			return strings.Count(string(text), "INJECTED")
		}
		err := rig.Poll(w.ctx, failure+" to be met", func() error {
			w.write(a, 10, 20)
			w.write(b, 10, 20)
			if n := injected(); n < 4 {
				if trace.Process.Signal(syscall.Signal(0)) != nil {
					return rig.Final(fmt.Errorf("strace has ended: %s", words.String()))
				}
				return fmt.Errorf("%d reads have failed; %s", n, words.String())
			}
			return nil
		})
		if err != nil && strings.Contains(words.String(), "not permitted") {
			t.Skipf("processes may not be traced here: %s", words.String())
		}
		w.check(err)
		w.exact(a, b)
		w.check(trace.Process.Signal(os.Interrupt)) // lets go of the agent
		trace.Wait()
		w.write(a, 10, 20)
		w.exact(a, b)
		w.stop(0)
	}
}
