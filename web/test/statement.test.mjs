// statement.js against a statement that Go made (statement_test.go keeps it
// true), and against every way in which a list can fail to be whole; vrf.js
// against the examples of RFC 9381, appendix B.3.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Bad } from "../src/verify.js";
import { whole } from "../src/statement.js";
import { vrf } from "../src/vrf.js";

const { vkey, statement, ...unseen } = JSON.parse(await readFile(new URL("statement.json", import.meta.url)));
const hex = (s) => Uint8Array.from(Buffer.from(s, "hex"));

const examples = [
  ["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
    "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
    "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae"],
  ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
    "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
    "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031"],
];
for (const [key, alpha, proof, value] of examples) {
  test("the RFC's example for " + (alpha || "nothing"), async () => {
    assert.deepEqual(await vrf(hex(key), hex(alpha), hex(proof)), hex(value));
    for (const i of [0, 31, 32, 47, 48, 79]) {
      const bad = hex(proof);
      bad[i] ^= 1;
      assert.equal(await vrf(hex(key), hex(alpha), bad), null, "byte " + i);
    }
    assert.equal(await vrf(hex(key), hex("00"), hex(proof)), null);
    assert.equal(await vrf(new Uint8Array(32), hex(alpha), hex(proof)), null);
  });
}

test("a whole list holds, and says what is not covered yet", async () => {
  const got = await whole(statement, vkey);
  assert.equal(got.covered, 10);
  assert.equal(got.bodies.length, 12);
  assert.equal(got.erased, 0);
});

test("an erased beginning is told", async () => {
  const s = structuredClone(statement);
  s.entries.splice(0, 3);
  assert.equal((await whole(s, vkey)).erased, 3);
});

test("entries that are hidden still are counted, and those that should not be", async () => {
  const s = structuredClone(statement);
  const counts = async () => { const { closed, overdue } = await whole(s, vkey); return [closed, overdue]; };
  assert.deepEqual(await counts(), [0, 0]);
  delete s.entries[2].hidden;
  assert.deepEqual(await counts(), [1, 0]);
  delete s.entries[1].hidden;
  assert.deepEqual(await counts(), [2, 1]);
  s.entries[2].hidden = statement.entries[1].hidden;
  await assert.rejects(counts(), Bad);
});
for (const [name, s] of Object.entries(unseen)) {
  test(`a list of which nothing can be read holds: ${name}`, async () => {
    const got = await whole(s, vkey);
    assert.deepEqual([got.bodies, got.covered, got.erased], [[], 0, s.number]);
  });
}

const hidden = {
  "an empty list that is another's": ["empty", (s) => { s.citizen = "35202-0000001-1"; }],
  "an empty list of one entry": ["empty", (s) => { s.number = 1; }],
  "an empty list that ends": ["empty", (s) => { s.last = s.proof[0]; }],
  "an empty list with another's place": ["empty", (s) => { s.other = unseen.beside.other; }],
  "an empty list with entries": ["empty", (s) => { s.entries = statement.entries; }],
  "another's place, empty": ["beside", (s) => { delete s.other; }],
  "another's place with another value": ["beside", (s) => { s.other.value = s.proof[0]; }],
  "another's label that begins otherwise": ["beside", (s) => { s.other.label = s.proof[0]; }],
  "another's label cut short": ["beside", (s) => { s.other.label = "AAAA"; }],
  "another's place in a list": ["destroyed", (s) => { s.other = unseen.beside.other; }],
  "a destroyed list with fewer": ["destroyed", (s) => { s.number = 4; }],
  "a destroyed list with another end": ["destroyed", (s) => { s.last = s.proof[0]; }],
  "a destroyed list without an end": ["destroyed", (s) => { delete s.last; }],
  "a destroyed list that was empty": ["destroyed", (s) => { s.number = 0; delete s.last; }],
};
for (const [name, [which, change]] of Object.entries(hidden)) {
  test("does not hold: " + name, async () => {
    const s = structuredClone(unseen[which]);
    change(s);
    await assert.rejects(whole(s, vkey), Bad);
  });
}

const wrong = {
  "an entry left out": [(s) => s.entries.splice(4, 1), "missing", 5],
  "an end cut off": [(s) => { s.entries.length = 8; }, "missing", 9],
  "an end cut off and the number with it": [(s) => { s.entries.length = s.number = 8; }, "missing", 8],
  "two entries exchanged": [(s) => s.entries.splice(2, 2, s.entries[3], s.entries[2]), "missing", 3],
  "an entry twice": [(s) => s.entries.splice(2, 0, s.entries[1]), "order", 2],
  "a changed word": [(s) => { s.entries[5].body.action = "other"; }, "altered", 6],
  "a changed last word": [(s) => { s.entries[9].body.action = "other"; }, "altered", 10],
  "another salt": [(s) => { s.entries[2].salt = s.entries[3].salt; }, "altered", 3],
  "another kind": [(s) => { s.entries[2].kind = "change"; }, "altered", 3],
  "another citizen": [(s) => { s.citizen = "35202-0000001-1"; }, "altered", 1],
  "another number": [(s) => { s.number = 9; }, "altered", 10],
  "a changed proof": [(s) => { s.proof[3] = s.proof[4]; }, "missing", 10],
  "a shorter proof": [(s) => { s.proof.pop(); }, "missing", 10],
  "a changed label": [(s) => { s.label = s.label.replace(/^./, (c) => (c === "A" ? "B" : "A")); }, "form"],
  "another root": [(s) => { s.epoch.body.heads.root = s.epoch.body.heads.key; }, null],
  "no entries": [(s) => { s.entries = []; }, "form"],
  "entries that are none": [(s) => { s.entries = [null]; }, "form"],
  "no epoch": [(s) => { delete s.epoch; }, "form"],
  "another schema": [(s) => { s.schema = "pasban.statement.v2"; }, "form"],
};
for (const [name, [edit, what, entry]] of Object.entries(wrong)) {
  test(name + " does not hold", async () => {
    const s = structuredClone(statement);
    edit(s);
    await assert.rejects(whole(s, vkey), (e) => {
      assert.ok(e instanceof Bad, String(e));
      if (what) assert.equal(e.message, what);
      if (entry) assert.equal(e.entry, entry);
      return true;
    });
  });
}
