// Passkeys at a node as operators start it: one-time links, sign-in, and an
// officer's way from the desk to a page of the old service. Chromium's virtual
// authenticator stands for the person's telephone.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, unclipped, upright } from "../stage/look.mjs";
import { press } from "../stage/forms.mjs";
import { visit } from "../stage/browser.mjs";

const citizen = "99101-1234567-1"; // no province has the number 9: synthetic

/** device opens a browser of somebody's own, with an authenticator in it. */
async function device(stage, options) {
  const context = await visit(stage.browser, stage.node, options);
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  const keys = async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
  const verified = (is) => cdp.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: is });
  return { context, page, keys, verified };
}

/** closed opens a page that nobody but the signed-in sees, and is led to sign-in. */
async function closed(page, path) {
  await page.goto(path);
  assert.equal(new URL(page.url()).pathname, "/pasban/signin");
}

/** use presses the passkey button and waits until it has led on. */
async function use(page, pattern) {
  await page.click("#passkey button");
  await page.waitForURL(pattern);
}

const signOut = (page) => press(page, "form[action='/pasban/signout'] button");

export function passkeys(stage) {
  describe("an officer", () => {
    let at, link;
    before(async () => {
      at = await device(stage);
      link = (await stage.node.add(["--role", "officer", "--staff", "SYN-501", "--name", "Synthetic Officer", "--name-ur", "فرضی افسر"])).enrol_url;
    });
    after(() => at.context.close());

    test("makes a passkey with the one-time link", async () => {
      await at.page.goto(link);
      assert.match(await at.page.textContent("main"), /Synthetic Officer/);
      await use(at.page, (url) => !url.pathname.startsWith("/pasban/enrol"));
      const keys = await at.keys();
      assert.equal(keys.length, 1);
      assert.ok(keys[0].isResidentCredential && keys[0].rpId === "localhost");
    });

    test("the link is refused the second time", async () => {
      const other = await device(stage);
      const answer = await other.page.goto(link);
      assert.ok(answer.status() >= 400, "status " + answer.status());
      assert.equal(await other.page.locator("#passkey").count(), 0);
      assert.equal((await other.keys()).length, 0);
      await other.context.close();
    });

    test("signs out, and in again", async () => {
      await at.page.goto("/pasban/account");
      await signOut(at.page);
      await closed(at.page, "/desk");
      await use(at.page, (url) => url.pathname.startsWith("/desk"));
      assert.match(await at.page.textContent(".ps-user"), /Synthetic Officer/);
    });

    test("is not let in without showing that it is them", async () => {
      await at.page.goto("/pasban/account");
      await signOut(at.page);
      await at.verified(false);
      await at.page.goto("/pasban/signin");
      await at.page.click("#passkey button");
      await at.page.locator("#passkey [role=status]:not(:empty)").waitFor();
      await at.page.waitForFunction(() => !document.querySelector("#passkey button").disabled);
      await closed(at.page, "/desk");
      await at.verified(true);
      await use(at.page, (url) => url.pathname.startsWith("/desk"));
    });

    test("says purpose and case, and only then sees the old service's page, with a promise", async () => {
      const record = `/records/${citizen}`;
      await at.page.goto(record);
      assert.equal(new URL(at.page.url()).pathname.startsWith("/desk"), true, "sent to the desk: " + at.page.url());
      assert.ok(!stage.node.old.seen.includes(record), "the old service has not been asked");
      await at.page.check("input[value=mutation]");
      await at.page.fill("#case", "SYN-MUT-1");
      const [answer] = await Promise.all([
        at.page.waitForResponse((r) => new URL(r.url()).pathname === record),
        press(at.page, "form[action='/desk/work'] .govuk-button:not([name])"),
      ]);
      assert.equal(await at.page.textContent("h1"), "Synthetic record");
      assert.match((await answer.allHeaders())["pasban-promise"], /^\d+; leaf=[\w-]+=*; sig=/);
      assert.deepEqual(stage.node.old.seen.filter((url) => url === record), [record]);
      assert.deepEqual(at.context.trouble.splice(0), []);
    });
  });

  describe("a citizen", () => {
    let at;
    before(async () => { at = await device(stage, { lang: "ur", viewport: { width: 390, height: 800 } }); });
    after(() => at.context.close());

    test("makes a passkey and finds the officer's look", async () => {
      const { enrol_url } = await stage.node.add(["--role", "citizen", "--name", "Synthetic Citizen", "--name-ur", "فرضی شہری"], citizen + "\n");
      await at.page.goto(enrol_url);
      await accessible(at.page, "enrolment, ur");
      await upright(at.page, "ur", "enrolment");
      await unclipped(at.page, "enrolment");
      await use(at.page, (url) => !url.pathname.startsWith("/pasban/enrol"));
      await at.page.goto("/ur/my-data");
      const look = at.page.locator("article", { has: at.page.locator("[data-k=why]", { hasText: "SYN-MUT-1" }) });
      assert.match(await look.locator("[data-k=who]").textContent(), /501/, "the staff number's last three");
      await look.locator("[data-check]").click();
      await look.locator("output[data-s=ok]").waitFor();
    });

    test("signs out, and in again", async () => {
      await signOut(at.page);
      await closed(at.page, "/ur/my-data");
      await use(at.page, (url) => url.pathname === "/ur/my-data");
      assert.match(await at.page.textContent(".ps-user"), /فرضی شہری/);
      assert.deepEqual(at.context.trouble.splice(0), []);
    });

    test("is no officer", async () => {
      assert.equal((await at.page.goto(`/records/${citizen}`)).status(), 403);
      assert.equal((await at.page.goto("/desk")).status(), 403);
    });
  });

  describe("when the old service is down (502)", () => {
    before(() => stage.node.old.close());
    for (const lang of ["en", "ur"]) {
      test(`the visitor is told so, ${lang}`, async () => {
        const context = await visit(stage.browser, stage.node, { lang, viewport: { width: 320, height: 800 } });
        const page = await context.newPage();
        assert.equal((await page.goto("/open")).status(), 502);
        await accessible(page, "502, " + lang);
        await upright(page, lang, "502");
        if (lang === "ur") await unclipped(page, "502");
        assert.deepEqual(context.trouble, []);
        await context.close();
      });
    }
  });
}
