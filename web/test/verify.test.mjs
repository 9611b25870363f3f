// verify.js against receipts that the server made (testdata of
// internal/portal, kept true by a Go test there), and against every way in
// which a receipt can be wrong.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Bad, canonical, closed, prepare, texts, unfold, verify } from "../src/verify.js";

const cards = JSON.parse(await readFile(new URL("../../internal/portal/testdata/cards.json", import.meta.url)));
const names = { title: "Title", tag: "Tag", who: "Who", when: "When", what: "What", why: "Why", basis: "Basis" };

for (const [i, c] of cards.cases.entries()) {
  test(`receipt ${i} holds and is said in the server's words`, async () => {
    const body = await verify(c.receipt, cards.vkey);
    for (const lang of ["en", "ur"]) {
      const got = texts(body, cards.words[lang]);
      for (const [js, go] of Object.entries(names)) assert.equal(got[js], c.texts[lang][go], `${lang} ${js}`);
    }
  });
}

const flip = (b64, at = 5) => {
  const b = Buffer.from(b64, "base64");
  b[at] ^= 1;
  return b.toString("base64");
};
const cut = (s) => s.slice(0, -1);
const sig = (cp, f) => cp.replace(/(— \S+ )(\S+)/, (_, head, s) => head + f(s));

const wrong = {
  "a changed name of the viewer": (r) => { r.body.who.staff = "999"; },
  "a changed time": (r) => { r.body.time = r.body.time.replace("2026", "2025"); },
  "a field left out": (r) => { r.body.fields.pop(); },
  "a field added": (r) => { r.body.extra = "x"; },
  "another body version": (r) => { r.body.v = 2; },
  "another kind": (r) => { r.kind = "change"; },
  "another kind in both": (r) => { r.kind = r.body.kind = "change"; },
  "an unknown kind": (r) => { r.kind = "toString"; },
  "another salt": (r) => { r.salt = flip(r.salt); },
  "a short salt": (r) => { r.salt = "AAAA"; },
  "a salt that is not base64": (r) => { r.salt = "ß"; },
  "another index": (r) => { r.index++; },
  "an index that is not a number": (r) => { r.index = "0"; },
  "a negative index": (r) => { r.index = -1; },
  "an index beyond the tree": (r) => { r.index = 1e6; },
  "a changed proof": (r) => { r.proof[0] = flip(r.proof[0]); },
  "a shortened proof": (r) => { r.proof.pop(); },
  "a lengthened proof": (r) => { r.proof.push(r.proof[0]); },
  "a proof that is none": (r) => { r.proof = null; },
  "another origin": (r) => { r.origin = "evil.example/ledger"; },
  "a checkpoint of another origin": (r) => { r.checkpoint = r.checkpoint.replaceAll("land.example", "evil.example"); },
  "a changed size": (r) => { r.checkpoint = r.checkpoint.replace(/\n(\d+)\n/, (_, n) => `\n${+n + 1}\n`); },
  "a changed root": (r) => { r.checkpoint = r.checkpoint.split("\n").map((l, i) => (i === 2 ? flip(l) : l)).join("\n"); },
  "a changed signature": (r) => { r.checkpoint = sig(r.checkpoint, (s) => flip(s, 20)); },
  "a signature of another key's hash": (r) => { r.checkpoint = sig(r.checkpoint, (s) => flip(s, 0)); },
  "no signature": (r) => { r.checkpoint = r.checkpoint.slice(0, r.checkpoint.indexOf("— ")); },
  "no checkpoint": (r) => { delete r.checkpoint; },
  "a cut checkpoint": (r) => { r.checkpoint = cut(cut(r.checkpoint)); },
  "an unknown schema": (r) => { r.schema = "pasban.receipt.v2"; },
  "no body": (r) => { delete r.body; },
  "a body that is a list": (r) => { r.body = []; },
};

for (const [name, change] of Object.entries(wrong)) {
  test(`refuses ${name}`, async () => {
    const r = structuredClone(cards.cases[0].receipt);
    change(r);
    await assert.rejects(verify(r, cards.vkey), Bad);
  });
}

