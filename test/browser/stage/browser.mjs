// The browser, and what a person would notice who kept its developer tools open.
import { chromium } from "playwright-core";

/** launch starts Chromium, trusting the given nodes' keys as it would trust
 * their certificate authority if it were installed. */
export async function launch(servers) {
  const pins = await Promise.all(servers.map((s) => s.pin()));
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--ignore-certificate-errors-spki-list=" + pins.join(","),
    ],
  });
}

const locales = { en: "en-GB", ur: "ur-PK" };

/** visit opens a browser context of its own for somebody, and collects what
 * goes wrong on its pages in context.trouble: errors in the console, scripts
 * that failed, violations of the content security policy. */
export async function visit(browser, server, { lang = "en", cookie, ...options } = {}) {
  const context = await browser.newContext({
    baseURL: server.base, locale: locales[lang], viewport: { width: 1280, height: 900 }, ...options,
  });
  context.setDefaultTimeout(15_000);
  if (cookie) await context.addCookies([cookie]);
  context.trouble = [];
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  context.on("weberror", (e) => context.trouble.push(`${e.page()?.url()}: ${e.error()}`));
  context.on("console", (m) => {
    // the browser says of every page with an error status that it could not load it
    if (m.type() === "error" && m.location().url !== m.page()?.url()) context.trouble.push(`${m.page()?.url()}: ${m.text()}`);
    else if (m.type() === "error" && !/Failed to load resource/.test(m.text())) context.trouble.push(`${m.page()?.url()}: ${m.text()}`);
  });
  return context;
}
