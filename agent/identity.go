package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/instance"
	"github.com/tailwater/tailwater/internal/journal"
)

// identity is who this state directory belongs to. Name is part of every id and is
// drawn at random, so that a new state never repeats the ids of an old one; the
// machine's own marks only tell whether the directory has been cloned.
type identity struct {
	Name string `json:"name"`
	marks
}

// marks are what tells one machine from another. What is not known is empty, and tells
// nothing.
type marks struct {
	MachineID string `json:"machine_id,omitempty"`
	// Instances are the cloud's names for the machine, by who said so: two sources may
	// have different names for one machine.
	Instances map[string]string `json:"instances,omitempty"`
	// Boot is the boot of the machine in which its metadata service last answered: an
	// instance becomes another only by a boot.
	Boot string `json:"boot,omitempty"`
}

const identityKey = "machine"

const (
	// askTime is how long a start waits for the metadata service.
	askTime = time.Second
	// askAgainAfter and askAgainAtMost are how often a service that did not answer is
	// asked again while the agent runs.
	askAgainAfter, askAgainAtMost = time.Second, 5 * time.Minute
)

// newName draws eight characters of base 32: forty bits tell a fleet's machines
// apart.
func newName() string { return strings.ToLower(rand.Text()[:8]) }

// meet returns who the state belongs to on a machine with the marks now. A known and
// different mark makes it a clone: it gets a name of its own. An unknown one never does.
func (was identity) meet(now marks) (me identity, clone bool) {
	differs := func(a, b string) bool { return a != "" && b != "" && a != b }
	clone = differs(was.MachineID, now.MachineID)
	for from, id := range now.Instances {
		clone = clone || differs(was.Instances[from], id)
	}
	if was.Name == "" || clone {
		// Of the original's marks a clone keeps none.
		return identity{Name: newName(), marks: now}, clone && was.Name != ""
	}
	me = identity{Name: was.Name, marks: now}
	if me.MachineID == "" {
		me.MachineID = was.MachineID
	}
	me.Instances = maps.Clone(was.Instances)
	for from, id := range now.Instances {
		if me.Instances == nil {
			me.Instances = make(map[string]string)
		}
		me.Instances[from] = id
	}
	if me.Boot == "" {
		me.Boot = was.Boot
	}
	return me, false
}

func (was identity) equal(b identity) bool {
	return was.Name == b.Name && was.MachineID == b.MachineID && was.Boot == b.Boot && maps.Equal(was.Instances, b.Instances)
}

// whereabouts is where the machine's marks are found; tests have places of their own.
type whereabouts struct {
	machineID, cloudInit, bootID, dmi string
	services                          []instance.Service
}

func (a *Agent) whereabouts() whereabouts {
	w := whereabouts{machineID: "/etc/machine-id", cloudInit: "/var/lib/cloud/data/instance-id", bootID: "/proc/sys/kernel/random/boot_id", dmi: instance.DMI}
	if a.opts.whereabouts != nil {
		w = *a.opts.whereabouts
	}
	switch where := a.cfg.Metadata; where {
	case "none":
		w.services = nil
	case "auto":
		w.services = instance.Here(w.dmi)
	default:
		w.services = instance.At(where)
	}
	return w
}

// look reads the marks that are on this machine.
func (w *whereabouts) look() marks {
	m := marks{MachineID: readMark(w.machineID), Instances: make(map[string]string)}
	if m.MachineID == "uninitialized" { // systemd's word before the first boot
		m.MachineID = ""
	}
	if id := readMark(w.cloudInit); id != "" {
		m.Instances["cloud-init"] = id
	}
	if tag := instance.Tag(w.dmi); tag != "" {
		m.Instances["aws"] = tag
		w.services = nil // they would say the same
	}
	return m
}

func readMark(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "" // in most containers there is none
	}
	return strings.TrimSpace(string(raw))
}

