package report

import (
	"fmt"
	"time"
)

// Day is a calendar day, as the number of days since 1970-01-01.
type Day int32

const dayLayout = "2006-01-02"

// String writes the day as 2006-01-02.
func (d Day) String() string { return time.Unix(int64(d)*86400, 0).UTC().Format(dayLayout) }

// parseDay reads what String writes.
func parseDay(s string) (Day, error) {
	t, err := time.Parse(dayLayout, s)
	return Day(t.Unix() / 86400), err
}

// dayOf returns the day of a time in its zone.
func dayOf(t time.Time) Day {
	_, offset := t.Zone()
	return Day(floorDiv(t.Unix()+int64(offset), 86400))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// at returns the moment of the day at which the clocks of the zone show so much since
// midnight; where they skip it, the moment at which they do, and where they show it
// twice, the first one.
func (d Day) at(zone *time.Location, sinceMidnight time.Duration) time.Time {
	wall := int64(d)*86400 + int64(sinceMidnight/time.Second)
	// The offset is that of some hours before or after: what of both fits is the time.
	before := time.Unix(wall, 0).Add(-26 * time.Hour).In(zone)
	for {
		_, offset := before.Zone()
		_, end := before.ZoneBounds()
		t := time.Unix(wall-int64(offset), 0).In(zone)
		if end.IsZero() || t.Before(end) {
			if t.Before(before) {
				return before // skipped: the clocks were past it when this offset began
			}
			return t
		}
		before = end
	}
}

// dayBounds remembers the day of one line for the next: most are of the same.
type dayBounds struct {
	from, to int64 // Unix ms
	day      Day
}

// of returns the day of a time in Unix milliseconds.
func (b *dayBounds) of(milli int64, zone *time.Location) Day {
	if milli >= b.from && milli < b.to {
		return b.day
	}
	t := time.UnixMilli(milli).In(zone)
	b.day = dayOf(t)
	_, offset := t.Zone()
	midnight := (int64(b.day)*86400 - int64(offset)) * 1000
	b.from, b.to = midnight, midnight+86400_000
	// Within the day the offset may change.
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		b.from = max(b.from, start.UnixMilli())
	}
	if !end.IsZero() {
		b.to = min(b.to, end.UnixMilli())
	}
	return b.day
}

// ParseAt reads a time of day, as in 09:00.
func ParseAt(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day; write HH:MM from 00:00 to 23:59, as in 09:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}
