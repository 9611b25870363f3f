// Everything that can be used can be reached with the keyboard, and it shows
// where one is.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

/** walked presses Tab through the page and resolves to what was not reached
 * and what did not show that it was. */
async function walked(page) {
  const count = await page.evaluate(() => {
    const use = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    window.toReach = new Set([...document.querySelectorAll(use)].filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled));
    window.plain = [];
    document.addEventListener("focusin", ({ target }) => {
      window.toReach.delete(target);
      const s = getComputedStyle(target);
      const shows = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== "none";
      if (!shows) window.plain.push(target.outerHTML.slice(0, 120));
    });
    return window.toReach.size;
  });
  for (let i = 0; i < count + 3; i++) await page.keyboard.press("Tab");
  return page.evaluate(() => ({ missed: [...window.toReach].map((e) => e.outerHTML.slice(0, 120)), plain: window.plain }));
}

export function keyboard(stage) {
  for (const [who, path, skip] of [["citizen:syn-0005", "/en/my-data", ".govuk-skip-link"], ["citizen:syn-0005", "/ur/my-data", ".govuk-skip-link"], ["analyst:syn-019", "/soc", ".skip"]]) {
    describe(path, () => {
      let context, page;
      before(async () => {
        context = await visit(stage.browser, stage.demo, { cookie: await signIn(stage.demo, who) });
        page = await context.newPage();
        await page.goto(path);
      });
      after(() => context.close());

      test("the first Tab offers to skip to the content, and does", async () => {
        await page.keyboard.press("Tab");
        const box = await page.locator(skip).boundingBox();
        assert.ok(await page.locator(skip).evaluate((e) => e === document.activeElement));
        assert.ok(box.x >= 0 && box.y >= 0 && box.width > 40 && box.height > 20, "it is seen");
        await page.keyboard.press("Enter");
        assert.equal(new URL(page.url()).hash, "#main");
        await page.keyboard.press("Tab");
        assert.ok(await page.evaluate(() => document.querySelector("#main").contains(document.activeElement)));
      });

      test("Tab reaches everything, and shows where it is", async () => {
        await page.goto(path);
        assert.deepEqual(await walked(page), { missed: [], plain: [] });
      });
    });
  }

  test("an entry is checked without a pointer", async () => {
    const context = await visit(stage.browser, stage.demo, { cookie: await signIn(stage.demo, "citizen:syn-0005") });
    const page = await context.newPage();
    await page.goto("/en/my-data");
    await page.locator("[data-check]").first().focus();
    await page.keyboard.press("Enter");
    await page.locator("article output[data-s=ok]").first().waitFor();
    assert.ok(await page.locator("[data-check]").first().evaluate((e) => e === document.activeElement), "the focus stays");
    await context.close();
  });
}
