// Hunting in the events: what attackers sent stays a value, on the page and in
// the query; everything works by keyboard, and without scripts.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { press } from "../stage/forms.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

/** soon is how long an event may take from the attack to the store. */
const soon = 20_000;

/** payload would show itself as HTML by an element, in a query by finding more. */
const payload = `<img src=x onerror=window.taken=1>" or * | delete UserAgent`;

export function hunting(stage) {
  let cookie, context;
  before(async () => {
    cookie = await signIn(stage.demo, "analyst:syn-020");
    context = await visit(stage.browser, stage.demo, { cookie });
    for (const from of ["127.0.0.101", "127.0.0.102"]) {
      const { status } = await stage.demo.ask("/" + encodeURIComponent("<script>1</script>"), { from, headers: { "User-Agent": from.endsWith("1") ? payload : "plain (synthetic)" } });
      assert.equal(status, 403);
    }
  });
  after(() => context.close());

  const address = (query, more = "") => `/soc/hunt?q=${encodeURIComponent(query)}&span=1h${more}`;

  /** found opens a hunt, again until its events have come. */
  async function found(page, query, more) {
    for (const until = Date.now() + soon; ;) {
      await page.goto(address(query, more));
      if (await page.locator(".events tbody").count() || Date.now() > until) break;
    }
    assert.ok(await page.locator(".events tbody").count(), await page.textContent("main"));
  }

  test("what an attacker sent is text, and a value that can be followed", async () => {
    const page = await context.newPage();
    await found(page, `SrcIP:in(127.0.0.101, 127.0.0.102)`, "&col=UserAgent&field=UserAgent");
    assert.equal(await page.locator("main :is(img, b, [onerror])").count(), 0);
    await page.locator(".events details summary").first().click();
    await page.locator(".events .kv").first().waitFor();
    assert.equal(await page.locator("main :is(img, b, [onerror])").count(), 0);
    assert.equal(await page.evaluate("window.taken"), undefined);
    await Promise.all([page.waitForEvent("load"), page.locator("#values a", { hasText: "onerror" }).click()]);
    const agents = await page.locator(".events td[data-h=UserAgent]").allTextContents();
    assert.ok(agents.length >= 1 && agents.every((a) => a.trim() === payload), agents.join("\n"));
    await Promise.all([page.waitForEvent("load"), page.goBack()]);
    await Promise.all([page.waitForEvent("load"), page.locator("#values tr", { hasText: "onerror" }).locator("a").nth(2).click()]);
    assert.ok(!(await page.textContent(".events")).includes("onerror"), "without it");
    assert.deepEqual(context.trouble.splice(0), []);
    await page.close();
  });

  test("the query is completed by keyboard", async () => {
    const page = await context.newPage();
    await page.goto("/soc/hunt");
    const box = page.locator("#q");
    const options = page.getByRole("option");
    await box.focus();
    await box.pressSequentially("SrcI");
    await options.first().waitFor();
    assert.equal(await box.getAttribute("role"), "combobox");
    assert.equal(await box.getAttribute("aria-expanded"), "true");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.getElementById(document.activeElement.getAttribute("aria-activedescendant")).getAttribute("aria-selected")), "true");
    await page.keyboard.press("Enter");
    assert.equal(await box.inputValue(), "SrcIP:");
    await box.pressSequentially("127.0.0.101");
    await options.filter({ hasText: "127.0.0.101" }).waitFor();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Tab");
    assert.equal((await box.inputValue()).trim(), 'SrcIP:="127.0.0.101"');
    await page.keyboard.press("Escape");
    assert.equal(await options.count(), 0);
    await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
    assert.match(await page.textContent(".events"), /127\.0\.0\.101/);
    assert.deepEqual(context.trouble.splice(0), []);
    await page.close();
  });

  test("the chart says what its table says, and a bar is a part of the time", async () => {
    const page = await context.newPage();
    await found(page, "Kind:=block");
    const drawn = JSON.parse(await page.textContent("#chart-data"));
    const table = await page.locator("#chart-table td").evaluateAll((all) => all.map((td) => +td.textContent.replace(/\D/g, "")));
    assert.deepEqual(table, drawn.series[0].values);
    const i = table.findLastIndex((n) => n > 0);
    const over = await page.locator("#chart .u-over").boundingBox();
    const at = (i + 0.4) / drawn.times.length;
    await Promise.all([page.waitForEvent("load"), page.mouse.click(over.x + over.width * at, over.y + over.height - 3)]);
    assert.equal(Date.parse(new URL(page.url()).searchParams.get("from")) / 1e3, drawn.times[i]);
    assert.deepEqual(context.trouble.splice(0), []);
    await page.close();
  });

  test("without scripts a hunt is asked, narrowed, opened, kept, exported and written as a rule", async () => {
    const plain = await visit(stage.browser, stage.demo, { cookie, javaScriptEnabled: false });
    const page = await plain.newPage();
    await page.goto("/soc/hunt");
    await page.fill("#q", "Kind:=block SrcIP:=127.0.0.102 or");
    await press(page, ".box button");
    assert.equal(await page.locator("#wrong mark").count(), 1, "it says where the mistake is");
    await found(page, "Kind:=block");
    await press(page, ".events tbody a >> nth=1");
    assert.match(await page.inputValue("#q"), /^Kind:=block \S+/);
    await press(page, ".spans button >> nth=0");
    await page.locator(".events details summary").first().click();
    await press(page, ".events details a >> nth=0");
    assert.match(await page.textContent("main"), /event_source/);
    await press(page, "h1 a");
    await page.fill("[name=name]", "Blocks <b>(synthetic)</b>");
    await press(page, "form[action='/soc/hunt/saved'] button");
    const row = page.locator("tr", { hasText: "(synthetic)" });
    assert.equal(await row.locator("b").count(), 0);
    await press(page, "td a[href^='/soc/hunt/rule']");
    const [, hits, tried] = (await page.textContent("section[aria-labelledby=tr]")).match(/matches ([\d,]+) of ([\d,]+) events/);
    assert.ok(hits === tried && hits !== "0", `${hits} of ${tried}`);
    await press(page, "h1 a");
    const [file] = await Promise.all([page.waitForEvent("download"), page.click("button[value=ndjson]")]);
    assert.match(file.suggestedFilename(), /^hunt-.*\.ndjson$/);
    await page.goto("/soc/hunt/saved");
    await press(page, "form[action$='/delete'] button");
    assert.equal(await row.count(), 0);
    assert.deepEqual(plain.trouble.splice(0), []);
    await plain.close();
  });
}
