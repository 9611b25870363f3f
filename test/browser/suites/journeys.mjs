// What citizens come for, on a telephone that runs no scripts.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readFile } from "node:fs/promises";
import { application, fill, press } from "../stage/forms.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

export function journeys(stage) {
  for (const [lang, who] of [["en", "citizen:syn-0007"], ["ur", "citizen:syn-0008"]]) {
    describe(lang, () => {
      let context, page, number;
      before(async () => {
        context = await visit(stage.browser, stage.demo, {
          lang, cookie: await signIn(stage.demo, who), javaScriptEnabled: false, viewport: { width: 390, height: 800 },
        });
        page = await context.newPage();
      });
      after(() => context.close());
      const persona = (id) => stage.demo.personas.find((p) => p.person === id);

      test("apply, check, change an answer, send", async () => {
        await page.goto(`/${lang}/`);
        await press(page, "a[href$='/apply/land-transfer']");
        await fill(page, application(persona(who), persona("citizen:syn-0009")));
        await press(page, "button[value=check]");
        assert.match(await page.textContent("main"), /77\/1/);
        await press(page, "button[value=edit]");
        assert.equal(await page.inputValue("[name=mouza]"), "Chak 12", "answers are kept");
        await page.fill("[name=khasra]", "78/2");
        await press(page, "button[value=check]");
        await press(page, "button[value=send]");
        number = await page.textContent(".govuk-panel strong");
        assert.match(number, /^LT-/);
      });

      test("a mistake is named beside its question, and nothing is lost", async () => {
        await page.goto(`/${lang}/apply/land-transfer`);
        await fill(page, { ...application(persona(who), persona("citizen:syn-0009")), buyer_cnic: "123" });
        await press(page, "button[value=check]");
        assert.equal(await page.locator(".govuk-error-summary a").getAttribute("href"), "#buyer_cnic");
        assert.ok(await page.locator("#buyer_cnic-error").isVisible());
        assert.equal(await page.inputValue("[name=mouza]"), "Chak 12");
      });

      test("digits may be written as in Urdu", async () => {
        await page.goto(`/${lang}/apply/land-transfer`);
        const urdu = (text) => text.replace(/\d/g, (d) => "۰۱۲۳۴۵۶۷۸۹"[d]);
        const answers = application(persona(who), persona("citizen:syn-0009"));
        await fill(page, { ...answers, seller_cnic: urdu(answers.seller_cnic), consideration_pkr: urdu(answers.consideration_pkr) });
        await press(page, "button[value=check]");
        assert.ok(await page.locator("button[value=send]").isVisible());
        assert.ok((await page.textContent("main")).includes(answers.seller_cnic));
      });

      test("the application is among mine, and can be read", async () => {
        await page.goto(`/${lang}/applications`);
        assert.ok((await page.textContent("main")).includes(number));
        await press(page, `a[href$='${number}']`);
        const text = await page.textContent("main");
        assert.ok(text.includes("78/2") && text.includes(persona(who).name_ur), text);
      });

      test("who looked at my data, and reporting an entry", async () => {
        await page.goto(`/${lang}/my-data`);
        assert.ok(await page.locator("article").count() >= 2, "looks by officers and the citizen's own");
        assert.equal(await page.locator("[data-check]:visible").count(), 0, "no button that would do nothing");
        await page.click("summary");
        assert.ok(await page.locator(".ps-nojs").isVisible(), "says how to check without scripts");
        await press(page, "article >> nth=-1 >> a[href*='/report/']");
        await page.locator("input[name=reason]").first().check();
        await page.fill("#text", "I do not know why (synthetic)");
        await press(page, "main .govuk-button");
        assert.ok((await page.textContent(".govuk-panel strong")).trim().length > 8);
      });

      test("the receipt of an entry, to carry and as a file", async () => {
        await page.goto(`/${lang}/my-data`);
        const said = (await page.textContent("article >> nth=-1 >> [data-k=when]")).trim();
        await press(page, "article >> nth=-1 >> a[href*='/receipt/']");
        assert.ok((await page.textContent("article")).includes(said));
        assert.ok(await page.locator("svg[role=img]").count() >= 1);
        for (const [link, start, name] of [["a[href$='/pdf']", "%PDF-1.7", /^pasban-receipt-\d+\.pdf$/], ["a[href^='/ledger/receipt/']", "{", /^pasban-receipt-\d+\.json$/]]) {
          const [file] = await Promise.all([page.waitForEvent("download"), page.locator("main").locator(link).click()]);
          assert.match(file.suggestedFilename(), name);
          assert.ok((await readFile(await file.path(), "latin1")).startsWith(start));
        }
      });

      test("choosing the other language stays on the page", async () => {
        await page.goto(`/${lang}/my-data`);
        await press(page, ".ps-lang a");
        const other = lang === "en" ? "ur" : "en";
        assert.equal(new URL(page.url()).pathname, `/${other}/my-data`);
        assert.equal(await page.getAttribute("html", "lang"), other);
      });

      test("sign out", async () => {
        const own = await visit(stage.browser, stage.demo, { lang, cookie: await signIn(stage.demo, lang === "en" ? "citizen:syn-0009" : "citizen:syn-0010"), javaScriptEnabled: false });
        const bye = await own.newPage();
        await bye.goto(`/${lang}/my-data`);
        await press(bye, "form[action='/pasban/signout'] button");
        await bye.goto(`/${lang}/my-data`);
        assert.equal(new URL(bye.url()).pathname, "/pasban/signin");
        await own.close();
      });
    });
  }
}
