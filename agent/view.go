package agent

import (
	"strings"

	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/kube"
)

// view is how one file is read: as its input says, and a container's log as its pod
// says. It is not changed once it is made.
type view struct {
	format  *parser.Format
	keep    [record.Levels]bool
	project string
	extra   []record.KeyValue // fields of all its documents beside tailwater's own
	keys    *record.Keys      // that lines of the file may not use

	pod      *kube.Pod // what it was made from; nil for other files, and while nothing is known
	wrap     string    // the form of the runtime's lines around the pod's: cri or docker
	excluded bool      // nothing of the file is wanted
}

// view is the way in which the input reads the file.
func (in *input) view(f feed) *view {
	v := &view{format: in.format, keep: in.keep, project: in.project(f), extra: in.constants(f)}
	v.keys = in.reserved(v.extra)
	return v
}

// keeps reports whether an event of that level is shipped.
func (v *view) keeps(l record.Level) bool { return v.keep[l] }

// see makes v the way in which the flow's file is read from here on. It is the flow's
// worker, or the scheduler is paused.
func (f *flow) see(v *view) {
	f.view = v
	if f.format, f.sure = v.format.Restore(f.file.Progress().Format); !f.sure || f.received() {
		f.format, f.sure = v.format, f.received() // what was received is decided event by event
	}
	f.dropParsers()
	f.openTap()
}

// origin is the constant part of the flow's documents.
func (f *flow) origin() *record.Origin { return f.originOf(f.view.project) }

// originOf is origin with a project of the events' own.
func (f *flow) originOf(project string) *record.Origin {
	fields := record.OriginFields{
		Machine: f.agent.who().Name, Generation: f.file.Gen(), Host: f.agent.host, Input: f.in.name,
		File: f.file.Path(), Project: project, Extra: f.view.extra,
	}
	if f.received() {
		fields.File = "" // a spool's place says nothing of the lines
	}
	return record.NewOrigin(fields)
}

// reserved are the keys that lines of a file with these fields may not use.
func (in *input) reserved(extra []record.KeyValue) *record.Keys {
	var names []string
	for _, c := range extra {
		names = append(names, c.Key)
	}
	key := strings.Join(names, "\x00")
	if known, ok := in.keys.Load(key); ok {
		return known.(*record.Keys)
	}
	known, _ := in.keys.LoadOrStore(key, record.NewKeys(names...))
	return known.(*record.Keys)
}
