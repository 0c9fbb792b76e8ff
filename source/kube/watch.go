package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/internal/backoff"
)

// errSilent ends a watch over which nothing came though somebody waits for a pod.
var errSilent = errors.New("the server has said nothing")

const (
	// watchFor is about how long one watch lasts before the API server ends it; each lasts
	// up to twice that, so that a fleet's watches do not end together.
	watchFor = 5 * time.Minute
	// listFor bounds one list, to its last byte.
	listFor = 2 * time.Minute
	// longestBackoff bounds the waits between tries.
	longestBackoff = 30 * time.Second
	// healthyFor is how long a watch must have lasted to be taken for a success.
	healthyFor = time.Second
)

// Run keeps the pods up to date until ctx ends.
func (p *Pods) Run(ctx context.Context) {
	defer p.client.close()
	go p.sweepLoop(ctx)
	policy := backoff.Policy{First: 200 * time.Millisecond, Cap: longestBackoff}
	version, failures := "", 0
	for ctx.Err() == nil {
		began := time.Now()
		var err error
		if version == "" {
			version, err = p.list(ctx)
		} else {
			version, err = p.watch(ctx, version)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			continue
		}
		cut, status := (*cutError)(nil), (*statusError)(nil)
		switch {
		case gone(err):
			p.log.Info("the API server has forgotten where the watch of the pods was; they are listed anew", "server", p.client.server)
			version, p.stale = "", true
		case errors.Is(err, errSilent):
			p.log.Info("the watch of the pods may hang; they are listed anew", "server", p.client.server)
			version, p.stale = "", true
			continue
		case errors.As(err, &cut):
			p.log.Info("the watch of the pods was cut; it is taken up again", "server", p.client.server, "error", err)
		default:
			p.failed(err)
			if errors.As(err, &status) {
				version = "" // a server that was set back may never come to that version
			}
		}
		if cut != nil && time.Since(began) >= healthyFor {
			failures = 0
		}
		failures++
		backoff.Sleep(ctx, policy.Delay(failures))
	}
}

// list takes all of the node's pods, and returns the version from which to watch.
func (p *Pods) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	began := p.now()
	query := p.selector()
	if !p.stale {
		// What the server has at hand will do: the watch brings what came later. A whole
		// fleet that starts at once costs it nothing.
		query.Set("resourceVersion", "0")
	}
	body, err := p.client.get(ctx, query)
	if err != nil {
		return "", err
	}
	defer body.Close()
	var all struct {
		Metadata struct{ ResourceVersion string }
		Items    []object
	}
	if err := json.NewDecoder(body).Decode(&all); err != nil {
		return "", fmt.Errorf("list of pods: %w", err)
	}
	if all.Metadata.ResourceVersion == "" {
		return "", errors.New("list of pods: the answer has no resourceVersion; is the server an API server?")
	}
	p.listed(all.Items, began)
	p.stale = false
	return all.Metadata.ResourceVersion, nil
}

func (p *Pods) selector() url.Values {
	return url.Values{"fieldSelector": {"spec.nodeName=" + p.node}}
}

// event is one message of a watch.
type event struct {
	Type   string
	Object json.RawMessage
}

// cutError is the end of a watch that had begun. Only when it cannot be taken up again is
// the server away.
type cutError struct{ err error }

func (e *cutError) Error() string { return "watch: " + e.err.Error() }

// watch follows the changes after a version until the server ends the watch, and returns
// the version to go on from.
func (p *Pods) watch(ctx context.Context, version string) (string, error) {
	// The server ends it; should it forget to, we do.
	seconds := int(watchFor.Seconds()) + rand.IntN(int(watchFor.Seconds()))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+answerTimeout)
	defer cancel()
	ctx, hang := context.WithCancelCause(ctx)
	defer hang(nil)
	go func() {
		select {
		case <-p.silent:
			hang(errSilent)
		case <-ctx.Done():
		}
	}()
	query := p.selector()
	query.Set("watch", "1")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", version)
	query.Set("timeoutSeconds", strconv.Itoa(seconds))
	body, err := p.client.get(ctx, query)
	if err != nil {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		return version, fmt.Errorf("watch: %w", err)
	}
	defer body.Close()
	p.heard()
	for events := json.NewDecoder(body); ; {
		var e event
		if err := events.Decode(&e); err != nil {
			switch {
			case context.Cause(ctx) == errSilent:
				return version, errSilent
			case err == io.EOF:
				return version, nil // its time was over
			}
			return version, &cutError{short(err)}
		}
		now, err := p.take(&e)
		if err != nil {
			return version, fmt.Errorf("watch: %w", err)
		}
		if now != "" {
			version = now
		}
	}
}

// take applies one event and returns the version that it brings.
func (p *Pods) take(e *event) (version string, err error) {
	if e.Type == "ERROR" {
		var status struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(e.Object, &status); err != nil {
			return "", err
		}
		if status.Code == 0 {
			status.Code = http.StatusInternalServerError
		}
		return "", &statusError{status.Code, status.Message}
	}
	var o object
	if err := json.Unmarshal(e.Object, &o); err != nil {
		return "", fmt.Errorf("%s event: %w", e.Type, err)
	}
	switch e.Type {
	case "ADDED", "MODIFIED":
		p.put(&o)
	case "DELETED":
		p.delete(&o)
	case "BOOKMARK":
		p.heard()
	}
	return o.Metadata.ResourceVersion, nil
}
