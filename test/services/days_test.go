package services

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/alert/notify"
)

// noonZone is one in which it is about noon, so that no day ends during a test, with the
// dates of yesterday and the day before there.
func noonZone() (zone, yesterday, before string) {
	east := 12 - time.Now().UTC().Hour() // hours to add
	there := time.Now().UTC().Add(time.Duration(east) * time.Hour)
	return fmt.Sprintf("Etc/GMT%+d", -east), there.AddDate(0, 0, -1).Format(time.DateOnly), there.AddDate(0, 0, -2).Format(time.DateOnly)
}

func (p *pager) days() []notify.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.reports)
}

// A report is one over all hosts, and its numbers are exact, though a host and an
// evaluator are killed and all comes twice; it comes once.
func TestReportOverRealHosts(t *testing.T) {
	zone, yesterday, before := noonZone()
	name := fmt.Sprint("days-", time.Now().Unix())
	f := newFleetRig(t, name, servers.Brokers("KAFKA_BROKERS"), 3, 2, fleetConfig{
		host: `
inputs: {apps: {files: ['$DIR/logs/{project}/*.log'], format: app, zone: ` + zone + `}}
outputs: {queue: {kafka: {brokers: ['$BROKER'], topic: '$NAME-logs'}}}
`,
		evaluator: `
inputs: {relay: {kafka: {brokers: ['$BROKER'], topics: ['$NAME-logs'], group: $NAME}}}
outputs: {nowhere: {discard: {}}}
`,
		rules: `
reports:
  daily-warn: {at: '23:59', zone: ` + zone + `, count: warn, per: project, over: 20}
`,
	})
	warn := func(host int, project, day string, n int) {
		t.Helper()
		dir := filepath.Join(f.hosts[host].Dir, "logs", project)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		log, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		for i := range n {
			if _, err := fmt.Fprintf(log, "%s 12:00:00.000 WARN [main] shop.Cart - stock of item %d is low\n", day, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.start(f.evaluators...)
	f.start(f.hosts...)
	f.decided(60 * time.Second)
	for i := range f.hosts {
		warn(i, "pay", yesterday, 6)
		warn(i, "pay", before, 4)
		warn(i, fmt.Sprint("own-", i), yesterday, i+1)
	}
	// markers are told of when all before them is known.
	markers := func(mark string) {
		t.Helper()
		for i := range f.hosts {
			warn(i, fmt.Sprint(mark, "-", i), yesterday, 21)
		}
		for i := range f.hosts {
			f.told(fmt.Sprint(mark, "-", i), 1, 60*time.Second)
		}
	}
	markers("first")
	f.untold("pay", 0)
	f.kill(f.hosts[0])
	f.kill(f.evaluators[0])
	warn(0, "pay", yesterday, 1)
	warn(1, "pay", yesterday, 1)
	f.start(f.hosts[0], f.evaluators[0])
	f.decided(60 * time.Second)
	f.again(f.topic+"-days", func(m kafkago.Message) bool { return bytes.HasPrefix(m.Key, []byte("count")) })
	markers("second")
	f.untold("pay", 0)
	warn(2, "pay", yesterday, 1)
	it := f.told("pay", 1, 30*time.Second)[0]
	if in := it.Incident; len(in.Hosts) != 3 || in.Hosts[0].Lines != 7 || it.Labels["host"] != "" ||
		it.Headline() != fmt.Sprintf("[OVER] daily-warn project=pay: warn = 21 on %s (limit: > 20)", yesterday) {
		t.Errorf("%s %+v", it.Headline(), it)
	}
	// Its time is over: no host has to be asked for that.
	for _, h := range f.evaluators {
		text, err := os.ReadFile(h.Config())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.Config(), bytes.Replace(text, []byte("23:59"), []byte("00:00"), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.poll(90*time.Second, "the report", func() error {
		if n := len(f.pager.days()); n == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	f.stop(f.evaluators[0])
	f.decided(60 * time.Second)
	markers("third")
	all := f.pager.days()
	if len(all) != 1 {
		t.Fatalf("%d reports", len(all))
	}
	r := all[0]
	rows := make(map[string]notify.ReportRow)
	for _, row := range r.Rows {
		rows[row.Label()] = row
	}
	pay := rows["pay"]
	if r.Host != "" || r.Day != yesterday || pay.Lines != 21 || pay.Before != 12 || !pay.Over || rows["own-0"].Lines != 1 || rows["own-1"].Lines != 2 || rows["own-2"].Lines != 3 {
		t.Errorf("%s: %+v", r.Title(), r)
	}
	if len(pay.Top) != 1 || pay.Top[0].Text != "stock of item * is low" || pay.Top[0].Lines != 21 {
		t.Errorf("%+v", pay.Top)
	}
	if want := fmt.Sprintf("[REPORT] daily-warn of %s: ", yesterday); !strings.HasPrefix(r.Title(), want) {
		t.Errorf("%s, want %s..", r.Title(), want)
	}
	for _, project := range []string{"pay", "second-2"} {
		f.untold(project, 1)
	}
	items, _ := f.pager.of("first-0")
	f.same(items)
}
