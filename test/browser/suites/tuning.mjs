// A false alarm of the firewall, from the blocked request to the exclusion and
// its end, by an analyst who runs no scripts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { press } from "../stage/forms.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

export function tuning(stage) {
  const ask = async (param, from) => {
    const { status } = await stage.demo.ask(`/records/search?${param}=${encodeURIComponent("1' OR '1'='1' UNION SELECT name FROM owners--")}`, { from });
    return status;
  };
  for (const lang of ["en", "ur"]) {
    test(`an exclusion is made, seen to work, and ended (${lang})`, async () => {
      const context = await visit(stage.browser, stage.demo, { lang, cookie: await signIn(stage.demo, "analyst:syn-020"), javaScriptEnabled: false });
      const page = await context.newPage();
      const reason = `khasra numbers have quotes <b>1</b> (${lang}, synthetic)`;
      const from = lang === "en" ? "127.0.0.92" : "127.0.0.93";
      assert.equal(await ask("khasra", from), 403);

      await page.goto("/soc/waf");
      await press(page, "td a[href^='/soc/events/']:has(code) >> nth=0");
      const fired = await page.textContent("main");
      assert.ok(fired.includes("ARGS:khasra") && fired.includes("9' OR '9'='9' UNION SELECT x FROM x"), fired);
      assert.ok(!fired.includes("FROM owners"), "what the visitor wrote is not there");
      await press(page, "a[href^='/soc/waf/new']");
      assert.ok(await page.locator("input[name=rule]:checked").count() >= 1);
      assert.equal(await page.locator("input[name=target]:checked").inputValue(), "ARGS:khasra");
      assert.equal(await page.locator("input[name=scope]:checked").inputValue(), "route");
      await page.fill("[name=reason]", reason);
      await press(page, "form[action='/soc/waf/preview'] button");
      const preview = await page.textContent("section[aria-labelledby=pv]");
      assert.ok(preview.includes("ARGS:khasra") && preview.includes("GET /"), preview);
      assert.ok(await page.locator("section[aria-labelledby=pv] tbody tr").count() >= 1, "it names what it would have let through");
      assert.equal(await ask("khasra", from), 403, "a preview changes nothing");

      await press(page, "form[action='/soc/waf'] button");
      assert.notEqual(await ask("khasra", from), 403);
      assert.equal(await ask("mouza", from), 403, "another parameter");
      const row = page.locator("tr", { hasText: reason });
      assert.match(await row.textContent(), /analyst:syn-020/);
      assert.equal(await row.locator("b").count(), 0, "a reason is text");
      await press(page, `tr:has-text("(${lang}, synthetic)") form[action$='/end'] button`);
      assert.equal(await row.locator("form").count(), 0);
      assert.equal(await ask("khasra", from), 403);
      assert.deepEqual(context.trouble.splice(0), []);
      await context.close();
    });
  }
}
