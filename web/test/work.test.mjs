// The browser's work is the server's: the vector is that of
// internal/gateway/pass/pass_test.go.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { digest, work } from "../src/work.js";

test("SHA-256 is SHA-256, around the borders of its blocks", () => {
  for (const length of [0, 1, 54, 55, 56, 63, 64, 65, 119, 120]) {
    const bytes = new Uint8Array(256), state = new Int32Array(8), out = new DataView(new ArrayBuffer(32));
    for (let i = 0; i < length; i++) bytes[i] = i * 7;
    const want = createHash("sha256").update(bytes.slice(0, length)).digest("hex");
    digest(state, bytes, length).forEach((word, i) => out.setInt32(4 * i, word));
    assert.equal(Buffer.from(out.buffer).toString("hex"), want, length + " bytes");
  }
});

test("the vector", () => {
  const told = [];
  assert.equal(work("vector", 16, 12, (part) => told.push(part)),
    "6884.938.2042.5298.7035.366.8428.6240.7303.16.2059.3515.2168.1950.868.18454");
  assert.equal(told.length, 16);
});
