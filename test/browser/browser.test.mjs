// Pasban's web surfaces in a real browser: Debian's Chromium visits a demo
// whose story has been played, and an empty node as an operator starts it.
// Needs bin/pasban (make build). PASBAN_BIN and CHROMIUM name others.
import { after, before, describe } from "node:test";
import { launch } from "./stage/browser.mjs";
import { openDemo, openNode } from "./stage/servers.mjs";
import { accessibility } from "./suites/accessibility.mjs";
import { hunting } from "./suites/hunting.mjs";
import { journeys } from "./suites/journeys.mjs";
import { keyboard } from "./suites/keyboard.mjs";
import { live } from "./suites/live.mjs";
import { passkeys } from "./suites/passkeys.mjs";
import { proofs } from "./suites/proofs.mjs";
import { tuning } from "./suites/tuning.mjs";
import { rules } from "./suites/rules.mjs";
import { surge } from "./suites/surge.mjs";
import { weight } from "./suites/weight.mjs";

describe("the web surfaces", () => {
  /** stage is filled before the first test: {demo, node, browser}. */
  const stage = {};
  before(async () => {
    const opened = await Promise.allSettled([openDemo(), openNode()]);
    [stage.demo, stage.node] = opened.map((o) => o.value);
    for (const o of opened) if (o.status === "rejected") throw o.reason;
    stage.browser = await launch([stage.demo, stage.node]);
  });
  after(() => Promise.all([stage.browser?.close(), stage.demo?.close(), stage.node?.close()]));

  describe("accessibility", { concurrency: 3 }, () => accessibility(stage));
  describe("journeys without JavaScript", () => journeys(stage));
  describe("proofs", () => proofs(stage));
  describe("live alerts", () => live(stage));
  describe("hunting", () => hunting(stage));
  describe("tuning the firewall", () => tuning(stage));
  describe("rules and suppressions", () => rules(stage));
  describe("flood and surge", () => surge(stage));
  describe("passkeys", () => passkeys(stage)); // closes the service behind the node
  describe("weight", () => weight(stage));
  describe("keyboard", () => keyboard(stage));
});