const opened = cards.cases.find((c) => c.receipt.hidden).receipt;
const part = (r, f) => { r.hidden.part = Buffer.from(f(Buffer.from(r.hidden.part, "base64").toString())).toString("base64"); };
const wrongHidden = {
  "details of another case": (r) => part(r, (s) => s.replace("17/2026", "99/2026")),
  "details with more in them": (r) => part(r, (s) => s.replace("{", '{"time":"2020",')),
  "details that are no JSON": (r) => part(r, () => "{"),
  "another salt of the details": (r) => { r.hidden.salt = flip(r.hidden.salt); },
  "details for an entry that hides nothing": (r) => Object.assign(r, cards.cases[0].receipt, { hidden: r.hidden }),
};
for (const [name, change] of Object.entries(wrongHidden)) {
  test(`refuses ${name}`, async () => {
    const r = structuredClone(opened);
    change(r);
    await assert.rejects(verify(r, cards.vkey), Bad);
  });
}

test("an entry without its details says until when it is hidden", async () => {
  const { hidden, ...r } = structuredClone(opened);
  const body = await verify(r, cards.vkey);
  assert.ok(hidden && closed(body));
  assert.equal(texts(body, cards.words.en).why, "You are told on 20 November 2026");
});

// Whoever runs the node commits to whatever they like: not to a part that says
// what only the body may, or that hides again.
test("details say who, what and why, and nothing else", () => {
  const salt = Buffer.alloc(32, 7), b64 = (b) => Buffer.from(b).toString("base64");
  for (const [text, good] of [['{"who":{"kind":"person"}}', true], ['{"who":{"kind":"hidden"}}', false], ['{"time":"2020","who":{"kind":"person"}}', false],
    ['{"who":{"kind":"person"},"who":{"kind":"system"}}', false], ['{ "who":{"kind":"person"}}', false], ["{}", false], ["[]", false]]) {
    const digest = createHash("sha256").update(salt).update(text).digest("base64url");
    const told = () => unfold({ who: { kind: "hidden" }, hidden: { until: "2026-11-20T00:00:00.000Z", digest } }, { salt: b64(salt), part: b64(text) });
    if (good) assert.equal(told().who.kind, "person");
    else assert.throws(told, Bad, text);
  }
});

test("refuses another key", async () => {
  const [name, , key] = cards.vkey.split("+");
  for (const bad of [`${name}+00000000+${key}`, cut(cards.vkey), "", "x+y+z", cards.vkey.replace("land", "evil")]) {
    await assert.rejects(verify(cards.cases[0].receipt, bad), Bad);
  }
});

test("a browser without Ed25519 cannot tell", async (t) => {
  const { Bad, verify } = await import("../src/verify.js?anew"); // that has read no key
  t.mock.method(crypto.subtle, "importKey", () => Promise.reject(new DOMException("unknown", "NotSupportedError")));
  await assert.rejects(verify(cards.cases[0].receipt, cards.vkey), (e) => !(e instanceof Bad));
});

test("a key that was read before is the same key, and one that was not is refused", async () => {
  await prepare(cards.vkey);
  await verify(cards.cases[0].receipt, cards.vkey);
  await assert.rejects(prepare(cut(cards.vkey)), Bad);
  await assert.rejects(verify(cards.cases[0].receipt, cut(cards.vkey)), Bad);
  await verify(cards.cases[0].receipt, cards.vkey);
});

test("a body in another order is the same body", async () => {
  const r = structuredClone(cards.cases[0].receipt);
  const turn = (v) => (!v || typeof v !== "object" || Array.isArray(v) ? v : Object.fromEntries(Object.entries(v).reverse().map(([k, w]) => [k, turn(w)])));
  r.body = turn(r.body);
  assert.notEqual(JSON.stringify(r.body), canonical(r.body));
  assert.deepEqual(await verify(r, cards.vkey), await verify(cards.cases[0].receipt, cards.vkey));
});

test("canonical JSON sorts keys by code units and escapes like RFC 8785", () => {
  assert.equal(canonical({ b: ["\u20ac", "\u2028", "\n\u001f"], "\ud83d\ude00": 1, a: { z: "/", y: "\"" } }),
    '{"a":{"y":"\\"","z":"/"},"b":["€","\u2028","\\n\\u001f"],"😀":1}');
  assert.equal(canonical([{ 9: 1, 10: { y: [], x: null } }]), '[{"10":{"x":null,"y":[]},"9":1}]'); // a browser keeps such keys by number
});
