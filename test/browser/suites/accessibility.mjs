// Every page, in both languages, on a small phone, a phone and a desk: axe
// finds nothing, nothing scrolls sideways, no Urdu ink is cut off, the browser
// has nothing to complain about.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, unclipped, upright } from "../stage/look.mjs";
import { application, fill, press } from "../stage/forms.mjs";
import { signIn } from "../stage/servers.mjs";
import { visit } from "../stage/browser.mjs";

export const widths = [320, 390, 1280];

/** first follows the first link that matches. */
async function first(page, selector) {
  await page.goto(await page.locator(selector).first().evaluate((a) => a.href));
}

/** toCheck goes through the form up to "check your answers". */
async function toCheck(page, lang, demo) {
  await page.goto(`/${lang}/apply/land-transfer`);
  const [seller, buyer] = [1, 2].map((n) => demo.personas.find((p) => p.person === "citizen:syn-000" + n));
  await fill(page, application(seller, buyer));
  await press(page, "button[value=check]");
}

/** toWork chooses purpose and case at the desk. */
async function toWork(page) {
  await page.goto("/desk");
  await page.locator("input[name=purpose]").first().check();
  await page.fill("#case", "SYN-MUT-700");
  await press(page, "form[action='/desk/work'] .govuk-button:not([name])");
}

/** toRecord opens an application that is still to be checked: in each language
 * another one, for both are read at once. */
async function toRecord(page, lang) {
  await toWork(page);
  await page.goto("/desk/services/land-transfer?state=submitted");
  const all = page.locator(".govuk-summary-card__title a");
  await page.goto(await all.nth(lang === "ur" ? 1 : 0).evaluate((a) => a.href));
}

/** toAlert opens the newest alert's page. */
async function toAlert(page) {
  await page.goto("/soc/alerts");
  await first(page, "tbody a[href^='/soc/alerts/']");
}

/** toSuppression opens the form for a suppression of alerts like it. */
async function toSuppression(page) {
  await toAlert(page);
  await first(page, "a[href^='/soc/suppressions/new']");
}

/** toBlock opens the event of a request that the firewall stopped. */
async function toBlock(page, lang, demo) {
  await demo.ask("/records/search?mouza=%3Cscript%3Ealert(1)%3C/script%3E", { from: "127.0.0.91" });
  await page.goto("/soc/waf");
  await first(page, "td a[href^='/soc/events/']:has(code)");
}

/** toExclusion opens the form for an exclusion from it. */
async function toExclusion(page, lang, demo) {
  await toBlock(page, lang, demo);
  await first(page, "a[href^='/soc/waf/new']");
}

const go = (path) => (page, lang) => page.goto(path.replace("LANG", lang));

