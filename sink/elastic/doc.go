// Package elastic is the sink that writes to Elasticsearch with the bulk API, through
// the transport of the official client. The transport alone is used, as the client
// above it refuses servers that do not call themselves Elasticsearch.
//
// Invariants:
//   - Every document is created under its own id, so that a repeated request stores
//     nothing twice: a version conflict means delivered.
//   - Each item of an answer is judged by itself; an answer that never came says
//     nothing, and the whole request is repeated.
package elastic
