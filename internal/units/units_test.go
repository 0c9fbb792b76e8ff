package units

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSizesAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]Bytes{
		"0": 0, "1": 1, "4096": 4096, "64MiB": 64 << 20, "64Mi": 64 << 20, "1gib": 1 << 30, "1.5GiB": 3 << 29,
		"10MB": 1e7, "5 KiB": 5 << 10, " 7b ": 7, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestBadSizesSayWhatToWrite(t *testing.T) {
	for in, want := range map[string]string{
		"": "not a size", "MiB": "not a size", ".": "not a size", "1.2.3": "not a size", "-1": "negative", "64M": "write 64MiB",
		"3 parsecs": "unknown unit", "1e3": "unknown unit", "9223372036854775808": "too large", "8388608TiB": "too large",
		strings.Repeat("9", 400) + "KiB": "too large",
	} {
		if got, err := ParseBytes(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %d, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestDurationsAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "10s": 10 * time.Second, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond, "7d": 168 * time.Hour,
		"1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%q is %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestBadDurationsSayWhatToWrite(t *testing.T) {
	for in, want := range map[string]string{
		"": "not a duration", "5": "write 5s", "-5s": "negative", "-5": "negative", "1.5": "no unit", "soon": "not a duration", "d": "not a duration",
		"1d-2h": "not a duration", "106752d": "too long", "106751d24h": "too long", "99999999999999999999d": "not a duration", "5S": "not a duration",
	} {
		if got, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Millisecond, time.Second, time.Minute, time.Hour, 90 * time.Minute, 24 * time.Hour, 36 * time.Hour, 10*time.Hour + 5, math.MaxInt64} {
		if back, err := ParseDuration(FormatDuration(d)); err != nil || back != d {
			t.Errorf("%v is written %s and read %v, %v", d, FormatDuration(d), back, err)
		}
	}
	for _, b := range []Bytes{0, 1, 1000, KiB, 3 * MiB, GiB + 1, math.MaxInt64} {
		if back, err := ParseBytes(b.String()); err != nil || back != b {
			t.Errorf("%d is written %s and read %d, %v", b, b, back, err)
		}
	}
	if s := FormatDuration(time.Hour); s != "1h" {
		t.Errorf("an hour is written %s", s)
	}
}

func TestSecretIsNowhereToBeSeen(t *testing.T) {
	const token = "hunter2"
	in := struct {
		Token Secret
		Ptr   *Secret
		List  []Secret
	}{token, new(Secret), []Secret{token}}
	*in.Ptr = token
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+verb+"\n", in, in.Token)
	}
	if err := json.NewEncoder(&out).Encode(in); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "in", in, "token", in.Token)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "in", in, "token", in.Token)
	if strings.Contains(out.String(), token) || strings.Contains(out.String(), fmt.Sprintf("%x", token)) {
		t.Errorf("it is seen in\n%s", out.String())
	}
	if Secret("").String() != "" || Secret(token).Reveal() != token {
		t.Error("not itself")
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"", "0", "64MiB", "1.5GiB", "-3", "10s", "1m30s", "7d", "1d-2h", "9e99d", "..", "١٢s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := ParseBytes(s); err == nil {
			if back, err := ParseBytes(b.String()); b < 0 || err != nil || back != b {
				t.Fatalf("%q is %d and comes back as %d, %v", s, b, back, err)
			}
		}
		if d, err := ParseDuration(s); err == nil {
			if back, err := ParseDuration(FormatDuration(d)); d < 0 || err != nil || back != d {
				t.Fatalf("%q is %v and comes back as %v, %v", s, d, back, err)
			}
		}
	})
}
