// Sends numbered records with acks through Fluentd's own client for Node.js:
//
//   node fluent.js PORT MODE COUNT [SHARED_KEY]
//
// It ends with an error when a record has no ack.
"use strict";
const path = require("node:path");
const {FluentClient} = require(path.join(process.env.FLUENT_NODE, "node_modules/@fluent-org/logger"));

const [port, mode, count, key] = process.argv.slice(2);
const client = new FluentClient("shop", {
  eventMode: mode,
  milliseconds: true, // EventTime
  ack: {ackTimeout: 20000},
  flushInterval: 5, // records gather into chunks
  socket: {host: "127.0.0.1", port: Number(port), timeout: 10000},
  ...(key ? {security: {clientHostname: "node.test", sharedKey: key}} : {}),
});

process.exitCode = 1; // it also ends when nothing is left that could bring an ack
const at = Date.parse("2026-11-25T10:00:00.250Z");
const sent = [];
for (let n = 0; n < Number(count); n++) {
  sent.push(client.emit("app", {message: `${mode} ${n}`, n, level: "warn", nested: {k: 1.5}}, at));
}
Promise.all(sent)
  .then(() => {
    process.exitCode = 0;
    return client.disconnect();
  })
  .catch((err) => {
    console.error(err);
    process.exit(1);
  });
