// A carrier made of npm's smpp: it shares no line with the gateway or the simulator.
//
//   node carrier.js PATH_OF_NODE_MODULES PASSWORD
//
// Prints {"port": N}, then every PDU it reads as one JSON object a line: {"pdu": {…}}; octets are written in hexadecimal.
// Orders come as JSON lines on standard input:
//   {"do": "deliver", "fields": {…}}   a deliver_sm; its response is printed as {"answer": {…}}
//   {"do": "throttle", "count": N}     so many submit_sm get ESME_RTHROTTLED
//   {"do": "silence", "count": N}      so many submit_sm get no answer
//   {"do": "enquire"} {"do": "unbind"} {"do": "cut"} {"do": "receipts", "state": "DELIVRD"}
"use strict";
const path = require("node:path");
const readline = require("node:readline");
const smpp = require(path.join(process.argv[2], "smpp"));

const password = process.argv[3];
const sessions = new Set();
const moods = { throttle: 0, silence: 0, state: "DELIVRD" };
let lastId = 0x5c82511c;

function say(what) {
  process.stdout.write(`${JSON.stringify(what, readable)}\n`);
}

function readable(_key, value) {
  return value?.type === "Buffer" ? { hex: Buffer.from(value.data).toString("hex") } : value;
}

function shown(pdu) {
  return Object.fromEntries(Object.entries(pdu).filter(([, value]) => typeof value !== "function"));
}

function receipt(session, submitted, id) {
  if (!(submitted.registered_delivery & 3)) return;
  const at = new Date().toISOString().replace(/[-:T]/g, "").slice(2, 12);
  session.deliver_sm({
    esm_class: 4,
    source_addr_ton: submitted.dest_addr_ton,
    source_addr_npi: submitted.dest_addr_npi,
    source_addr: submitted.destination_addr,
    dest_addr_ton: submitted.source_addr_ton,
    dest_addr_npi: submitted.source_addr_npi,
    destination_addr: submitted.source_addr,
    data_coding: 0,
    // Hexadecimal in the answer, decimal in the receipt: the oldest trap there is.
    short_message:
      `id:${parseInt(id, 16)} sub:001 dlvrd:001 submit date:${at} done date:${at} stat:${moods.state} err:000 text:`,
  }, (answer) => say({ receipt_answered: answer.command_status }));
}

const binds = ["bind_transceiver", "bind_transmitter", "bind_receiver"];

const server = smpp.createServer((session) => {
  session.on("error", (error) => say({ error: String(error) }));
  session.on("close", () => { sessions.delete(session); say({ closed: true }); });
  session.on("pdu", (pdu) => {
    say({ pdu: shown(pdu) });
    if (binds.includes(pdu.command)) {
      const right = pdu.password === password;
      session.send(pdu.response(right ? { system_id: "npm" } : { command_status: smpp.ESME_RINVPASWD }));
      if (right) sessions.add(session);
    } else if (pdu.command === "submit_sm") {
      if (moods.silence > 0) { moods.silence -= 1; return; }
      if (moods.throttle > 0) {
        moods.throttle -= 1;
        session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
        return;
      }
      lastId += 1;
      const id = lastId.toString(16);
      session.send(pdu.response({ message_id: id }));
      receipt(session, pdu, id);
    } else if (pdu.command === "enquire_link" || pdu.command === "unbind") {
      session.send(pdu.response());
      if (pdu.command === "unbind") session.close();
    }
  });
});

const orders = {
  deliver: (session, order) => {
    const fields = { ...order.fields };
    if (fields.hex !== undefined) { fields.short_message = Buffer.from(fields.hex, "hex"); delete fields.hex; }
    session.deliver_sm(fields, (answer) => say({ answer: shown(answer) }));
  },
  enquire: (session) => session.enquire_link({}, (answer) => say({ answer: shown(answer) })),
  unbind: (session) => session.unbind({}, (answer) => { say({ answer: shown(answer) }); session.close(); }),
  cut: (session) => session.destroy(),
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const order = JSON.parse(line);
  if (order.do === "throttle" || order.do === "silence") { moods[order.do] = order.count; return; }
  if (order.do === "receipts") { moods.state = order.state; return; }
  for (const session of sessions) orders[order.do](session, order);
}).on("close", () => process.exit(0));

server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
