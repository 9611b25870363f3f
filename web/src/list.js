// "Who looked at my data": the button "Check that nothing is missing" fetches the
// statement, verifies it here, and holds every card against the verified list.
import { Bad, texts } from "./verify.js";
import { Broken, whole } from "./statement.js";
import "./watch.js";

const m = JSON.parse(document.getElementById("words").textContent);
const fill = (key, values) => m[key].replace(/\{(\w+)\}/g, (_, k) => values[k] ?? "");

/** compare writes the cards anew from the verified entries; it reports whether
 * one of them says something else, or is of no entry. */
function compare(bodies) {
  const byID = new Map(bodies.map((b) => [b.id, b]));
  let differs = false;
  for (const card of document.querySelectorAll("article[data-id]")) {
    const body = byID.get(card.dataset.id);
    if (!body) {
      differs = true;
      continue;
    }
    const words = texts(body, m);
    for (const el of card.querySelectorAll("[data-k]")) {
      if (el.textContent.trim() !== words[el.dataset.k]) differs = true;
      el.textContent = words[el.dataset.k];
    }
  }
  return differs;
}

/** json reads an answer piece by piece: of hundreds of kilobytes a browser's own
 * answer.json() makes several copies, which takes several times as long. */
async function json(answer) {
  const reader = answer.body.getReader(), decoder = new TextDecoder(), piece = 1 << 15;
  let text = "";
  for (let at; !(at = await reader.read()).done;) {
    for (let i = 0; i < at.value.length; i += piece) text += decoder.decode(at.value.subarray(i, i + piece), { stream: true });
  }
  return JSON.parse(text + decoder.decode());
}

/** check returns what to say, and whether it is good ("ok"), bad or neither. */
async function check(vkey) {
  if (!globalThis.crypto?.subtle) return ["", m["check.cannot"]];
  let answer;
  try {
    answer = await fetch("/ledger/statement", { headers: { Accept: "application/json" } });
  } catch {
    return ["", m["check.unreachable"]];
  }
  if (answer.status === 503) return ["", m["whole.pending"]];
  if (!answer.ok) return ["", m["check.unreachable"]];
  try {
    const { bodies, covered, erased, time, closed, overdue } = await whole(await json(answer), vkey);
    if (compare(bodies)) return ["bad", m["whole.changed"]];
    if (overdue) return ["bad", fill("whole.overdue", { count: overdue })];
    const newer = bodies.length - covered;
    return ["ok", [
      fill(covered || erased ? "whole.ok" : "whole.empty", { count: covered, when: texts({ time }, m).when }),
      closed ? fill("whole.closed", { count: closed }) : "",
      newer ? fill("whole.newer", { count: newer }) : "",
      erased ? fill("whole.erased", { count: erased }) : "",
    ].filter(Boolean).join(" ")];
  } catch (e) {
    if (e instanceof Broken && e.entry) return ["bad", fill("whole." + e.message, { entry: e.entry })];
    return e instanceof Bad || e instanceof SyntaxError ? ["bad", m["whole.bad"]] : ["", m["check.cannot"]];
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-whole]");
  if (!button) return;
  const out = document.getElementById("whole");
  out.dataset.s = "";
  out.textContent = m["check.busy"];
  button.setAttribute("aria-disabled", "true");
  [out.dataset.s, out.textContent] = await check(button.dataset.vkey);
  button.removeAttribute("aria-disabled");
});
