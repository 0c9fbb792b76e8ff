// Package notify brings the notices of alerts to the people who must know of them,
// through channels that fail independently of each other.
//
// An event of an incident becomes a notice, which is due on each channel of its rule.
// A goroutine for each channel sends what is due there: the first at once, and what
// comes within the next ten seconds in one message after them. What a channel does not
// take is tried again with back-off; after a minute its fallback is told as well.
//
// Invariants:
//   - A notice is in the Store before it is first sent, and what a channel has taken is
//     in the Store before anything else is sent there. So nothing is sent twice, unless
//     the process dies between the channel's answer and the Store's.
//   - A channel that hangs or fails holds back neither the others nor the engine.
//   - No error and no log line holds an address or a secret of a channel.
package notify
