package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/instance"
)

func TestWhatMakesAClone(t *testing.T) {
	was := identity{Name: "original", marks: marks{MachineID: "m1", Instances: map[string]string{"aws": "i-1", "cloud-init": "i-1"}, Boot: "b1"}}
	for name, c := range map[string]struct {
		was   identity
		now   marks
		clone bool
	}{
		"the same machine":                    {was, marks{MachineID: "m1", Instances: map[string]string{"aws": "i-1"}}, false},
		"after a boot":                        {was, marks{MachineID: "m1", Boot: "b2"}, false},
		"no machine-id, as in a container":    {was, marks{}, false},
		"the metadata service does not tell":  {was, marks{MachineID: "m1"}, false},
		"nothing was known before":            {identity{Name: "original"}, marks{MachineID: "m2", Instances: map[string]string{"aws": "i-2"}}, false},
		"a source that never spoke before":    {was, marks{MachineID: "m1", Instances: map[string]string{"gcp": "17"}}, false},
		"another machine-id":                  {was, marks{MachineID: "m2"}, true},
		"another instance":                    {was, marks{MachineID: "m1", Instances: map[string]string{"aws": "i-2"}}, true},
		"another instance, stale cloud-init":  {was, marks{MachineID: "m1", Instances: map[string]string{"aws": "i-2", "cloud-init": "i-1"}}, true},
		"another machine-id, no instance yet": {was, marks{MachineID: "m2"}, true},
	} {
		me, clone := c.was.meet(c.now)
		if clone != c.clone || (me.Name != "original") != c.clone || me.Name == "" {
			t.Errorf("%s: a clone: %v, want %v; its name is %q", name, clone, c.clone, me.Name)
			continue
		}
		// Whoever it is, it knows itself at the next start.
		if again, clone := me.meet(c.now); clone || again.Name != me.Name {
			t.Errorf("%s: at the next start it is another", name)
		}
		if !clone {
			continue
		}
		if back, clone := me.meet(was.marks); !clone || back.Name == "original" {
			t.Errorf("%s: a copy of the clone on the original machine is not taken for a clone", name)
		}
	}
	if me, clone := (identity{}).meet(marks{MachineID: "m1"}); me.Name == "" || clone {
		t.Errorf("a new state: name %q, clone %v", me.Name, clone)
	}
}

// host is a machine's marks on disk, with a metadata service.
type host struct {
	t       *testing.T
	at      whereabouts
	asked   atomic.Int64
	answer  atomic.Pointer[string]
	service *httptest.Server
}

func newHost(t *testing.T, r *rig, machineID string) *host {
	h := &host{t: t}
	h.at = whereabouts{machineID: filepath.Join(r.dir, "machine-id"), cloudInit: filepath.Join(r.dir, "instance-id"), bootID: filepath.Join(r.dir, "boot_id"), dmi: filepath.Join(r.dir, "dmi")}
	h.service = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/latest/meta-data/instance-id" {
			h.asked.Add(1)
		}
		id := h.answer.Load()
		switch {
		case id == nil:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		case req.Method == http.MethodPut:
			fmt.Fprint(w, "token")
		default:
			fmt.Fprint(w, *id)
		}
	}))
	t.Cleanup(h.service.Close)
	h.boots(machineID, "boot-1")
	r.host = h
	return h
}

// boots gives the machine another machine-id and another boot id.
func (h *host) boots(machineID, boot string) {
	for name, text := range map[string]string{h.at.machineID: machineID, h.at.bootID: boot} {
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) says(id string) { h.answer.Store(&id) }

const identityConfig = `
metadata: %s
inputs: {app: {files: [$DIR/*.log], format: plain}}
outputs: {out: {discard: {}}}
`

func (r *rig) configureHost(h *host) {
	r.configure(fmt.Sprintf(identityConfig, h.service.URL))
}

// names are the machines' names in the ids of the documents, in their order.
func names(b *basin) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.docs {
		id, _ := d["id"].(string)
		name, _, _ := strings.Cut(id, "-")
		all = append(all, name)
	}
	return all
}

// TestACloneGoesOnUnderItsOwnName: the read positions stay, and only what is new is sent,
// under other ids.
func TestACloneGoesOnUnderItsOwnName(t *testing.T) {
	for name, becomes := range map[string]func(h *host){
		"by its machine-id": func(h *host) { h.boots("machine-2", "boot-2") },
		"by its instance":   func(h *host) { h.boots("machine-1", "boot-2"); h.says("i-2") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := newHost(t, r, "machine-1")
			h.says("i-1")
			r.configureHost(h)
			b := r.basin("out")
			r.start()
			r.append("a.log", "one\ntwo\n")
			r.texts(b, "one", "two")
			r.eventually("the instance to be known", func() bool { return r.agent.who().Instances["aws"] == "i-1" && r.journalHas("i-1") })
			r.stop()

			becomes(h)
			r.append("a.log", "three\n")
			r.start()
			r.texts(b, "one", "two", "three")
			if got := names(b); got[0] != got[1] || got[1] == got[2] {
				t.Errorf("the ids begin with %v, want another name for the clone's line", got)
			}
			r.stop()

			asked := h.asked.Load()
			r.append("a.log", "four\n")
			r.start()
			r.texts(b, "one", "two", "three", "four")
			if got := names(b); got[2] != got[3] {
				t.Errorf("the ids begin with %v: the clone has yet another name after a restart", got)
			}
			if now := h.asked.Load(); r.agent.who().Boot == "boot-2" && now != asked {
				t.Errorf("the metadata service was asked again in the same boot")
			}
		})
	}
}

