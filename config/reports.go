package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/report"
)

// Report says once a day what the day before was like.
type Report struct {
	Name string `yaml:",name" check:"name"`

	Count     string     `yaml:"count" required:"yes" also:"when level of" doc:"What is counted: a level, or a predicate over a line. All lines of the inputs are looked at, also those that keep leaves out." example:"warn"`
	At        string     `yaml:"at" default:"09:00" check:"clock" also:"time" doc:"When it is sent, by the clocks of zone: the report over the day before. One that was missed is sent when the agent is back."`
	Zone      string     `yaml:"zone" default:"Local" check:"zone" also:"timezone time_zone tz" doc:"Zone of the calendar days: Local, UTC, or a name such as Asia/Shanghai."`
	Input     []string   `yaml:"input" unset:"all but kafka inputs" min:"1" also:"inputs source" doc:"Inputs whose lines are looked at. Of a kafka input that is named here, all that it reads but what the same report has counted where an agent has read it."`
	Per       []string   `yaml:"per" unset:"one number" also:"by group_by group" doc:"Fields that make the groups." example:"project"`
	Scope     string     `yaml:"scope" unset:"fleet where an output or an input is Kafka, else host" oneof:"host fleet" doc:"Whose lines are counted together: those of this host, which reports itself, or those of all hosts of the fleet, through Kafka."`
	Over      int        `yaml:"over" unset:"nobody is told apart" min:"1" also:"limit threshold" doc:"Number of lines of a day above which a group gets a notice of its own, at once; once a day." example:"500"`
	MaxGroups int        `yaml:"max_groups" default:"1000" min:"1" max:"100000" doc:"Groups of a day; the lines of more are counted together, which the report says."`
	Labels    []Labelled `yaml:"labels" doc:"Constant labels of the notices that over gives." example:"{severity: ticket}"`
	Notify    []string   `yaml:"notify" unset:"all channels" min:"1" ref:"notify" also:"channels to receivers" doc:"Channels that get it." example:"[mail]"`
}

// Report compiles the report.
func (r *Report) Report() (*report.Report, error) {
	at, err := report.ParseAt(r.At)
	if err != nil {
		return nil, err
	}
	zone, err := loadZone(r.Zone)
	if err != nil {
		return nil, err
	}
	return r.compiled(at, zone)
}

func (r *Report) compiled(at time.Duration, zone *time.Location) (*report.Report, error) {
	return report.New(report.Config{
		Name: r.Name, Inputs: r.Input, Count: r.Count, Per: fields(r.Per), At: at, Zone: zone,
		Over: int64(r.Over), MaxGroups: r.MaxGroups, Labels: texts(r.Labels), Notify: r.Notify, Fleet: r.Scope == "fleet",
	})
}

// Check compiles the report.
func (r *Report) Check(problem func(key, text string)) {
	at, _ := report.ParseAt(r.At)
	zone, err := loadZone(r.Zone)
	if err != nil {
		zone = time.UTC // told already
	}
	_, err = r.compiled(at, zone)
	tellMistakes(err, r.Count, problem)
}

// tellMistakes tells each mistake in a rule or a report beside its key; src is the text
// that may have several lines.
func tellMistakes(err error, src string, problem func(key, text string)) {
	for _, e := range parts(err) {
		wrong := (*alert.Error)(nil)
		if !errors.As(e, &wrong) {
			problem("", e.Error())
			continue
		}
		problem(wrong.Key, placed(wrong, src))
	}
}

func checkClock(s string) error {
	_, err := report.ParseAt(s)
	return err
}

// Watchdog says to whom, and how often, tailwater says that its alerts are alive.
type Watchdog struct {
	Notify []string      `yaml:"notify" required:"yes" min:"1" ref:"notify" also:"channels to receivers" doc:"Channels of kind alertmanager, where the alert TailwaterWatchdog fires as long as the alerts are alive, or webhook." example:"[alertmanager]"`
	Every  time.Duration `yaml:"every" default:"1m" min:"5s" max:"1h" also:"interval" doc:"How often."`
}

// checkWatchdog wants machines at the other end: people do not notice what does not come.
func (c *Config) checkWatchdog(problem func(key, text string)) {
	if c.Watchdog == nil {
		return
	}
	if len(c.Notify) == 0 && len(c.Watchdog.Notify) > 0 {
		problem("watchdog.notify", "there is no section notify that defines channels; write one, with a channel of kind alertmanager or webhook")
	}
	for i, name := range c.Watchdog.Notify {
		for _, ch := range c.Notify {
			if kind := ch.Kind(); ch.Name == name && kind != "" && kind != "alertmanager" && kind != "webhook" {
				problem(fmt.Sprintf("watchdog.notify[%d]", i), fmt.Sprintf(
					"%s is of kind %s, whose readers would get a line every %s, and would not notice when it stops; name a channel of kind alertmanager, or a webhook that raises the alarm when nothing comes", name, kind, c.Watchdog.Every))
			}
		}
	}
}
