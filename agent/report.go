package agent

import (
	"context"
	"fmt"
	"time"
)

// reportEvery is how often the progress line comes.
const reportEvery = 10 * time.Second

// report writes a line about the work to the terminal until ctx ends.
func (a *Agent) report(ctx context.Context) {
	if a.opts.Progress == nil {
		return
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var was Status
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := a.Status()
		fmt.Fprintln(a.opts.Progress, progressLine(was, now))
		was = now
	}
}

// progressLine tells what has happened between two stocks.
func progressLine(was, now Status) string {
	var lines, bytes, lag, delivered int64
	for _, in := range now.Inputs {
		lines, bytes, lag = lines+in.Lines, bytes+in.Bytes, lag+in.LagBytes
	}
	for _, in := range was.Inputs {
		lines, bytes = lines-in.Lines, bytes-in.Bytes
	}
	for _, out := range now.Outputs {
		delivered += out.Delivered
	}
	seconds := max(now.Uptime-was.Uptime, 0.001)
	line := fmt.Sprintf("%.0f lines/s, %s/s read; %d delivered in all; %s behind", float64(lines)/seconds, sizeText(float64(bytes)/seconds), delivered, sizeText(float64(lag)))
	for _, out := range now.Outputs {
		if out.State != "up" {
			line += fmt.Sprintf("; output %s retrying: %s", out.Name, out.LastError)
		}
	}
	return line
}

// sizeText is a number of bytes for people.
func sizeText(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
