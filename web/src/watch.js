// "Who looked at my data": the button "Tell me of new entries" watches the
// published epochs, as long as the page is open, for the label of the citizen's
// own list (pasban.WatchKey). What it fetches is the same for everyone.
import { big, bytes, sha256, toURL } from "./bytes.js";
import { Bad, verify } from "./verify.js";

const get = async (url, headers = {}) => {
  const answer = await fetch(url, { headers });
  if (!answer.ok) throw Object.assign(new Error("answer " + answer.status), { status: answer.status });
  return answer;
};

/** grew reports whether the list of the key grew in a verified epoch, given the
 * labels that were published with it. */
export async function grew(key, epoch, labels) {
  const { watch, epoch: number } = epoch.heads;
  if (epoch.kind !== "heads" || !watch || labels.length % 8 || watch !== toURL(sha256(labels))) throw new Bad("labels");
  const mac = await crypto.subtle.importKey("raw", bytes(key.key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const label = new Uint8Array(await crypto.subtle.sign("HMAC", mac, big(number))).slice(0, 8);
  for (let i = 0; i < labels.length; i += 8) if (label.every((b, k) => b === labels[i + k])) return true;
  return false;
}

const most = 120; // epochs that are gone through at once

const json = async (url) => (await get(url, { Accept: "application/json" })).json();
const year = (epoch) => new Date(epoch.time).getUTCFullYear();

/** step looks at the epochs after the last one seen; it returns the newest and
 * whether the list grew in any. seen 0 begins with the newest. kept holds the
 * citizen's key, which is fetched once in a year. */
export async function step(seen, vkey, kept = {}) {
  kept.key ??= await json("/ledger/watch-key");
  const fetchEpoch = async (query) => verify(await json("/ledger/heads" + query), vkey);
  const newest = await fetchEpoch(""), last = newest.heads.epoch;
  if (year(newest) > kept.key.year) kept.key = await json("/ledger/watch-key");
  let found = false;
  for (let n = seen ? Math.max(seen + 1, last - most) : last + 1; n <= last; n++) {
    const epoch = n === last ? newest : await fetchEpoch("?epoch=" + n);
    if (epoch.heads.epoch !== n) throw new Bad("epoch");
    if (year(epoch) !== kept.key.year) continue; // the key ends with its year
    if (await grew(kept.key, epoch, new Uint8Array(await (await get("/ledger/watch/" + n)).arrayBuffer()))) found = true;
  }
  return { seen: last, found };
}

/** begin watches until the page is left. */
async function begin(button, out, m, every) {
  let seen = 0;
  const kept = {};
  const say = (s, text) => { [out.dataset.s, out.textContent] = [s, text]; };
  const look = async () => {
    try {
      const at = await step(seen, button.dataset.vkey, kept);
      if (at.found) {
        say("ok", m["watch.found"]);
        document.title = "● " + document.title.replace(/^● /, "");
        return; // what there is to see is on the page when it is loaded again
      }
      if (out.textContent !== m["watch.on"]) say("", m["watch.on"]);
      seen = at.seen;
    } catch (e) {
      if (e instanceof Bad) return say("bad", m["watch.bad"]);
      say("", m[e.status === 401 ? "watch.signin" : e.status === 503 ? "watch.on" : "watch.unreachable"]);
    }
    setTimeout(look, every);
  };
  button.setAttribute("aria-disabled", "true");
  say("", m["check.busy"]);
  await look();
}

globalThis.document?.addEventListener("click", (event) => {
  const button = event.target.closest("[data-watch]");
  if (!button || button.watching) return;
  button.watching = true;
  const m = JSON.parse(document.getElementById("words").textContent);
  return begin(button, document.getElementById("watch"), m, 60_000);
});

