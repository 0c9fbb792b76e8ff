package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes.
type Bytes int64

// The binary units, which sizes are written in.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// byteUnits are the spellings of a size's unit, in lower case. A bare K, M or G is
// not among them: half of all readers take it for the other one.
var byteUnits = map[string]Bytes{
	"": 1, "b": 1,
	"kib": KiB, "mib": MiB, "gib": GiB, "tib": TiB,
	"ki": KiB, "mi": MiB, "gi": GiB, "ti": TiB, // as Kubernetes writes them
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// ParseBytes reads a size such as 64MiB, 1.5GiB, 10MB or 4096 (bytes). The error
// says what to write instead.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
		end++
	}
	number, unit := text[:end], strings.ToLower(strings.TrimSpace(text[end:]))
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative; write a size such as 64MiB", s)
	}
	scale, known := byteUnits[unit]
	if number == "" || number == "." || strings.Count(number, ".") > 1 {
		return 0, fmt.Errorf("%q is not a size; write one such as 64MiB, or a number of bytes", s)
	}
	if !known {
		if u := strings.ToUpper(unit); u == "K" || u == "M" || u == "G" || u == "T" {
			return 0, fmt.Errorf("%q is ambiguous; write %s%siB (binary) or %s%sB (decimal)", s, number, u, number, u)
		}
		return 0, fmt.Errorf("%q has an unknown unit; write KiB, MiB or GiB, as in 64MiB", s)
	}
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
		if whole > math.MaxInt64/int64(scale) {
			return 0, fmt.Errorf("%q is too large; the most is %s", s, Bytes(math.MaxInt64/TiB)*TiB)
		}
		return Bytes(whole) * scale, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(scale) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large; the most is %s", s, Bytes(math.MaxInt64/TiB)*TiB)
	}
	return Bytes(f * float64(scale)), nil
}

// String writes the size in the largest binary unit that leaves no fraction, in a
// form that ParseBytes reads back.
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
