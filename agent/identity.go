package agent

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"os"
	"strings"

	"github.com/tailwater/tailwater/internal/journal"
)

// identity is who this state directory belongs to. Name is part of every id and is
// drawn at random, so that a new state never repeats the ids of an old one; the
// machine's own marks only tell whether the directory has been cloned.
type identity struct {
	Name      string `json:"name"`
	MachineID string `json:"machine_id,omitempty"`
	Instance  string `json:"instance,omitempty"`
}

const identityKey = "machine"

// newName draws eight characters of base 32: forty bits tell a fleet's machines
// apart.
func newName() string { return strings.ToLower(rand.Text()[:8]) }

// whoAmI returns the state's identity. Another known machine-id or instance than the
// state remembers makes this a clone: it gets a name of its own and keeps the read
// positions, as the original has delivered what is before them. An unknown one never
// does.
func whoAmI(j *journal.Journal, log *slog.Logger) (me identity, unsaved bool) {
	var was identity
	if raw, ok := j.Get(identityKey); ok {
		if err := json.Unmarshal(raw, &was); err != nil {
			log.Warn("the state's machine identity is unreadable; a new one is made", "error", err)
		}
	}
	now := identity{Name: was.Name, MachineID: machineID(), Instance: instanceID()}
	differs := func(a, b string) bool { return a != "" && b != "" && a != b }
	switch {
	case was.Name == "":
		now.Name = newName()
	case differs(was.MachineID, now.MachineID), differs(was.Instance, now.Instance):
		now.Name = newName()
		log.Info("this state was copied from another machine: the read positions stay, the ids of new lines are this machine's own")
	}
	if now.MachineID == "" {
		now.MachineID = was.MachineID
	}
	if now.Instance == "" {
		now.Instance = was.Instance
	}
	return now, now != was
}

// known makes the identity durable, as it is part of every id, and reports whether it
// is: until then nothing is read.
func (a *Agent) known() bool {
	if !a.stranger {
		return true
	}
	raw, err := json.Marshal(a.identity)
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

// machineID is systemd's, "" where there is none (in most containers).
func machineID() string {
	raw, err := os.ReadFile("/etc/machine-id")
	if err != nil || strings.TrimSpace(string(raw)) == "uninitialized" {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// instanceID is the cloud's name for this host as cloud-init has written it down,
// "" where there is none.
func instanceID() string {
	raw, err := os.ReadFile("/var/lib/cloud/data/instance-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
