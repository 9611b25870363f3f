// How long a proof takes in the browser: `node speed.mjs PROOFS ROUNDS` presses the
// buttons of the citizen's page, opened a second before, and prints the times in
// milliseconds, from the press to the verdict, at full speed and with the processor
// six times slower. PROOFS is what test/bench makes (browserProofs).
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import http from "node:http";
import { chromium } from "playwright-core";
import { texts } from "../../web/src/verify.js";

const [file, rounds] = process.argv.slice(2);
const proofs = JSON.parse(await readFile(file, "utf8"));
const own = (name) => readFile(fileURLToPath(new URL("../../internal/" + name, import.meta.url)), "utf8");
const words = JSON.parse(await own("portal/testdata/cards.json")).words.en;
const scripts = Object.fromEntries(await Promise.all(["data.js", "verify.js", "list.js"].map(async (name) => ["/" + name, await own("page/static/" + name)])));
const json = { "/ledger/statement": JSON.stringify(proofs.statement), ["/ledger/receipt/" + proofs.receipt.index]: JSON.stringify(proofs.receipt) };

/** card is an entry of the page. */
const card = ({ index, body }) => `<article data-index="${index}" data-id="${body.id}" data-vkey="${proofs.vkey}" data-proof="/verify.js">
${Object.entries(texts(body, words)).map(([k, text]) => `<p data-k="${k}">${text}</p>`).join("")}
<button type="button" data-check>check</button><output></output></article>`;

/** html is a page with as many cards as the portal shows. */
const html = (cards) => `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>speed</title>
<script type="application/json" id="words">${JSON.stringify(words).replaceAll("<", "\\u003c")}</script>
<script type="module" src="/data.js"></script>
${cards.map(card).join("")}
<div data-list="/list.js"><button type="button" data-whole data-vkey="${proofs.vkey}">whole</button><output id="whole"></output></div></html>`;
const pages = { "/receipts": html([proofs.receipt]), "/lists": html(proofs.statement.entries.slice(-20)) };

const server = http.createServer((req, res) => {
  const [type, body] = scripts[req.url] ? ["text/javascript", scripts[req.url]] : json[req.url] ? ["application/json", json[req.url]] : ["text/html; charset=utf-8", pages[req.url] ?? ""];
  res.writeHead(200, { "Content-Type": type, "Content-Length": Buffer.byteLength(body), "Cache-Control": "no-store" }).end(body);
}).listen(0, "127.0.0.1");
await once(server, "listening");

/** press runs in the page: it presses a button and resolves to how long its
 * verdict took, and to what it was. */
const press = ([button, output]) => new Promise((yes) => {
  const out = document.querySelector(output);
  const start = performance.now();
  new MutationObserver((_, o) => {
    if (!out.dataset.s) return;
    o.disconnect();
    yes([performance.now() - start, out.dataset.s, out.textContent]);
  }).observe(out, { attributes: true });
  document.querySelector(button).click();
});

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
const page = await browser.newPage();
const cdp = await page.context().newCDPSession(page);
const times = { browser: "Chromium " + browser.version().split(".")[0], receipts: {}, lists: {} };
const all = { receipts: ["article [data-check]", "article output"], lists: ["[data-whole]", "#whole"] };
for (let i = 0; i < rounds; i++) {
  for (const rate of [1, 6]) {
    for (const [what, [button, output]] of Object.entries(all)) {
      await page.goto(`http://127.0.0.1:${server.address().port}/${what}`);
      await page.waitForTimeout(1000); // nobody presses sooner
      await cdp.send("Emulation.setCPUThrottlingRate", { rate });
      const [ms, verdict, said] = await page.evaluate(press, [button, output]);
      await cdp.send("Emulation.setCPUThrottlingRate", { rate: 1 });
      if (verdict !== "ok") throw new Error(`${what}: ${verdict}: ${said}`);
      (times[what][rate] ??= []).push(ms);
    }
  }
}
console.log(JSON.stringify(times));
await browser.close();
server.close();
