package notify

import "time"

// Pace is how many notices a channel is told one by one: up to Few Within that time.
// More of them are a storm, which comes in few messages. The zero Pace is that of a
// channel whose receiver groups by itself: nothing is ever held back.
type Pace struct {
	Few    int
	Within time.Duration
	// Often is set where a storm that does not fit into one message may follow in others
	// at once.
	Often bool
}

// The paces of channels that group. Robots of DingTalk take 20 messages a minute: three
// alone and one that gathers, each 12 s, are as many. A program does not mind being told
// often.
var (
	ForPeople   = Pace{Few: 3, Within: 12 * time.Second}
	ForPrograms = Pace{Few: 10, Within: time.Second, Often: true}
)

// Paced is a Channel with a pace of its own; that of the others is ForPeople.
type Paced interface{ Pace() Pace }

const (
	// linger is how long a notice waits for others of the same moment.
	linger = 200 * time.Millisecond
	// gatherFirst is how long after the first message of a storm the second one gathers
	// what has fired at once but was not found at once.
	gatherFirst = 700 * time.Millisecond
	// gatherFor is how long after a message of a storm the next one gathers.
	gatherFor = 10 * time.Second
)

// pacer decides when a channel's next message leaves.
type pacer struct {
	pace Pace
	came []time.Time // when the last Few+1 notices became due, the oldest first
	// sent is when the last message left, quiet how long after the one before; full says
	// that it could not hold all that was due.
	sent  time.Time
	quiet time.Duration
	full  bool
}

// due notes that a notice became due.
func (p *pacer) due(now time.Time) {
	if len(p.came) > p.pace.Few {
		p.came = append(p.came[:0], p.came[1:]...)
	}
	p.came = append(p.came, now)
}

// left notes that a message has left.
func (p *pacer) left(now time.Time, full bool) {
	p.quiet, p.sent, p.full = now.Sub(p.sent), now, full
}

// storm tells whether more than a few notices have come lately.
func (p *pacer) storm() bool {
	n := len(p.came)
	return n > p.pace.Few && p.came[n-1].Sub(p.came[0]) < p.pace.Within
}

// next returns when the message leaves that the notice opens which became due at first.
func (p *pacer) next(first time.Time) time.Time {
	if p.pace == (Pace{}) {
		return first
	}
	at := first.Add(linger)
	if !p.storm() {
		return at
	}
	gather := gatherFor
	switch {
	case p.quiet >= 2*gatherFor:
		gather = gatherFirst
	case p.full && p.pace.Often:
		gather = 0 // to wait would not make it fewer messages
	}
	if gathered := p.sent.Add(gather); gathered.After(at) {
		return gathered
	}
	return at
}
