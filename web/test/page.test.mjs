// page.js on a card, with a page and a network of its own: what the citizen is
// told when the proof holds, when it does not, and when nobody can tell.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const cards = JSON.parse(await readFile(new URL("../../internal/portal/testdata/cards.json", import.meta.url)));
const words = cards.words.en;
const { receipt, texts } = cards.cases[0];

/** node is the little of an element that page.js uses. */
const node = (dataset = {}, textContent = "") => ({ dataset, textContent, setAttribute() {}, removeAttribute() {} });

/** card is one entry as the server shows it. */
function card() {
  const shown = Object.entries(texts.en).map(([k, v]) => node({ k: k.toLowerCase() }, "\n " + v + " "));
  const output = node();
  const el = {
    dataset: { index: String(receipt.index), id: receipt.body.id, vkey: cards.vkey, proof: "./verify.js" },
    querySelector: () => output, querySelectorAll: () => shown,
  };
  return { el, output, field: (k) => shown.find((n) => n.dataset.k === k) };
}

let click, idle, first;
globalThis.navigator ??= {}; // Node before 21
globalThis.requestIdleCallback = (f) => { idle = f; };
globalThis.document = {
  getElementById: () => node({}, JSON.stringify(words)),
  documentElement: { classList: { add() {} } },
  addEventListener: (_, f) => { click = f; },
  querySelector: () => first,
};
await import("../src/page.js");

/** press presses the card's button and waits until it has been answered. */
async function press(c, answer) {
  const button = { ...node(), closest: (s) => (s === "[data-check]" ? button : s.startsWith("[data-whole]") ? null : c.el) };
  globalThis.fetch = async (url) => {
    assert.equal(url, "/ledger/receipt/" + c.el.dataset.index);
    return typeof answer === "function" ? answer() : { ok: true, status: 200, json: async () => structuredClone(answer) };
  };
  await click({ target: button });
  return c.output;
}

test("a proof that holds is said to hold", async () => {
  const out = await press(card(), receipt);
  assert.equal(out.textContent, words["check.ok"]);
  assert.equal(out.dataset.s, "ok");
});

test("a card that showed something else is written anew, with a warning", async () => {
  const c = card();
  c.field("who").textContent = "Officer, staff number ending 999";
  const out = await press(c, receipt);
  assert.equal(out.textContent, words["check.changed"]);
  assert.equal(out.dataset.s, "bad");
  assert.equal(c.field("who").textContent, texts.en.Who);
});

const bad = (change) => { const r = structuredClone(receipt); change(r); return r; };
for (const [name, answer, key] of [
  ["a changed receipt", bad((r) => { r.body.time = "2020-01-01T00:00:00.000Z"; }), "bad"],
  ["the receipt of another entry", cards.cases[1].receipt, "bad"],
  ["an answer that is not JSON", () => ({ ok: true, status: 200, json: async () => JSON.parse("<html>") }), "bad"],
  ["an entry not yet under a checkpoint", () => ({ ok: false, status: 503 }), "pending"],
  ["an ended session", () => ({ ok: false, status: 401 }), "unreachable"],
  ["no network", () => { throw new TypeError("fetch failed"); }, "unreachable"],
]) {
  test(`${name}: ${key}`, async () => {
    const c = card();
    const out = await press(c, answer);
    assert.equal(out.textContent, words["check." + key]);
    assert.equal(out.dataset.s, key === "bad" ? "bad" : "");
    assert.equal(c.field("who").textContent.trim(), texts.en.Who, "the card is left as it was");
  });
}

test("a browser that cannot check says so", async (t) => {
  t.mock.method(crypto.subtle, "verify", () => Promise.reject(new DOMException("no", "NotSupportedError")));
  assert.equal((await press(card(), receipt)).textContent, words["check.cannot"]);
});

test("what verifies cannot be fetched: unreachable", async () => {
  const c = card();
  c.el.dataset.proof = "./nowhere.js";
  assert.equal((await press(c, receipt)).textContent, words["check.unreachable"]);
});

test("what verifies is fetched beforehand, and that it cannot be is said only when it is asked for", async () => {
  const script = (text) => "data:text/javascript," + encodeURIComponent(text);
  const ready = script("export const prepare = async (vkey) => { globalThis.prepared = vkey; }");
  for (const proof of [ready, script("throw new Error('no network')"), null]) {
    first = proof && { dataset: { proof, vkey: "key" } };
    await idle();
  }
  assert.equal(globalThis.prepared, "key");
});

test("waiting is said when it takes long", async () => {
  const c = card();
  let answer;
  const done = press(c, () => new Promise((go) => { answer = go; }));
  assert.equal(c.output.textContent, "");
  while (c.output.textContent !== words["check.busy"]) await new Promise((go) => setTimeout(go, 5));
  answer({ ok: false, status: 503 });
  assert.equal((await done).textContent, words["check.pending"]);
});

test("a click elsewhere does nothing", async () => {
  await click({ target: { closest: () => null } });
});

test("what works on the whole list is fetched once, when it is asked for", async () => {
  let list, pressed = 0;
  const button = { click: () => pressed++, hasAttribute: () => true,
    closest: (s) => (s === "[data-list]" ? { dataset: { list } } : s.startsWith("[data-whole]") ? button : null) };
  const press = (url) => { list = url; return click({ target: button }); };
  const script = (text) => "data:text/javascript," + encodeURIComponent(text);
  await press(script("throw new Error('no network')"));
  assert.equal(pressed, 0);
  for (let i = 0; i < 2; i++) await press(script("globalThis.fetched = (globalThis.fetched ?? 0) + 1"));
  assert.deepEqual([globalThis.fetched, pressed], [1, 1]);
});