// recognise finds out whose the state is before anything is read or told. Only the
// first start after a boot asks the metadata service, and only where the answer can
// tell a clone; on all others it is asked in the background.
func (a *Agent) recognise() {
	w := a.whereabouts()
	boot := readMark(w.bootID)
	was := stored(a)
	now := w.look()
	me, clone := was.meet(now)
	a.asks = len(w.services) > 0 && (boot == "" || was.Boot != boot || clone)
	if a.asks && was.Name != "" && !clone {
		if err := a.ask(context.Background(), w.services, askTime, boot, &now); err != nil {
			a.log.Info("the metadata service does not tell which instance this is; it is taken for the one that it was, and asked again", "error", err)
		} else {
			a.asks = false
			me, clone = was.meet(now)
		}
	}
	a.identity.Store(&me)
	a.stranger = !me.equal(was)
	if clone {
		a.log.Info("this state was copied from another machine: the read positions stay, the ids of new lines are this machine's own", "machine", me.Name)
		a.leaveToTheOriginal()
	}
}

func stored(a *Agent) (was identity) {
	if raw, ok := a.journal.Get(identityKey); ok {
		if err := json.Unmarshal(raw, &was); err != nil {
			a.log.Warn("the state's machine identity is unreadable; a new one is made", "error", err)
			return identity{}
		}
	}
	return was
}

// ask adds to m what the metadata service says within the time.
func (a *Agent) ask(ctx context.Context, services []instance.Service, within time.Duration, boot string, m *marks) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	from, id, err := instance.Ask(ctx, services)
	if err != nil {
		return err
	}
	if m.Instances == nil {
		m.Instances = make(map[string]string)
	}
	m.Instances[from], m.Boot = id, boot
	return nil
}

// leaveToTheOriginal forgets what the original will tell itself: its incidents, its
// notices, what it counted for reports. Silences are for both.
func (a *Agent) leaveToTheOriginal() {
	change := ofTheOriginal(a.journal)
	if len(change) == 0 {
		return
	}
	if err := a.journal.Commit(change); err != nil {
		a.log.Error("the original machine's incidents cannot be forgotten; they may be told twice", "error", err)
	}
}

// ofTheOriginal is the change that removes what must not be done on two machines.
func ofTheOriginal(j *journal.Journal) map[string]json.RawMessage {
	change := make(map[string]json.RawMessage)
	j.Range(func(key string, _ []byte) {
		if key == engineKey || notify.IsNotice(key) || report.IsCount(key) {
			change[key] = nil
		}
	})
	return change
}

// askOn asks a metadata service that did not answer at the start again, until it does.
// A machine that turns out to be a clone goes on under a name of its own.
func (a *Agent) askOn(ctx context.Context) {
	if !a.asks {
		return
	}
	w := a.whereabouts()
	boot := readMark(w.bootID)
	again := backoff.Policy{First: askAgainAfter, Cap: askAgainAtMost}
	for failures := 1; ; failures++ {
		var now marks
		err := a.ask(ctx, w.services, askTime, boot, &now)
		if err == nil {
			err = a.onDriver(ctx, func() { a.learn(now) })
		}
		if err == nil {
			return
		}
		if backoff.Sleep(ctx, again.Delay(failures)) != nil {
			return
		}
	}
}

// learn takes over what is now known of the machine. It runs on the driver, as does
// known, which makes it durable before anything more is read.
func (a *Agent) learn(now marks) {
	was := a.who()
	me, clone := was.meet(now)
	if me.equal(*was) {
		return
	}
	if !clone {
		a.become(&me)
		return
	}
	a.log.Warn("this machine turns out to be a copy of another one: from now on its lines have ids of their own", "machine", me.Name)
	if a.become(&me); !a.known() {
		a.become(was) // the next start will ask again
		return
	}
	// What has the name in it is made anew: the ids' beginnings, the node of the fleet.
	cfg := *a.config()
	if err := a.takeOver(&cfg); err != nil {
		a.log.Error("parts of this clone keep the original's name until the next start", "error", err)
	}
}

func (a *Agent) who() *identity { return a.identity.Load() }

// become takes another identity, which known has to make durable.
func (a *Agent) become(me *identity) {
	a.identity.Store(me)
	a.stranger = true
}

// known makes the identity durable, as it is part of every id, and reports whether it
// is: until then nothing is read.
func (a *Agent) known() bool {
	if !a.stranger {
		return true
	}
	raw, err := json.Marshal(a.who())
	if err == nil {
		err = a.journal.Commit(map[string]json.RawMessage{identityKey: raw})
	}
	if err != nil {
		a.log.Error("the machine's identity cannot be saved; nothing is read until it can be. Make room on the disk or mend it",
			"state", a.cfg.State, "error", err)
		return false
	}
	a.stranger = false
	return true
}
