package parser

// nginxNames gives the variables of one log_format their fields, each key once.
type nginxNames struct {
	escape     nginxEscape
	owner      map[string]string // field → the variable that gives it
	taken      map[string]bool
	time       string // the variable that gives the time
	requestIDs bool
}

func newNginxNames(pieces []nginxPiece, escape nginxEscape) *nginxNames {
	has := make(map[string]bool)
	for _, piece := range pieces {
		has[piece.name] = true
	}
	n := &nginxNames{escape: escape, owner: make(map[string]string), taken: make(map[string]bool)}
	for _, o := range nginxOwners {
		count := 0
		for _, name := range o.vars {
			if has[name] {
				if count == 0 {
					n.owner[o.key] = name
				}
				count++
			}
		}
		n.requestIDs = n.requestIDs || o.key == "request_id" && count > 1
	}
	for _, name := range []string{"msec", "time_iso8601", "time_local"} {
		if has[name] {
			n.time = name
			break
		}
	}
	// What the log_format's own variables give goes before a variable of the same name
	// that somebody made up with map or set.
	for name := range has {
		if v, known := nginxVars[name]; known && v.key != "" {
			n.owner[v.key] = name
		}
	}
	return n
}

// step returns the step of a variable, without what follows it.
func (n *nginxNames) step(name string) nginxStep {
	v := nginxVars[name]
	s := nginxStep{kind: v.kind, untimed: name != n.time}
	switch name {
	case "request":
		s.keys = [5]string{n.claim("method", name), n.claim("path", name), n.claim("query", name), n.claim("http_version", name), n.claim("request", name)}
		return s
	case "request_uri":
		if n.owner["path"] == name {
			s.kind = nginxTarget
			s.keys[1], s.keys[2] = n.claim("path", name), n.claim("query", name)
			return s
		}
	case "server_protocol":
		if n.owner["http_version"] == name {
			s.kind = nginxProtocol
		}
	case "msec", "time_iso8601", "time_local":
		return s
	}
	s.keys[0] = n.claim(n.key(name, v), name)
	s.other = n.requestIDs && n.owner["request_id"] != name && isRequestIDVar(name)
	if v.list != "" {
		s.keys[1] = n.claim(v.list, name)
	}
	if s.kind == nginxClientInt && s.keys[0] != "" {
		s.keys[1] = n.claim(s.keys[0]+"_text", name)
	}
	return s
}

// key returns the field that a variable gives when no other has taken it.
func (n *nginxNames) key(name string, v nginxVar) string {
	for _, o := range nginxOwners {
		if n.owner[o.key] == name {
			return o.key
		}
	}
	if v.key != "" {
		return v.key
	}
	return name
}

// claim returns key, or another when a variable other than this one gives it, or ""
// when this one has given it already: a variable that stands twice is taken once.
func (n *nginxNames) claim(key, name string) string {
	if owner, owned := n.owner[key]; owned && owner != name {
		key = "orig_" + key
	}
	if n.taken[key] {
		return ""
	}
	n.taken[key] = true
	return key
}

func isRequestIDVar(name string) bool {
	return name == "request_id" || name == "req_id" || name == "http_x_request_id"
}