// journalHas tells whether the identity on disk holds the text.
func (r *rig) journalHas(text string) bool {
	raw, _ := r.agent.State(identityKey)
	return strings.Contains(string(raw), text)
}

// TestWhatIsUnknownMakesNoClone: a service that does not answer, and a machine-id that
// is missing, change nothing, and the start waits no longer than it may.
func TestWhatIsUnknownMakesNoClone(t *testing.T) {
	r := newRig(t)
	h := newHost(t, r, "machine-1")
	h.says("i-1")
	r.configureHost(h)
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\n")
	r.texts(b, "one")
	r.eventually("the instance to be known", func() bool { return r.journalHas("i-1") })
	r.stop()

	h.answer.Store(nil)
	h.boots("", "boot-2")
	r.append("a.log", "two\n")
	r.start()
	r.texts(b, "one", "two")
	r.stop()

	// It never answers: the start waits askTime, no more.
	hung := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
	defer silent.Close()
	defer close(hung)
	r.configure(fmt.Sprintf(identityConfig, silent.URL))
	h.boots("uninitialized", "boot-3")
	r.append("a.log", "three\n")
	begun := time.Now()
	r.start()
	if took := time.Since(begun); took > askTime+10*time.Second {
		t.Errorf("the start took %v", took)
	}
	r.texts(b, "one", "two", "three")
	if got := names(b); got[0] != got[1] || got[1] != got[2] {
		t.Errorf("the ids begin with %v, want one name", got)
	}
}

// TestACloneThatLearnsItLate: the metadata service of a clone answers only after the
// start. From then on its ids are its own, and no line is lost or doubled by that.
func TestACloneThatLearnsItLate(t *testing.T) {
	r := newRig(t)
	h := newHost(t, r, "machine-1")
	h.says("i-1")
	r.configureHost(h)
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\n")
	r.texts(b, "one")
	r.eventually("the instance to be known", func() bool { return r.journalHas("i-1") })
	r.stop()

	h.answer.Store(nil)
	h.boots("machine-1", "boot-2")
	r.start()
	r.append("a.log", "two\n")
	r.texts(b, "one", "two")
	h.says("i-2")
	r.eventually("the clone to be known", func() bool { return r.journalHas("i-2") })
	r.append("a.log", "three\n")
	r.texts(b, "one", "two", "three")
	if got := names(b); got[0] != got[1] || got[1] == got[2] {
		t.Errorf("the ids begin with %v, want another name from the third line on", got)
	}
	r.stop()
	r.append("a.log", "four\n")
	r.start()
	r.texts(b, "one", "two", "three", "four")
	if got := names(b); got[2] != got[3] {
		t.Errorf("the ids begin with %v: the clone has forgotten its name", got)
	}
}

// TestACloneLeavesTheIncidentsToTheOriginal: both would tell of their end otherwise.
func TestACloneLeavesTheIncidentsToTheOriginal(t *testing.T) {
	r := newRig(t)
	h := newHost(t, r, "machine-1")
	text := "metadata: none\ninputs: {app: {files: [$DIR/*.log], format: app}}\noutputs: {out: {discard: {}}}\nalerts: {bad: {when: error >= 1, within: 1h}}\n"
	r.configure(text)
	r.start()
	r.append("a.log", time.Now().Format("2006-01-02 15:04:05")+" ERROR it broke\n")
	r.eventually("the rule to fire", func() bool { return len(r.agent.alerts.firing()) == 1 })
	r.stop()

	h.boots("machine-1", "boot-2")
	r.start()
	if n := len(r.agent.alerts.firing()); n != 1 {
		t.Fatalf("%d incidents after a plain restart, want 1", n)
	}
	r.stop()
	h.boots("machine-2", "boot-2")
	r.start()
	if n := len(r.agent.alerts.firing()); n != 0 {
		t.Errorf("the clone has %d incidents of the original", n)
	}
}

// TestTheDefaultAsksOnlyItsCloud: on hosts of no cloud nobody is asked, and an EC2
// instance that says who it is needs no service.
func TestTheDefaultAsksOnlyItsCloud(t *testing.T) {
	r := newRig(t)
	h := newHost(t, r, "machine-1")
	r.configure(fmt.Sprintf(identityConfig, "auto"))
	r.start()
	r.eventually("the identity to be saved", func() bool { return r.journalHas(`"name"`) })
	if r.agent.asks {
		t.Error("a service would be asked on a host without any sign of a cloud")
	}
	r.stop()
	if err := os.Mkdir(h.at.dmi, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"sys_vendor": "Amazon EC2", "board_asset_tag": "i-0123456789abcdef0"} {
		if err := os.WriteFile(filepath.Join(h.at.dmi, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(instance.Here(h.at.dmi)) != 1 {
		t.Fatal("the table is not that of an EC2 instance")
	}
	r.start()
	r.eventually("the instance to be saved", func() bool { return r.journalHas("i-0123456789abcdef0") })
	if r.agent.asks {
		t.Error("the service would be asked for what the machine has said")
	}
	r.stop()
	var stored identity
	raw, _ := r.agent.State(identityKey)
	if err := json.Unmarshal(raw, &stored); err != nil || stored.MachineID != "machine-1" {
		t.Errorf("stored: %s, %v", raw, err)
	}
}
