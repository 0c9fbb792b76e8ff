package notices

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRobotIsGoneAndTheMailComesAfterAMinute: nobody listens at DingTalk's address. A real
// Alertmanager is told within seconds, of what fires later, too; after a minute the
// fallback's mail comes, once, and says why; the robot hears of it when it is back.
func TestRobotIsGoneAndTheMailComesAfterAMinute(t *testing.T) {
	if os.Getenv("TAILWATER_TORTURE") == "" {
		t.Skip("it waits for a minute: set TAILWATER_TORTURE")
	}
	t.Parallel()
	w, r := newWorld(t), new(robot)
	m, am := w.mailServer("--smtp-require-starttls"), w.alertmanager()
	ding := fmt.Sprint("127.0.0.1:", w.port())
	w.configure(fmt.Sprintf(`
inputs: {apps: {files: '$DIR/logs/{project}/*.log', format: json}}
alerts: {app-errors: {per: project, when: error >= 10 or fatal >= 1, notify: [oncall, am]}}
notify:
  oncall: {dingtalk: {webhook: 'http://%s/robot/send?access_token=%s', secret: %s}, fallback: mail}
  am: {alertmanager: {urls: ['%s']}}
  mail:
    smtp: {addr: '127.0.0.1:%d', user: tw, password: hunter2-hunter2, from: tw@example.com, to: [oncall@example.com], tls: {ca: $DIR/cert.pem}}
`, ding, robotToken, robotSecret, am.url, m.smtp))
	w.start()
	fires := func(project string) {
		w.log(project, "fatal", 1, time.Now())
		began := time.Now()
		w.eventually(project+" in Alertmanager", func() error {
			all, err := am.alerts("app-errors")
			if err == nil && all[project].Labels == nil {
				err = fmt.Errorf("there are %v", all)
			}
			return err
		})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s was told after %s: the channel that is down has held it back", project, took)
		}
	}
	letters := func() []letter {
		all, err := m.letters()
		w.check(err)
		return all
	}
	began := time.Now()
	fires("pay")
	w.eventually("a try that fails", func() error {
		metrics, err := w.agent.Metrics()
		if err == nil && metrics.Sum("notices_total", `channel="oncall"`, `result="retried"`) == 0 {
			err = fmt.Errorf("none has failed")
		}
		return err
	})
	if all := letters(); time.Since(began) < time.Minute && len(all) > 0 {
		t.Errorf("the fallback was told after %s: %+v", time.Since(began), all)
	}
	text, _ := m.read("[FIRING] app-errors project=pay")
	if took := time.Since(began); took < time.Minute {
		t.Errorf("the fallback was told after %s", took)
	}
	contains(t, "mail", text, "sent here because oncall does not deliver", "fatal = 1 (limit: >= 1)", "no stock of item 17")
	fires("cart")
	l, err := net.Listen("tcp", ding)
	w.check(err)
	s := &http.Server{Handler: r}
	go s.Serve(l)
	defer s.Close()
	w.eventually("both notices at the robot", func() error {
		texts, _ := r.heard()
		for _, project := range []string{"pay", "cart"} {
			if n := strings.Count(strings.Join(texts, "\n"), "project="+project+":"); n != 1 {
				return fmt.Errorf("%s was told %d times: %q", project, n, texts)
			}
		}
		return nil
	})
	w.stop()
	if all := letters(); len(all) != 1 {
		t.Errorf("%d mails: %+v", len(all), all)
	}
	if texts, _ := r.heard(); len(texts) > 2 {
		t.Errorf("the robot was told %d times: %q", len(texts), texts)
	}
}
