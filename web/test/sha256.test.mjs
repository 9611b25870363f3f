// SHA-256 as it is written out here is Node's.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { sha256 } from "../src/bytes.js";

test("SHA-256 is SHA-256, around the borders of its blocks and for the largest hashed at once", () => {
  for (const length of [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 1 << 20]) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 7);
    const want = createHash("sha256").update(bytes).digest("hex");
    for (const cut of [0, length >> 1, length]) {
      assert.equal(Buffer.from(sha256(bytes.slice(0, cut), bytes.slice(cut))).toString("hex"), want, `${length} bytes, cut at ${cut}`);
    }
  }
});
