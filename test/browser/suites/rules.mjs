// What rules do and what is put aside, by an analyst who runs no scripts: from an
// alert to its rule, from a preview to a suppression and its end; a second person
// for a critical rule; a verdict.
import assert from "node:assert/strict";
import { test } from "node:test";
import { press } from "../stage/forms.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

export function rules(stage) {
  const enter = (who, lang = "en") => signIn(stage.demo, who).then((cookie) => visit(stage.browser, stage.demo, { lang, cookie, javaScriptEnabled: false }));

  for (const [lang, from] of [["en", "127.0.0.94"], ["ur", "127.0.0.95"]]) {
    test(`alerts are suppressed after a preview, kept and shown, and come again at its end (${lang})`, async () => {
      const context = await enter("analyst:syn-020", lang);
      const page = await context.newPage();
      const attack = async () => assert.equal((await stage.demo.ask("/records/search?mouza=%3Cscript%3Ealert(1)%3C/script%3E", { from })).status, 403);
      const reason = `our own scanner <b>1</b> (${lang}, synthetic)`;
      const listed = async (path, yes) => {
        for (let i = 0; ; i++) { // detection follows the journal
          await page.goto(path);
          const n = await page.locator(`tbody tr:has(bdi:text-is("${from}"))`).count();
          if (n > 0 === yes || i === 50) return assert.equal(n > 0, yes, `${path} lists ${n} alerts of ${from}`);
          await page.waitForTimeout(100);
        }
      };
      await attack();
      await listed("/soc/alerts?period=1h", true);
      await page.goto(await page.locator(`tbody tr:has(bdi:text-is("${from}")) a[href^='/soc/alerts/']`).first().evaluate((a) => a.href));
      const alert = page.url();

      await press(page, "a[href^='/soc/rules/'] >> nth=0");
      assert.ok((await page.textContent("pre")).includes("logsource:"), "the rule's text");
      await page.goto(alert);
      await press(page, "a[href^='/soc/suppressions/new']");
      await page.fill("[name=reason]", reason);
      await press(page, "form[action='/soc/suppressions/preview'] button");
      assert.match(await page.textContent("section[aria-labelledby=pv]"), /1/);
      assert.ok(await page.locator("section[aria-labelledby=pv] tbody tr").count() >= 1, "it names what it would have hidden");
      await press(page, "form[action='/soc/suppressions'] button");
      const row = page.locator("tr", { hasText: reason });
      assert.match(await row.textContent(), /analyst:syn-020/);
      assert.equal(await row.locator("b").count(), 0, "a reason is text");

      await attack();
      await listed("/soc/alerts?state=suppressed", true);
      await page.goto("/soc/suppressions");
      await press(page, `tr:has-text("(${lang}, synthetic)") form[action$='/end'] button`);
      assert.equal(await row.locator("form").count(), 0);
      assert.deepEqual(context.trouble.splice(0), []);
      await context.close();
    });
  }

  test("a critical rule's alerts are suppressed by two people", async () => {
    const analyst = await enter("analyst:syn-020");
    const page = await analyst.newPage();
    await page.goto("/soc/alerts?level=critical&state=all");
    await page.goto(await page.locator("tbody a[href^='/soc/alerts/']").first().evaluate((a) => a.href));
    await press(page, "a[href^='/soc/suppressions/new']");
    await page.fill("[name=reason]", "an exercise (two people, synthetic)");
    await press(page, "form[action='/soc/suppressions/preview'] button");
    await press(page, "form[action='/soc/suppressions'] button");
    const mine = "tr:has-text('two people, synthetic')";
    assert.equal(await page.locator(`${mine} button[value=approve]`).count(), 0, "not by who asked");
    const supervisor = await enter("supervisor:syn-017");
    const second = await supervisor.newPage();
    await second.goto("/soc/suppressions");
    await press(second, `${mine} button[value=refuse]`);
    assert.equal(await second.locator(`${mine} form`).count(), 0);
    assert.deepEqual([...analyst.trouble.splice(0), ...supervisor.trouble.splice(0)], []);
    await Promise.all([analyst.close(), supervisor.close()]);
  });

  test("an alert is closed with a verdict, which its rule's figures show", async () => {
    const context = await enter("analyst:syn-020");
    const page = await context.newPage();
    await page.goto("/soc/alerts?level=high");
    await page.goto(await page.locator("tbody a[href^='/soc/alerts/'] >> nth=-1").evaluate((a) => a.href));
    const alert = page.url();
    await page.selectOption("select[name=verdict]", "false_positive");
    await page.fill("input[name=note]", "a drill <i>2</i>");
    await press(page, "button[value=closed]");
    assert.match(await page.textContent("h1"), /Closed · False positive/);
    assert.equal(await page.locator("td i").count(), 0, "a note is text");
    await page.goto(alert);
    await press(page, "a[href^='/soc/rules/'] >> nth=0");
    assert.match(await page.textContent("main"), /False positive: 1/);
    await page.goto("/soc/rules?show=noisy&sort=noise");
    assert.ok(await page.locator("tbody tr").count() >= 1);
    assert.deepEqual(context.trouble.splice(0), []);
    await context.close();
  });
}
