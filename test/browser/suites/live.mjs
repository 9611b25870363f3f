// Alerts reach the analyst while they watch; what attackers write is text.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

/** soon is how long an alert may take from the attack to the screen. */
const soon = { timeout: 10_000 };

/** payloads would show themselves, if they were taken for HTML, by a new element
 * or a variable; as text they are what the alert's reason quotes. */
const payloads = [
  "<img src=x onerror=window.taken=1>",
  "<script>window.taken=1</script>",
  "<b hx-get=/soc hx-trigger=load onclick=alert(1)>x",
];

/** attack sends an attack from a loopback address of its own. */
async function attack(demo, from, text = payloads[0]) {
  const answer = await demo.ask("/" + encodeURIComponent(text), { from, headers: { "User-Agent": text } });
  assert.equal(answer.status, 403);
}

export function live(stage) {
  let context;
  before(async () => { context = await visit(stage.browser, stage.demo, { cookie: await signIn(stage.demo, "analyst:syn-020") }); });
  after(() => context.close());

  /** watch opens a page and waits until its live stream is open. */
  async function watch(path, stream) {
    const page = await context.newPage();
    await Promise.all([page.waitForResponse((r) => new URL(r.url()).pathname === stream && r.ok()), page.goto(path)]);
    return page;
  }

  /** asText fails if anything in part of the page came from an attacker. */
  async function asText(page, part) {
    assert.equal(await page.locator(`${part} :is(img, b, script, [hx-get], [onclick])`).count(), 0);
    assert.equal(await page.evaluate("window.taken"), undefined);
  }

  test("alerts appear on the overview by themselves, as text", async () => {
    const page = await watch("/soc", "/soc/live");
    const before = await page.locator("#live tr").count();
    for (const [i, text] of payloads.entries()) {
      await attack(stage.demo, "127.0.0.7" + i, text);
      const row = page.locator("#live tr.new", { hasText: "127.0.0.7" + i }).first();
      await row.waitFor(soon);
      assert.ok((await row.textContent()).includes(text), "the reason quotes the attack");
    }
    await asText(page, "#live");
    assert.ok(await page.locator("#live tr").count() >= before + payloads.length);

    await page.goto(await page.locator("#live a[href^='/soc/alerts/']").first().evaluate((a) => a.href));
    assert.ok((await page.textContent("main")).includes(payloads.at(-1)), "the alert's own page quotes it too");
    await asText(page, "main");
    await page.goto(await page.locator("a[href^='/soc/events/']").first().evaluate((a) => a.href));
    assert.ok((await page.textContent("main")).includes(payloads.at(-1)), "so does the event's");
    await asText(page, "main");
    assert.deepEqual(context.trouble.splice(0), []);
    await page.close();
  });

  test("the queue counts new alerts and moves nothing", async () => {
    const page = await watch("/soc/alerts", "/soc/live/count");
    const rows = () => page.locator("tbody tr").evaluateAll((all) => all.map((tr) => tr.textContent + tr.getBoundingClientRect().top));
    await page.locator("tbody tr").first().scrollIntoViewIfNeeded();
    await attack(stage.demo, "127.0.0.81");
    const pill = page.locator("[role=status] .pill");
    await pill.waitFor(soon);
    const [shown, count] = [await rows(), await pill.textContent()];
    await attack(stage.demo, "127.0.0.82");
    await page.waitForFunction((count) => document.querySelector(".pill").textContent !== count, count, soon);
    assert.deepEqual(await rows(), shown);
    assert.ok(!shown.some((text) => text.includes("127.0.0.81")));
    await Promise.all([page.waitForEvent("load"), pill.click()]);
    assert.match(await page.textContent("tbody"), /127\.0\.0\.81/);
    assert.deepEqual(context.trouble.splice(0), []);
    await page.close();
  });

  test("an alert is acknowledged with who and a note", async () => {
    await attack(stage.demo, "127.0.0.83");
    const note = `seen: 1 < 2 & "so on" (synthetic)`;
    const page = await context.newPage();
    const row = page.locator("tbody tr", { hasText: "127.0.0.83" }).first();
    for (const until = Date.now() + soon.timeout; Date.now() < until && await row.count() === 0;) await page.goto("/soc/alerts");
    await row.locator("input[name=id]").check();
    await page.fill("[name=note]", note);
    const link = await row.locator("a[href^='/soc/alerts/']").first().evaluate((a) => a.href);
    await Promise.all([page.waitForEvent("load"), page.click("button[value=acknowledged]")]);
    await page.goto(link);
    const history = await page.textContent("main");
    assert.ok(history.includes("analyst:syn-020") && history.includes(note), history);
    await page.close();
  });

  test("the figures of the chart stand in its table", async () => {
    const page = await context.newPage();
    await page.goto("/soc");
    const drawn = JSON.parse(await page.textContent("#chart-data"));
    await page.click("section[aria-labelledby=ch] summary");
    const table = await page.locator("section[aria-labelledby=ch] tbody tr").evaluateAll((all) => all.map((tr) => [...tr.querySelectorAll("td")].map((td) => +td.textContent.replace(/\D/g, ""))));
    const figures = drawn.times.map((_, i) => drawn.series.map((s) => s.values[i]));
    assert.deepEqual(table.flat().filter(Boolean).toSorted(), figures.flat().filter(Boolean).toSorted());
    assert.ok(await page.locator("#chart canvas").isVisible());
    await page.close();
  });

  test("the chart is drawn again in the colours of the hour", async () => {
    const page = await context.newPage();
    await page.emulateMedia({ colorScheme: "light" });
    await page.goto("/soc");
    const light = await page.locator("#chart canvas").evaluate((canvas) => canvas.toDataURL());
    await page.emulateMedia({ colorScheme: "dark" });
    await page.waitForFunction((light) => {
      const all = document.querySelectorAll("#chart canvas");
      return all.length === 1 && all[0].toDataURL() !== light;
    }, light);
    await page.close();
  });
}
