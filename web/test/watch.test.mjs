// watch.js against the bytes of the Go package (watch_test.go) and on a page with a
// network of its own.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Bad } from "../src/verify.js";

const words = JSON.parse(await readFile(new URL("../../internal/portal/testdata/cards.json", import.meta.url))).words.en;
const { vkey, statement } = JSON.parse(await readFile(new URL("statement.json", import.meta.url)));

let click, out, later;
globalThis.document = {
  title: "My data",
  getElementById: (id) => (id === "words" ? { textContent: JSON.stringify(words) } : out),
  addEventListener: (_, f) => { click = f; },
};
globalThis.setTimeout = (f) => { later = f; };
const { grew, step } = await import("../src/watch.js");

const key = { year: 2026, key: Buffer.from("1374b769d1284aff8331186aae3d38552f92278254b5ca6b59bc1965048e382f", "hex").toString("base64") };
const mine = Buffer.from("0d2d3dc98f3d8925", "hex"), other = Buffer.from("0011223344556677", "hex");
const epoch = (labels, over = {}) => ({ kind: "heads", time: "2026-11-28T07:00:00.000Z",
  heads: { epoch: 41, watch: createHash("sha256").update(labels).digest("base64url"), ...over } });

for (const [name, labels, want] of [
  ["with others", Buffer.concat([other, mine]), true], ["alone", mine, true], ["others alone", other, false], ["nobody", Buffer.alloc(0), false],
  ["across two labels", Buffer.concat([mine.subarray(4), mine.subarray(0, 4), mine.subarray(4), mine.subarray(0, 4)]), false],
]) test("a label is found: " + name, async () => assert.equal(await grew(key, epoch(labels), labels), want));

test("a label of another epoch is not", async () => assert.equal(await grew(key, epoch(mine, { epoch: 42 }), mine), false));
for (const [name, e, labels] of [["labels left out", epoch(mine), other], ["half a label", epoch(mine.subarray(4)), mine.subarray(4)], ["no labels", epoch(mine, { watch: "" }), mine]]) {
  test("refuses " + name, () => assert.rejects(grew(key, e, labels), Bad));
}

/** serve answers like a node whose last epoch is the statement's. */
function serve(over = {}) {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(url);
    const { status = 200, body } = over[url] ?? (url === "/ledger/watch-key" ? { body: key } : url.startsWith("/ledger/heads") ? { body: statement.epoch } : { body: new ArrayBuffer(0) });
    return { ok: status === 200, status, json: async () => structuredClone(body), arrayBuffer: async () => body };
  };
  return asked;
}

test("the first look begins with the newest epoch and asks for no labels", async () => {
  const asked = serve();
  assert.deepEqual(await step(0, vkey), { seen: 1, found: false });
  assert.deepEqual(asked, ["/ledger/watch-key", "/ledger/heads"]);
});

test("the key is fetched once", async () => {
  const asked = serve(), kept = {};
  for (let i = 0; i < 3; i++) await step(0, vkey, kept);
  assert.deepEqual(asked.filter((url) => url === "/ledger/watch-key"), ["/ledger/watch-key"]);
});

async function press(over) {
  out = { dataset: {} };
  later = null;
  serve(over);
  const button = { dataset: { vkey }, setAttribute() {}, closest: (s) => (s === "[data-watch]" ? button : null) };
  await click({ target: button });
  return out.textContent;
}

test("what there is to say is said, and it is tried again", async () => {
  for (const [over, said, again] of [
    [{}, "watch.on", true],
    [{ "/ledger/watch-key": { status: 503 } }, "watch.on", true],
    [{ "/ledger/watch-key": { status: 401 } }, "watch.signin", true],
    [{ "/ledger/heads": { status: 500 } }, "watch.unreachable", true],
    [{ "/ledger/heads": { body: { schema: "pasban.receipt.v1" } } }, "watch.bad", false],
  ]) {
    assert.equal(await press(over), words[said]);
    assert.equal(later !== null, again, said);
  }
});
