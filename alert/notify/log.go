package notify

import (
	"context"
	"log/slog"
)

// LogChannel writes notices to the agent's own log: where no channel is configured, so
// that an alert is seen on the terminal.
type LogChannel struct{ Log *slog.Logger }

// Pace holds nothing back.
func (*LogChannel) Pace() Pace { return Pace{} }

// Send logs each notice: a warning while it fires.
func (c *LogChannel) Send(ctx context.Context, m *Message) error {
	if m.Report != nil {
		c.Log.LogAttrs(ctx, slog.LevelInfo, "report: "+m.Report.Title())
	}
	for _, text := range m.Texts {
		c.Log.LogAttrs(ctx, slog.LevelWarn, text)
	}
	for i := range m.Items {
		it := &m.Items[i]
		level := slog.LevelWarn
		if !it.Firing() {
			level = slog.LevelInfo
		}
		attrs := []slog.Attr{slog.Time("began", it.Incident.Began.Local())}
		if len(it.Incident.Hosts) > 0 {
			attrs = append(attrs, slog.String("hosts", tallies(it.Incident.Hosts)))
		}
		if it.Firing() && len(it.Incident.Samples) > 0 {
			attrs = append(attrs, slog.String("sample", oneLine(it.Incident.Samples[0].Text, 200)))
		}
		c.Log.LogAttrs(ctx, level, "alert: "+it.Headline(), attrs...)
	}
	return nil
}
