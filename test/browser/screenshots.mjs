// Takes the pictures of the documentation (docs/images) from a demo whose story
// has been played. Everyone on them is synthetic. Run it after make build.
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { launch, visit } from "./stage/browser.mjs";
import { openDemo, signIn } from "./stage/servers.mjs";
import { press } from "./stage/forms.mjs";

const out = fileURLToPath(new URL("../../docs/images/", import.meta.url));

/** shot takes one picture, as wide as said, of the whole page that walk opens or
 * as far down as the element that it returns. */
async function shot(browser, demo, name, { who, lang = "en", width, colorScheme = "light" }, walk) {
  const context = await visit(browser, demo, { lang, cookie: await signIn(demo, who), viewport: { width, height: 900 }, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  const last = await walk(page);
  await page.evaluate(() => { document.activeElement.blur(); return document.fonts.ready; });
  const height = last && await last.evaluate((e) => e.getBoundingClientRect().bottom + scrollY + 14);
  await page.screenshot({ path: path.join(out, name), fullPage: true, clip: height && { x: 0, y: 0, width, height } });
  await context.close();
}

const demo = await openDemo();
let browser;
try {
  await mkdir(out, { recursive: true });
  browser = await launch([demo]);
  await shot(browser, demo, "console.png", { who: "analyst:syn-019", width: 1280, colorScheme: "dark" }, async (page) => {
    await page.goto("/soc");
    await page.locator("#chart canvas").waitFor();
  });
  for (const lang of ["en", "ur"]) {
    await shot(browser, demo, `my-data-${lang}.png`, { who: "citizen:syn-0001", lang, width: 640 }, async (page) => {
      await page.goto(`/${lang}/my-data`);
      await page.locator("[data-check]").first().click();
      await page.locator("output[data-s=ok]").first().waitFor();
      return page.locator("article").first();
    });
  }
  await shot(browser, demo, "desk.png", { who: "officer:syn-010", width: 900 }, async (page) => {
    await page.goto("/desk");
    await page.locator("input[name=purpose]").first().check();
    await page.fill("#case", "SYN-MUT-700");
    await press(page, "form[action='/desk/work'] .govuk-button:not([name])");
    await page.goto("/desk/services/land-transfer?state=submitted");
    await page.goto(await page.locator(".govuk-summary-card__title a").first().evaluate((a) => a.href));
    return page.locator(".govuk-summary-list__row").nth(12);
  });
} finally {
  await browser?.close();
  await demo.close();
}
