// What a page costs a citizen who pays for every kilobyte.
import assert from "node:assert/strict";
import { test } from "node:test";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

const kilobyte = 1024;

/** wire opens a page with an empty cache and resolves to what travelled: its
 * bytes by address, headers included. */
async function wire(stage, path, options) {
  const context = await visit(stage.browser, stage.demo, { cookie: await signIn(stage.demo, "citizen:syn-0004"), viewport: { width: 390, height: 800 }, ...options });
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  const [urls, bytes] = [new Map(), new Map()];
  cdp.on("Network.requestWillBeSent", (e) => urls.set(e.requestId, e.request.url));
  cdp.on("Network.loadingFinished", (e) => bytes.set(urls.get(e.requestId), e.encodedDataLength));
  await cdp.send("Network.enable");
  await page.goto(path, { waitUntil: "networkidle" });
  await page.evaluate(() => document.fonts.ready);
  await context.close();
  const fonts = [...bytes.keys()].filter((url) => url.endsWith(".woff2"));
  const sum = (list) => list.reduce((n, url) => n + bytes.get(url), 0);
  const table = [...bytes].map(([url, n]) => `${n} ${url}`).join("\n");
  return { all: sum([...bytes.keys()]), rest: sum([...bytes.keys()].filter((url) => !fonts.includes(url))), fonts, urls: [...bytes.keys()], table };
}

export function weight(stage) {
  test("a receipt with its codes: 30 KB at most", async () => {
    const cookie = await signIn(stage.demo, "citizen:syn-0004");
    const list = await stage.demo.ask("/en/my-data", { headers: { Cookie: `${cookie.name}=${cookie.value}` } });
    const [path] = list.body.match(/\/en\/receipt\/\d+/);
    const w = await wire(stage, path);
    assert.ok(w.rest <= 30 * kilobyte, `${path}: ${w.rest} bytes\n${w.table}`);
  });

  test("a page in English: 30 KB at most, and no font", async () => {
    for (const path of ["/en/my-data", "/en/", "/en/apply/land-transfer"]) {
      const w = await wire(stage, path);
      assert.ok(w.rest <= 30 * kilobyte, `${path}: ${w.rest} bytes\n${w.table}`);
      assert.deepEqual(w.fonts, [], path);
    }
  });

  test("a first visit in Urdu: 30 KB at most without the font, 135 KB with it", async () => {
    const w = await wire(stage, "/ur/my-data", { lang: "ur" });
    assert.ok(w.rest <= 30 * kilobyte, `${w.rest} bytes\n${w.table}`);
    assert.equal(w.fonts.length, 1);
    assert.ok(w.all <= 135 * kilobyte, `${w.all} bytes\n${w.table}`);
  });

  test("who asks for little data gets no font", async () => {
    for (const path of ["/ur/my-data", "/ur/"]) {
      const w = await wire(stage, path, { lang: "ur", extraHTTPHeaders: { "Save-Data": "on" } });
      assert.ok(!w.urls.some((url) => url.includes("nastaliq")), w.table);
    }
  });

  test("who prefers the simple script gets no font, and keeps the preference", async () => {
    const context = await visit(stage.browser, stage.demo, { lang: "ur" });
    const page = await context.newPage();
    const asked = [];
    await page.goto("/ur/");
    await page.locator("a[href*='script=simple']").click();
    page.on("request", (r) => asked.push(r.url()));
    await page.goto("/ur/accessibility", { waitUntil: "networkidle" });
    assert.ok(!asked.some((url) => url.includes("nastaliq")), asked.join("\n"));
    await context.close();
  });
}
