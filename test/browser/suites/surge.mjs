// A site under attack mode and a route with a waiting room: everybody gets
// through, with scripts and without, in both languages.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { holds } from "./accessibility.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

/** shield opens the console as the analyst. */
async function shield(stage, use) {
  const context = await visit(stage.browser, stage.demo, { cookie: await signIn(stage.demo, "analyst:syn-019") });
  const page = await context.newPage();
  await page.goto("/soc");
  await use(page);
  assert.deepEqual(context.trouble, []);
  await context.close();
}

/** started puts the demo's site under attack mode while use runs. */
async function started(stage, use) {
  await shield(stage, async (page) => { // three actions: open, start; the reason and the end have defaults
    await page.locator("summary", { hasText: "Put a site under attack mode" }).click();
    await page.fill("[name=note]", "<b>synthetic</b>");
    await Promise.all([page.waitForEvent("load"), page.locator("form[action='/soc/shield'] button").click()]);
    await page.getByText("Far more requests are coming in").first().waitFor();
  });
  try {
    await use();
  } finally {
    await shield(stage, async (page) => {
      await Promise.all([page.waitForEvent("load"), page.locator("form[action='/soc/shield/end'] button").click()]);
      await page.getByText("No site is under attack mode").waitFor();
    });
  }
}

const titles = {
  en: { challenge: "Checking that you can go on", queue: "You are in the queue" },
  ur: { challenge: "دیکھا جا رہا ہے کہ آپ آگے جا سکتے ہیں", queue: "آپ قطار میں ہیں" },
};

export function surge(stage) {
  test("under attack mode everybody gets through, and the public is told", () => started(stage, async () => {
    for (const lang of ["en", "ur"]) {
      // the page itself, with the work held up
      const held = await visit(stage.browser, stage.demo, { lang });
      await held.addInitScript(() => { self.Worker = class { postMessage() {} }; });
      const still = await held.newPage();
      await still.goto(`/${lang}/accessibility`);
      assert.match(await still.textContent("h1"), new RegExp(titles[lang].challenge));
      await holds(still, lang, "challenge");
      await still.goto("/trust");
      await still.locator(".govuk-inset-text").waitFor();
      assert.ok(!(await still.content()).includes("synthetic</b>"), "the analysts' note is on the public's page");
      await holds(still, lang, "trust under attack");
      assert.deepEqual(held.trouble, []);
      await held.close();

      // with scripts: the work is done and the page opens by itself
      const busy = await visit(stage.browser, stage.demo, { lang });
      const page = await busy.newPage();
      await page.goto(`/${lang}/accessibility?from=elsewhere`);
      await page.waitForURL(`**/${lang}/accessibility?from=elsewhere`);
      assert.deepEqual(busy.trouble, []);
      await busy.close();

      // without: the page lets them through after a while
      const plain = await visit(stage.browser, stage.demo, { lang, javaScriptEnabled: false });
      const waiting = await plain.newPage();
      await waiting.goto(`/${lang}/accessibility`);
      assert.equal((await waiting.textContent("h1")).trim(), titles[lang].challenge);
      await waiting.waitForURL(`**/${lang}/accessibility`, { timeout: 30_000 });
      await plain.close();
    }
    await shield(stage, async (page) => {
      assert.equal(await page.locator("section:has(#sh) b").count(), 0, "a note became HTML");
      await holds(page, "en", "console under attack");
    });
  }));

  describe("the waiting room", () => {
    for (const lang of ["en", "ur"]) {
      test(`is fair and readable in ${lang}`, async () => {
        const open = async (options = {}) => (await visit(stage.browser, stage.node, { lang, ...options })).newPage();
        const fill = await Promise.all([1, 2].map(() => open()));
        for (const page of fill) await page.goto("/surge"); // takes whatever room there is
        const page = await open();
        await page.goto("/surge");
        assert.equal((await page.textContent("h1")).trim(), titles[lang].queue);
        const said = await page.textContent("#queue");
        await page.reload();
        assert.equal((await page.textContent("h1")).trim(), titles[lang].queue);
        const tab = await page.context().newPage();
        await tab.goto("/surge");
        assert.equal((await tab.textContent("h1")).trim(), titles[lang].queue);
        await holds(page, lang, "waiting room: " + said);
        await page.waitForURL("**/surge", { timeout: 60_000 }); // by its own script
        assert.match(await page.textContent("h1"), /Synthetic record/);

        const plain = await open({ javaScriptEnabled: false });
        await plain.goto("/surge");
        assert.equal((await plain.textContent("h1")).trim(), titles[lang].queue);
        await plain.waitForURL("**/surge", { timeout: 60_000 });
        assert.match(await plain.textContent("h1"), /Synthetic record/);
        for (const p of [...fill, page, plain]) {
          assert.deepEqual(p.context().trouble, []);
          await p.context().close();
        }
      });
    }
  });
}
