package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// quietZone is one in which it is about noon, so that no day ends during a test, with
// yesterday's date there.
func quietZone() (zone, yesterday string) {
	east := 12 - time.Now().UTC().Hour() // hours to add
	zone = fmt.Sprintf("Etc/GMT%+d", -east)
	return zone, time.Now().UTC().Add(time.Duration(east)*time.Hour).AddDate(0, 0, -1).Format("2006-01-02")
}

const reporting = `
inputs:
  apps: {files: '$DIR/logs/{project}/*.log', format: app, keep: [fatal], multiline: none, zone: ZONE}
outputs:
  out: {discard: {}}
reports:
  daily-warn: {at: 'AT', zone: ZONE, count: warn, per: project, over: 3}
notify:
  pager: {webhook: {url: 'http://localhost/'}}
`

// TestReportThroughRestartsAndAReload: what is counted before a restart and after it is
// one sum; a report that becomes due is sent once, and not by the next process again.
func TestReportThroughRestartsAndAReload(t *testing.T) {
	r := newRig(t)
	p := r.page()
	zone, yesterday := quietZone()
	configure := func(at string) { r.configure(strings.NewReplacer("ZONE", zone, "AT", at).Replace(reporting)) }
	warn := yesterday + " 12:00:00.000 WARN [main] shop.Cart - stock of item 17 is low\n"
	for _, project := range []string{"pay", "shop"} {
		r.mkdir("logs/" + project)
	}
	configure("23:59") // yesterday's is still to come
	r.append("logs/pay/a.log", strings.Repeat(warn, 2))
	r.start()
	r.append("logs/shop/a.log", warn+strings.Replace(warn, "WARN", "INFO", 1))
	r.eventually("four lines", func() bool { return r.agent.metrics.input("apps").lines.Load() == 4 })
	r.stop()
	r.append("logs/pay/a.log", warn)
	r.start()
	r.append("logs/pay/b.log", warn)
	r.eventually("a project over its limit", func() bool { return p.count() == 1 })
	it := p.got[0]
	if it.Headline() != fmt.Sprintf("[OVER] daily-warn project=pay: warn = 4 on %s (limit: > 3)", yesterday) || it.Labels["rule"] != "daily-warn" || it.Labels["project"] != "pay" {
		t.Errorf("%s %v", it.Headline(), it.Labels)
	}
	if len(p.days()) != 0 {
		t.Error("the report comes before its time")
	}
	configure("00:00") // its time is over
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the report", func() bool { return len(p.days()) == 1 })
	host := r.agent.host
	r.stop()
	r.start()
	r.append("logs/pay/b.log", strings.Replace(warn, "WARN", "FATAL", 1))
	r.eventually("a line", func() bool { return r.agent.metrics.input("apps").lines.Load() == 1 })
	r.eventually("the time at which a new process would tell", func() bool { return time.Since(r.agent.started) > 4*time.Second })
	if p.count() != 1 || len(p.days()) != 1 {
		t.Errorf("%d notices, %d reports", p.count(), len(p.days()))
	}
	d := p.days()[0]
	if d.Title() != fmt.Sprintf("[REPORT] daily-warn of %s on %s: 5 warn", yesterday, host) || len(d.Rows) != 2 || d.Rows[0].Label() != "pay" || d.Rows[0].Lines != 4 || !d.Rows[0].Over || d.Rows[1].Lines != 1 {
		t.Errorf("%s: %+v", d.Title(), d.Rows)
	}
	if top := d.Rows[0].Top; len(top) != 1 || top[0].Text != "stock of item * is low" || top[0].Lines != 4 {
		t.Errorf("%+v", top)
	}
}
