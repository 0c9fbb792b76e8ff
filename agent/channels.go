package agent

import (
	"fmt"
	"net/http"
	"reflect"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/notify/alertmanager"
	"github.com/tailwater/tailwater/alert/notify/dingtalk"
	"github.com/tailwater/tailwater/alert/notify/mail"
	"github.com/tailwater/tailwater/config"
)

// channel is a configured channel, to be known again at a reload.
type channel struct {
	cfg  config.Channel
	lane notify.Lane
}

// newChannels makes the channels of the configuration; those of before that are the
// same are kept. Where none is configured, notices go to the agent's log.
func (a *Agent) newChannels(cfg *config.Config, before map[string]channel) (map[string]channel, error) {
	all := make(map[string]channel)
	for _, c := range cfg.Notify {
		next := channel{cfg: *c}
		next.cfg.Fallback = ""
		if was, ok := before[c.Name]; ok && reflect.DeepEqual(was.cfg, next.cfg) {
			next = was
		} else {
			made, err := a.newChannel(c)
			if err != nil {
				return nil, fmt.Errorf("notify.%s: %w", c.Name, err)
			}
			next.lane = notify.Lane{Name: c.Name, Channel: made}
		}
		next.lane.Fallback = c.Fallback
		all[c.Name] = next
	}
	if len(all) == 0 {
		own, ok := before[ownLog]
		if !ok {
			own.lane = notify.Lane{Name: ownLog, Channel: &notify.LogChannel{Log: a.log}}
		}
		all[ownLog] = own
	}
	return all, nil
}

// ownLog is the channel that stands in where none is configured.
const ownLog = "log"

func (a *Agent) newChannel(c *config.Channel) (notify.Channel, error) {
	if a.opts.channelFor != nil {
		return a.opts.channelFor(c), nil
	}
	switch c.Kind() {
	case "dingtalk":
		k := c.DingTalk
		return &dingtalk.Robot{Webhook: k.Webhook.Reveal(), Secret: k.Secret.Reveal(), Mobiles: k.Mobiles, All: k.AtAll}, nil
	case "smtp":
		m := c.SMTP.Mail()
		var err error
		if m.TLS, err = c.SMTP.TLS.Config(); err != nil {
			return nil, err
		}
		return mail.New(m)
	case "alertmanager":
		k := c.Alertmanager
		made := &alertmanager.Cluster{URLs: k.URLs, User: k.User, Password: k.Password.Reveal()}
		t, err := k.TLS.Config()
		if t != nil {
			transport := http.DefaultTransport.(*http.Transport).Clone()
			transport.TLSClientConfig = t
			made.Client = notify.NewClient(transport)
		}
		return made, err
	case "webhook":
		return c.Webhook.Hook()
	}
	return nil, fmt.Errorf("a channel of kind %q is not known", c.Kind())
}
