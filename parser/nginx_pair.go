package parser

import (
	"bytes"
	"slices"
	"strings"
)

// nginxSplit tells two variables apart that stand side by side with nothing between
// them, as in $scheme$host or $host$request_uri.
type nginxSplit struct {
	// at returns how many bytes of val are the left variable's.
	at          func(val []byte) int
	left, right nginxStep
}

// join returns the step for variables that stand side by side.
func (n *nginxNames) join(vars []string) nginxStep {
	if len(vars) == 1 {
		return n.step(vars[0])
	}
	if isPathAndArgs(vars) {
		path, args := n.step(vars[0]), n.step(vars[2])
		return nginxStep{kind: nginxPathArgs, keys: [5]string{1: path.keys[0], 2: args.keys[0]}}
	}
	if at := n.border(vars); at != nil {
		return nginxStep{kind: nginxPair, pair: &nginxSplit{at: at, left: n.step(vars[0]), right: n.join(vars[1:])}}
	}
	// Nothing tells where one ends and the next begins: the document gets what there
	// is, under both names.
	return nginxStep{kind: nginxText, keys: [5]string{n.claim(strings.Join(vars, "_"), "")}}
}

// isPathAndArgs recognises $uri$is_args$args.
func isPathAndArgs(vars []string) bool {
	return len(vars) == 3 && (vars[0] == "uri" || vars[0] == "document_uri") &&
		vars[1] == "is_args" && (vars[2] == "args" || vars[2] == "query_string")
}

// border returns what finds the end of the first variable, or nil when nothing can.
func (n *nginxNames) border(vars []string) func(val []byte) int {
	if slices.Contains([]string{"request_uri", "uri", "document_uri"}, vars[1]) {
		return func(val []byte) int { return beforeSlash(val, n.escape) }
	}
	if len(vars) == 2 && vars[1] == "pipe" {
		return func(val []byte) int { return max(len(val)-1, 0) }
	}
	switch vars[0] {
	case "time_local":
		return fixedWidth(nginxLocalLen)
	case "time_iso8601":
		return fixedWidth(nginxISOLen)
	case "status":
		return fixedWidth(len("200"))
	case "pipe":
		return fixedWidth(len("p"))
	case "is_args":
		return func(val []byte) int { return len(val) - len(bytes.TrimPrefix(val, []byte("?"))) }
	case "scheme":
		return schemeEnd
	}
	switch nginxVars[vars[0]].kind {
	case nginxInt:
		return digitsEnd
	case nginxMsec, nginxSeconds:
		return millisEnd
	}
	return nil
}

func fixedWidth(n int) func([]byte) int {
	return func(val []byte) int { return min(n, len(val)) }
}

// beforeSlash finds the end of what stands before a path, which nginx does not have for
// a request that it could not read.
func beforeSlash(val []byte, escape nginxEscape) int {
	if i := bytes.IndexByte(val, '/'); i >= 0 {
		return i
	}
	return len(trimAbsent(val, escape))
}

// trimAbsent takes off the end of val what nginx writes for a value that is absent.
func trimAbsent(val []byte, escape nginxEscape) []byte {
	if escape == nginxEscapeDefault {
		return bytes.TrimSuffix(val, []byte("-"))
	}
	return val
}

func schemeEnd(val []byte) int {
	for _, scheme := range []string{"https", "http", "-"} {
		if bytes.HasPrefix(val, []byte(scheme)) {
			return len(scheme)
		}
	}
	return 0
}

func digitsEnd(val []byte) int {
	if len(val) > 0 && val[0] == '-' {
		return 1
	}
	n := 0
	for n < len(val) && isDigit(val[n]) {
		n++
	}
	return n
}

// millisEnd finds the end of a number that nginx writes with three decimals.
func millisEnd(val []byte) int {
	n := digitsEnd(val)
	if n < len(val) && val[n] == '.' {
		return min(n+len(".123"), len(val))
	}
	return n
}

func isDigit(c byte) bool { return c-'0' <= 9 }
