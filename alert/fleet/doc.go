// Package fleet counts the rules of scope fleet over all hosts, through Kafka.
//
// A Node publishes, twice a second, what its engine has counted by second, to the
// partition of the topic of counts that a hash of rule and group gives; and to each
// partition, once a second, how far it has read. An Evaluator is a member of a consumer
// group. Of each partition that it is given it adds the nodes' counts up in an engine,
// which decides; it hands what is to be told to the channels, and says on a topic of
// heartbeats that it lives and what is firing. Nodes that hear no heartbeat for a while
// decide each on its own counts, and say so.
//
// What is counted is not kept twice: a successor counts the window anew from the topic.
// What was decided is in a compacted topic: incidents, the notices that not all channels
// have taken yet, and, written last, how far the rules are decided and the offset of the
// counts that belongs to it.
//
// Reports are counted the same way, by day and not by second. Each node writes its sums of
// a group and a day under a key of their own to a compacted topic of days, with marks of
// how far it is; so the topic is all the state of the sums. All of a report is in one
// partition, whose member adds the nodes up in a daybook, tells what is due, and writes
// what it has told into the same partition.
//
// Silences are in the topic of states, too, under keys of their own, which all processes
// read and write.
//
// Invariants:
//   - Counts are idempotent (node, rule, group, second or day, version): records that
//     come again, late or in another order change nothing.
//   - Only the member that a partition is given to decides, and only while it is sure to
//     be one: it stops when it has stood still for longer than the group waits.
//   - A notice is in the topic of states, or of days, before it is handed to the channels,
//     and goes from there only when they have answered: a successor sends what is left.
//   - With Kafka down a node keeps what it has not published, within bounds, and does
//     not wait for anything.
package fleet
