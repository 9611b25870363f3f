// "Check this entry": the browser verifies the receipt itself, and believes
// neither the receipt nor the page.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

const who = "citizen:syn-0003";

/** tampered lists what a dishonest server might change in a receipt. */
const tampered = {
  "another officer in the body": (r) => { r.body.who = { ...r.body.who, staff: "999" }; },
  "a purpose in the body": (r) => { r.body.purpose = (r.body.purpose || "") + "dispute"; },
  "a time in the body": (r) => { r.body.time = "2026-01-01T00:00:00Z"; },
  "a field less in the body": (r) => { r.body.fields = (r.body.fields || ["x"]).slice(1); },
  "the salt": (r) => { r.salt = "A".repeat(r.salt.length - 1) + "="; },
  "the proof, one hash": (r) => { r.proof[0] = r.proof[0].replace(/^../, (c) => (c === "AA" ? "BB" : "AA")); },
  "the proof, one hash less": (r) => { r.proof.pop(); },
  "the index": (r) => { r.index ^= 1; },
  "the checkpoint's root": (r) => { const l = r.checkpoint.split("\n"); l[2] = l[2].replace(/^../, (c) => (c === "AA" ? "BB" : "AA")); r.checkpoint = l.join("\n"); },
  "the checkpoint's size": (r) => { const l = r.checkpoint.split("\n"); l[1] = String(+l[1] + 1); r.checkpoint = l.join("\n"); },
  "the checkpoint's signature": (r) => { r.checkpoint = r.checkpoint.replace(/(....)(=*)\n$/, (_, end, pad) => (end === "AAAA" ? "BBBB" : "AAAA") + pad + "\n"); },
  "the schema": (r) => { r.schema = "pasban.receipt.v2"; },
};

export function proofs(stage) {
  let context, page, cookie;
  const card = () => page.locator("article").first();
  const words = () => card().locator("[data-k]").allTextContents();

  /** honest resolves to what the node itself answers. */
  const honest = (path, accept) => stage.demo.ask(path, { headers: { Accept: accept, Cookie: `${cookie.name}=${cookie.value}` } });

  /** checked presses the button and resolves to how it came out. */
  async function checked() {
    await card().locator("[data-check]").click();
    await card().locator("output:is([data-s=ok], [data-s=bad])").waitFor();
    return card().locator("output").getAttribute("data-s");
  }

  before(async () => {
    cookie = await signIn(stage.demo, who);
    context = await visit(stage.browser, stage.demo, { cookie });
    page = await context.newPage();
  });
  after(() => context.close());

  for (const lang of ["en", "ur"]) {
    test(`an honest receipt holds and the words stay, ${lang}`, async () => {
      await page.goto(`/${lang}/my-data`);
      const shown = await words();
      assert.equal(await checked(), "ok");
      assert.deepEqual(await words(), shown);
      assert.deepEqual(context.trouble.splice(0), []);
    });
  }

  for (const lang of ["en", "ur"]) {
    test(`the whole list holds, ${lang}`, async () => {
      await page.goto(`/${lang}/my-data`);
      const shown = await words();
      await page.locator("[data-whole]").click();
      await page.locator("#whole:is([data-s=ok], [data-s=bad])").waitFor();
      assert.equal(await page.locator("#whole").getAttribute("data-s"), "ok", await page.textContent("#whole"));
      assert.deepEqual(await words(), shown);
    });
  }

  test("a list with an entry left out does not hold", async () => {
    const cut = {
      first: (s) => s.entries.shift(), // as if it had been erased: its card is of no entry
      middle: (s) => s.entries.splice(1, 1),
      last: (s) => { s.entries = s.entries.filter((e) => e.body.list.number < s.number); s.number--; },
    };
    for (const [what, change] of Object.entries(cut)) {
      await page.route("**/ledger/statement", async (route) => {
        const answer = await honest("/ledger/statement", "application/json");
        const s = JSON.parse(answer.body);
        change(s);
        const body = JSON.stringify(s);
        await route.fulfill({ ...answer, body, headers: { ...answer.headers, "content-length": String(Buffer.byteLength(body)) } });
      });
      await page.goto("/en/my-data");
      await page.locator("[data-whole]").click();
      await page.locator("#whole:is([data-s=ok], [data-s=bad])").waitFor();
      assert.equal(await page.locator("#whole").getAttribute("data-s"), "bad", what);
      await page.unroute("**/ledger/statement");
    }
  });

  test("every kind of entry holds", async () => {
    await page.goto("/en/my-data");
    const all = page.locator("[data-check]"), count = await all.count();
    assert.ok(count >= 3);
    for (let i = 0; i < count; i++) await all.nth(i).click();
    for (let i = 0; i < count; i++) await page.locator("article").nth(i).locator("output[data-s=ok]").waitFor();
  });

  test("what the page says is replaced by what the ledger says", async () => {
    await page.route("**/en/my-data", async (route) => {
      const answer = await honest("/en/my-data", "text/html");
      const body = answer.body.replace(/(data-k="who">)[^<]*/, "$1Nobody at all").replace(/(data-k="why">)[^<]*/, "$1No reason");
      await route.fulfill({ ...answer, body });
    });
    await page.goto("/en/my-data");
    const lie = await words();
    assert.ok(lie.includes("Nobody at all") && lie.includes("No reason"));
    assert.equal(await checked(), "bad", "a page that differs from the ledger is said to differ");
    const truth = await words();
    await page.unroute("**/en/my-data");
    await page.goto("/en/my-data");
    assert.deepEqual(truth, await words());
  });

  describe("a receipt does not hold that was changed in", () => {
    for (const [what, change] of Object.entries(tampered)) {
      test(what, async () => {
        await page.goto("/en/my-data");
        const shown = await words();
        let differs = false;
        await page.route("**/ledger/receipt/*", async (route) => {
          const answer = await honest(route.request().url(), "application/json");
          const receipt = JSON.parse(answer.body);
          change(receipt);
          const body = JSON.stringify(receipt);
          differs = body !== JSON.stringify(JSON.parse(answer.body));
          await route.fulfill({ ...answer, body });
        });
        assert.equal(await checked(), "bad");
        assert.ok(differs);
        assert.deepEqual(await words(), shown, "nothing of a bad receipt is shown");
        await page.unroute("**/ledger/receipt/*");
      });
    }

    test("being somebody else's", async () => {
      await page.goto("/en/my-data");
      const other = await page.locator("article").nth(1).getAttribute("data-index");
      await page.route("**/ledger/receipt/*", async (route) => route.fulfill(await honest("/ledger/receipt/" + other, "application/json")));
      assert.equal(await checked(), "bad");
      await page.unroute("**/ledger/receipt/*");
    });
  });

  test("an answer that does not come is not called a forgery", async () => {
    await page.goto("/en/my-data");
    await page.route("**/ledger/receipt/*", (route) => route.abort());
    await card().locator("[data-check]").click();
    await page.waitForFunction(() => document.querySelector("output").textContent && !document.querySelector("[aria-disabled]"));
    assert.equal(await card().locator("output").getAttribute("data-s"), "");
    await page.unroute("**/ledger/receipt/*");
  });
}
