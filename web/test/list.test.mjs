// list.js on a page with a network of its own: what the citizen is told when the
// list is whole, when it is not, and when nobody can tell.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { texts } from "../src/verify.js";

const { vkey, statement } = JSON.parse(await readFile(new URL("statement.json", import.meta.url)));
const words = JSON.parse(await readFile(new URL("../../internal/portal/testdata/cards.json", import.meta.url))).words.en;
const say = (key, values) => words[key].replace(/\{(\w+)\}/g, (_, k) => values[k]);

/** node is the little of an element that list.js uses. */
const node = (dataset = {}, textContent = "") => ({ dataset, textContent, setAttribute() {}, removeAttribute() {} });

/** card is an entry of the list as the server shows it. */
function card(body) {
  const shown = Object.entries(texts(body, words)).map(([k, v]) => node({ k }, "\n " + v + " "));
  return { ...node({ id: body.id }), shown, querySelectorAll: () => shown };
}

let click, cards, out;
globalThis.document = {
  getElementById: (id) => (id === "words" ? node({}, JSON.stringify(words)) : out),
  addEventListener: (_, f) => { click = f; },
  querySelectorAll: () => cards,
};
await import("../src/list.js");

/** press presses the button on a page with cards of these entries. */
async function press(answer, bodies = statement.entries.slice(8).map((e) => e.body)) {
  [out, cards] = [node(), bodies.map((b) => (b.dataset ? b : card(b)))];
  globalThis.fetch = async (url) => {
    assert.equal(url, "/ledger/statement");
    return typeof answer === "function" ? answer() : new Response(JSON.stringify(answer));
  };
  const button = { ...node({ vkey }), closest: (s) => (s === "[data-whole]" ? button : null) };
  await click({ target: button });
  return out;
}

test("a whole list is said to be whole, with what is not covered", async () => {
  const { dataset, textContent } = await press(statement);
  assert.equal(dataset.s, "ok");
  const { when } = texts(statement.epoch.body, words);
  assert.equal(textContent, say("whole.ok", { count: 10, when }) + " " + say("whole.newer", { count: 2 }));
});

test("an erased beginning is said", async () => {
  const s = { ...statement, entries: statement.entries.slice(3) };
  assert.ok((await press(s)).textContent.endsWith(say("whole.erased", { count: 3 })));
});

test("entries that are hidden still are said, and those that should be open are warned of", async () => {
  const s = structuredClone(statement);
  delete s.entries[2].hidden;
  assert.ok((await press(s)).textContent.includes(say("whole.closed", { count: 1 })));
  delete s.entries[1].hidden;
  const { dataset, textContent } = await press(s);
  assert.deepEqual([dataset.s, textContent], ["bad", say("whole.overdue", { count: 1 })]);
});

test("a missing entry is named", async () => {
  const s = { ...statement, entries: statement.entries.toSpliced(4, 1) };
  const { dataset, textContent } = await press(s);
  assert.equal(dataset.s, "bad");
  assert.equal(textContent, say("whole.missing", { entry: 5 }));
});

test("a card that says something else is written anew, with a warning", async () => {
  const lie = card(statement.entries[3].body);
  lie.shown[0].textContent = "nothing";
  const { dataset, textContent } = await press(statement, [lie]);
  assert.deepEqual([dataset.s, textContent], ["bad", words["whole.changed"]]);
  assert.equal(lie.shown[0].textContent, texts(statement.entries[3].body, words)[lie.shown[0].dataset.k]);
});

test("a card of no entry is warned of", async () => {
  const stranger = card({ ...statement.entries[3].body, id: "0".repeat(32) });
  assert.equal((await press(statement, [stranger])).textContent, words["whole.changed"]);
});

for (const [name, answer, s, key] of [
  ["a proof that is none", { schema: "pasban.statement.v1" }, "bad", "whole.bad"],
  ["an answer that is not JSON", () => new Response("<"), "bad", "whole.bad"],
  ["no epoch yet", () => ({ ok: false, status: 503 }), "", "whole.pending"],
  ["a session that has ended", () => ({ ok: false, status: 401 }), "", "check.unreachable"],
  ["no network", () => { throw new TypeError("offline"); }, "", "check.unreachable"],
]) {
  test(name + " is said", async () => {
    const { dataset, textContent } = await press(answer);
    assert.deepEqual([dataset.s, textContent], [s, words[key]]);
  });
}
