// Package kafka is the sink that writes to Kafka as an idempotent producer, below
// kafka-go's Writer: it encodes record batches itself, straight from the blocks, and
// sends them with Client.RawProduce.
//
// Invariants:
//   - A batch keeps its producer id, epoch and sequence through all its tries, so
//     that a broker that has it already says so instead of storing it twice.
//   - Batches of one partition are stored in the order of the queue.
//   - What is delivered was acknowledged by the broker as the configuration asks
//     (acks: all by default).
package kafka
