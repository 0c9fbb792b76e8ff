package instance

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// table writes a DMI table.
func table(t *testing.T, entries map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range entries {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNobodyIsAskedOutsideOfClouds(t *testing.T) {
	for name, dir := range map[string]string{
		"none":      filepath.Join(t.TempDir(), "none"),
		"hardware":  table(t, map[string]string{"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R650", "board_asset_tag": "rack 4"}),
		"a laptop":  table(t, map[string]string{"sys_vendor": "LENOVO", "chassis_asset_tag": "No Asset Information"}),
		"qemu, kvm": table(t, map[string]string{"sys_vendor": "QEMU"}),
	} {
		if got := Here(dir); got != nil {
			t.Errorf("%s: %v would be asked", name, got)
		}
		if got := Tag(dir); got != "" {
			t.Errorf("%s: the tag is %q", name, got)
		}
	}
	if _, _, err := Ask(t.Context(), nil); err == nil {
		t.Error("no error where nobody can be asked")
	}
}

func TestEachCloudIsKnownByItsTable(t *testing.T) {
	for want, dir := range map[string]string{
		"aws":     table(t, map[string]string{"sys_vendor": "Amazon EC2", "board_asset_tag": "i-0abcdef0123456789"}),
		"alibaba": table(t, map[string]string{"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"}),
		"gcp":     table(t, map[string]string{"sys_vendor": "Google", "product_name": "Google Compute Engine"}),
		"azure":   table(t, map[string]string{"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}),
	} {
		got := Here(dir)
		if len(got) != 1 || got[0].Name != want {
			t.Errorf("%v would be asked on a host of %s", got, want)
		}
		if tag := Tag(dir); (tag == "i-0abcdef0123456789") != (want == "aws") {
			t.Errorf("%s: the tag is %q", want, tag)
		}
	}
}

// service answers like one cloud's and refuses what that one would refuse.
func service(t *testing.T, answers func(r *http.Request) (int, string)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := answers(r)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// session is a service with session tokens, which it may require.
func session(ttl, header string, required bool) func(r *http.Request) (int, string) {
	return func(r *http.Request) (int, string) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get(ttl) == "60":
			return 200, "secret=="
		case r.Method == http.MethodGet && r.URL.Path == "/latest/meta-data/instance-id":
			if required && r.Header.Get(header) != "secret==" {
				return 401, ""
			}
			return 200, "i-17"
		}
		return 404, "<html>not found</html>"
	}
}

func TestEachServiceIsAskedInItsWay(t *testing.T) {
	awsTTL, aws := "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
	aliTTL, ali := "X-aliyun-ecs-metadata-token-ttl-seconds", "X-aliyun-ecs-metadata-token"
	for name, c := range map[string]struct {
		answers  func(r *http.Request) (int, string)
		from, id string
	}{
		"aws, v2 alone":     {session(awsTTL, aws, true), "aws", "i-17"},
		"aws, v1":           {session("none", "none", false), "aws", "i-17"},
		"alibaba, hardened": {session(aliTTL, ali, true), "alibaba", "i-17"},
		"gcp": {func(r *http.Request) (int, string) {
			if r.URL.Path == "/computeMetadata/v1/instance/id" && r.Header.Get("Metadata-Flavor") == "Google" {
				return 200, "4520031799277581759"
			}
			return 403, ""
		}, "gcp", "4520031799277581759"},
		"azure": {func(r *http.Request) (int, string) {
			if r.URL.Path == "/metadata/instance/compute/vmId" && r.Header.Get("Metadata") == "true" && r.FormValue("format") == "text" && r.FormValue("api-version") != "" {
				return 200, "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
			}
			return 400, `{"error":"Bad request"}`
		}, "azure", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		from, id, err := Ask(ctx, At(service(t, c.answers)+"/"))
		cancel()
		if from != c.from || id != c.id || err != nil {
			t.Errorf("%s: %q from %q, %v; want %q from %q", name, id, from, err, c.id, c.from)
		}
	}
}

// TestAnswersThatAreNone: what answers for everything, or nothing, or never, names no
// instance, and takes no longer than allowed.
func TestAnswersThatAreNone(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	refusing := httptest.NewServer(nil)
	refusing.Close()
	for name, base := range map[string]string{
		"a proxy's page": service(t, func(*http.Request) (int, string) { return 200, "<html><body>Please log in</body></html>" }),
		"empty":          service(t, func(*http.Request) (int, string) { return 200, "" }),
		"redirects":      service(t, func(*http.Request) (int, string) { return 302, "i-17" }),
		"broken":         service(t, func(*http.Request) (int, string) { return 500, "i-17" }),
		"silent":         service(t, func(*http.Request) (int, string) { <-hang; return 200, "i-17" }),
		"nobody there":   refusing.URL,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		begun := time.Now()
		from, id, err := Ask(ctx, At(base))
		cancel()
		if id != "" || from != "" || err == nil {
			t.Errorf("%s: %q from %q, %v", name, id, from, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: asking took %v, it was given 200ms", name, took)
		}
	}
}