/** pages lists who opens what: a path, or a walk there. */
const pages = {
  stranger: {
    "portal's home": go("/LANG/"),
    "accessibility statement": go("/LANG/accessibility"),
    "sign-in": go("/pasban/signin"),
    "trust": go("/trust"),
    "led to sign-in": go("/desk"),
    "not found (404)": go("/LANG/nothing-here"),
    "stopped by the firewall (403)": go("/records/search?district=%3Cscript%3Ealert(1)%3C/script%3E"),
    "a used enrolment link": go("/pasban/enrol/AAAAAAAAAAAAAAAAAAAAAAAAAA"),
  },
  "citizen:syn-0001": {
    "who looked at my data": go("/LANG/my-data"),
    "who looked at my data, checked": async (page, lang) => {
      await page.goto(`/${lang}/my-data`);
      await page.locator("[data-check]").first().click();
      await page.locator("[data-whole]").click();
      await page.locator("article output[data-s=ok]").first().waitFor();
      await page.locator("#whole[data-s=ok]").waitFor();
      await page.locator("summary").click();
    },
    "receipt of an entry": async (page, lang) => { await page.goto(`/${lang}/my-data`); await first(page, "a[href*='/receipt/']"); },
    "report an entry": async (page, lang) => { await page.goto(`/${lang}/my-data`); await first(page, "a[href*='/report/']"); },
    "report with mistakes": async (page, lang) => {
      await page.goto(`/${lang}/my-data`);
      await first(page, "a[href*='/report/']");
      await press(page, "main .govuk-button");
    },
    "report sent": async (page, lang) => {
      await page.goto(`/${lang}/my-data`);
      await first(page, "a[href*='/report/']");
      await page.locator("input[name=reason]").first().check();
      await page.fill("#text", "میں اس افسر کو نہیں جانتا (فرضی)");
      await press(page, "main .govuk-button");
    },
    "application form": go("/LANG/apply/land-transfer"),
    "application form with mistakes": async (page, lang) => { await page.goto(`/${lang}/apply/land-transfer`); await press(page, "button[value=check]"); },
    "check your answers": toCheck,
    "confirmation": async (page, lang, demo) => { await toCheck(page, lang, demo); await press(page, "button[value=send]"); },
    "my applications": go("/LANG/applications"),
    "one application": async (page, lang) => { await page.goto(`/${lang}/applications`); await first(page, ".ps-proof a"); },
    "account": go("/pasban/account"),
  },
  "officer:syn-010": {
    "desk": go("/desk"),
    "desk with mistakes": async (page) => { await page.goto("/desk"); await press(page, "form[action='/desk/work'] .govuk-button:not([name])"); },
    "desk at work": toWork,
    "work list": async (page) => { await toWork(page); await page.goto("/desk/services/land-transfer"); },
    "found by number": async (page, lang, demo) => {
      await toWork(page);
      await page.goto("/desk/services/land-transfer");
      await page.selectOption("#field", "seller_cnic");
      await page.fill("#value", demo.personas.find((p) => p.person === "citizen:syn-0002").number);
      await press(page, ".ps-filter button");
    },
    "record": toRecord,
    "step done": async (page, lang) => { await toRecord(page, lang); await press(page, "form[action$='/steps/verify'] button"); },
    "not an analyst (403)": go("/soc"),
  },
  "analyst:syn-019": {
    "console overview": go("/soc"),
    "console queue": go("/soc/alerts"),
    "console alert": toAlert,
    "console event": async (page) => { await toAlert(page); await first(page, "a[href^='/soc/events/']"); },
    "console hunt": go("/soc/hunt"),
    "console hunt, found": async (page) => {
      await page.goto("/soc/hunt?q=Kind:%3Dblock&span=24h&field=SrcIP");
      await page.locator(".events tbody tr").first().waitFor();
    },
    "console hunt, rule": go("/soc/hunt/rule?q=Kind:%3Dblock&span=24h"),
    "console techniques": go("/soc/attack"),
    "console rules": go("/soc/rules?q=SQL&sort=noise"),
    "console rule": async (page) => { await page.goto("/soc/rules?q=SQL"); await first(page, "tbody a[href^='/soc/rules/']"); },
    "console correlation": async (page) => { await page.goto("/soc/rules?product=-"); await first(page, "tbody a[href^='/soc/rules/']"); },
    "console suppressions": go("/soc/suppressions"),
    "console suppression": toSuppression,
    "console suppression, preview": async (page, lang) => {
      await toSuppression(page);
      await page.fill("[name=reason]", "فرضی وجہ (synthetic)");
      await press(page, "form[action='/soc/suppressions/preview'] button");
    },
    "console suppression with mistakes": async (page) => {
      await toSuppression(page);
      await page.fill("[name=reason]", "x");
      await page.uncheck("[name=entity]");
      await press(page, "form[action='/soc/suppressions/preview'] button");
    },
    "console find": go("/soc/find?id=nothing-like-it"),
    "console firewall": async (page, lang, demo) => { await toBlock(page, lang, demo); await page.goto("/soc/waf"); },
    "console block": toBlock,
    "console exclusion": toExclusion,
    "console exclusion, preview": async (page, lang, demo) => {
      await toExclusion(page, lang, demo);
      await page.fill("[name=reason]", "فرضی وجہ (synthetic)");
      await press(page, "form[action='/soc/waf/preview'] button");
    },
    "console ledger": go("/soc/ledger"),
    "console not found (404)": go("/soc/nothing-here"),
  },
};

/** holds checks the page that is open at every width; on the console in dark
 * and, as far as colours go, in light. */
export async function holds(page, lang, what) {
  const dark = new URL(page.url()).pathname.startsWith("/soc");
  for (const width of widths) {
    const at = `${what}, ${lang}, ${width} px`;
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
    await accessible(page, at);
    await upright(page, lang, at);
    if (lang === "ur") await unclipped(page, at);
  }
  if (!dark) return;
  await page.emulateMedia({ colorScheme: "light" });
  await accessible(page, `${what}, ${lang}, light`, ["color-contrast", "link-in-text-block"]);
}

export function accessibility(stage) {
  for (const lang of ["en", "ur"]) {
    for (const [who, list] of Object.entries(pages)) {
      describe(`${who} reads in ${lang}`, () => {
        let context;
        before(async () => {
          const cookie = who === "stranger" ? undefined : await signIn(stage.demo, who);
          context = await visit(stage.browser, stage.demo, { lang, cookie });
        });
        after(() => context.close());
        for (const [name, walk] of Object.entries(list)) {
          test(name, async () => {
            const page = await context.newPage();
            await walk(page, lang, stage.demo);
            await holds(page, lang, name);
            await page.close();
            assert.deepEqual(context.trouble.splice(0), []);
          });
        }
      });
    }
  }
}
