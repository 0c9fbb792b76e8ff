// Package instance tells which instance of a cloud this host is: what the machine
// itself says of it, and what the cloud's metadata service answers.
//
// Nobody is asked on hosts that are no cloud's, and none but the service of the cloud
// that the host belongs to.
package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Service is the metadata service of a cloud.
type Service struct {
	// Name is the cloud's: aws, alibaba, gcp, azure.
	Name string
	base string
	ask  func(c *client) (string, error)
}

// clouds are those that are known, each with what its machines have in their DMI table
// and how its service is asked.
var clouds = []struct {
	Service
	dmi, value string
}{
	{Service{"aws", "http://169.254.169.254", askAWS}, "sys_vendor", "Amazon EC2"},
	{Service{"alibaba", "http://100.100.100.200", askAlibaba}, "sys_vendor", "Alibaba Cloud"},
	{Service{"gcp", "http://169.254.169.254", askGCP}, "product_name", "Google Compute Engine"},
	{Service{"azure", "http://169.254.169.254", askAzure}, "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"},
}

// DMI is where the kernel shows what the machine says of itself.
const DMI = "/sys/class/dmi/id"

// Here returns the service of the cloud that this host belongs to by its DMI table,
// none on other hosts.
func Here(dmi string) []Service {
	for _, c := range clouds {
		if read(dmi, c.dmi) == c.value {
			return []Service{c.Service}
		}
	}
	return nil
}

// At returns all known services, as if they were at that address.
func At(base string) (all []Service) {
	for _, c := range clouds {
		s := c.Service
		s.base = strings.TrimRight(base, "/")
		all = append(all, s)
	}
	return all
}

// Tag is the instance's id that an EC2 machine carries in its DMI table, "" on others.
func Tag(dmi string) string {
	if tag := read(dmi, "board_asset_tag"); strings.HasPrefix(tag, "i-") && legal.MatchString(tag) {
		return tag
	}
	return ""
}

func read(dir, name string) string {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "" // no such table, or not for us
	}
	return strings.TrimSpace(string(raw))
}

// Ask asks the services one after the other until one answers, and returns its name and
// the instance's id. ctx bounds it all.
func Ask(ctx context.Context, services []Service) (name, id string, err error) {
	h := &http.Client{
		// No proxy knows which instance this is.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	err = errors.New("no metadata service is known for this host")
	for _, s := range services {
		id, failed := s.ask(&client{ctx, h, s.base})
		if failed == nil && !legal.MatchString(id) {
			failed = fmt.Errorf("%.100q is no instance's id", id)
		}
		if failed == nil {
			return s.Name, id, nil
		}
		err = fmt.Errorf("metadata service of %s: %w", s.Name, failed)
		if ctx.Err() != nil {
			break
		}
	}
	return "", "", err
}

// legal keeps out what is no id: a page of a proxy that answers for everything.
var legal = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

type client struct {
	ctx  context.Context
	http *http.Client
	base string
}

// do sends one request with a header and returns the answer's text.
func (c *client) do(method, path, key, value string) (string, error) {
	req, err := http.NewRequestWithContext(c.ctx, method, c.base+path, nil)
	if err != nil {
		return "", err
	}
	if key != "" {
		req.Header.Set(key, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// tokenShare is the part of the time that is left which a service gets to answer with
// a session token: one that knows none may not answer at all.
const tokenShare = 2

// withToken gets path by a session, as newer services want it, else without one.
func (c *client) withToken(path, ttlHeader, tokenHeader string) (string, error) {
	first := *c
	if until, ok := c.ctx.Deadline(); ok {
		var cancel context.CancelFunc
		first.ctx, cancel = context.WithTimeout(c.ctx, time.Until(until)/tokenShare)
		defer cancel()
	}
	token, err := first.do(http.MethodPut, "/latest/api/token", ttlHeader, "60")
	if err != nil {
		return c.do(http.MethodGet, path, "", "")
	}
	return c.do(http.MethodGet, path, tokenHeader, token)
}

func askAWS(c *client) (string, error) {
	return c.withToken("/latest/meta-data/instance-id", "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token")
}

func askAlibaba(c *client) (string, error) {
	return c.withToken("/latest/meta-data/instance-id", "X-aliyun-ecs-metadata-token-ttl-seconds", "X-aliyun-ecs-metadata-token")
}

func askGCP(c *client) (string, error) {
	return c.do(http.MethodGet, "/computeMetadata/v1/instance/id", "Metadata-Flavor", "Google")
}

func askAzure(c *client) (string, error) {
	return c.do(http.MethodGet, "/metadata/instance/compute/vmId?api-version=2021-02-01&format=text", "Metadata", "true")
}
