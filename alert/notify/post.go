package notify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// Answer is what a receiver said to a Post.
type Answer struct {
	Status int
	// Body is the answer's beginning, with what could be a secret of the address taken
	// out.
	Body []byte
	wait time.Duration // by Retry-After
}

const maxAnswer = 64 << 10

// Post sends a body and returns the answer, whatever it is. Errors do not hold the
// address.
func Post(ctx context.Context, client *http.Client, address string, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return Answer{}, Bare(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", "tailwater")
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%s", scrub(Bare(err).Error(), address))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("answer: %s", scrub(Bare(err).Error(), address))
	}
	a := Answer{Status: resp.StatusCode, Body: []byte(scrub(string(data), address))}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		a.wait = min(time.Duration(seconds)*time.Second, 10*time.Minute)
	}
	return a, nil
}

// Err says what the status means: nil for 2xx, ErrRefused for what is wrong with the
// message itself, else an error after which it is sent again.
func (a Answer) Err() error {
	if a.Status/100 == 2 {
		return nil
	}
	said := fmt.Errorf("answered %d %s: %s", a.Status, http.StatusText(a.Status), a.Excerpt())
	switch a.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", ErrRefused, said)
	}
	if a.wait > 0 {
		return &Later{Err: said, After: a.wait}
	}
	return said
}

// Excerpt is the beginning of the answer, on one line.
func (a Answer) Excerpt() string { return oneLine(string(a.Body), 200) }

// NewClient returns a client that follows no redirect: an address with a token must
// not go elsewhere.
func NewClient(transport *http.Transport) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// scrub takes out of a text what the address holds beside the host: a receiver, or a
// proxy before it, may repeat it.
func scrub(text, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return strings.ReplaceAll(text, address, "***")
	}
	secrets := []string{address, u.RequestURI(), u.Path, u.RawQuery}
	if last := path.Base(u.Path); len(last) >= 16 { // a token, and not a word
		secrets = append(secrets, last)
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, password)
	}
	for _, s := range secrets {
		if len(s) >= 6 {
			text = strings.ReplaceAll(text, s, "***")
			text = strings.ReplaceAll(text, url.QueryEscape(s), "***")
		}
	}
	return text
}
