// The browser's work is the server's: the vector is that of
// internal/gateway/pass/pass_test.go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { work } from "../src/work.js";

test("the vector", () => {
  const told = [];
  assert.equal(work("vector", 16, 12, (part) => told.push(part)),
    "6884.938.2042.5298.7035.366.8428.6240.7303.16.2059.3515.2168.1950.868.18454");
  assert.equal(told.length, 16);
});
