// "Who looked at my data": each entry's "Check this entry" button fetches the
// receipt, and beside it what verifies it (verify.js: most visitors do without
// it), and writes the card anew from the verified body.
const m = JSON.parse(document.getElementById("words").textContent);

/** check verifies one card's entry and returns what to say of it. */
async function check(card) {
  if (!globalThis.crypto?.subtle) return "cannot";
  const { index, id, vkey, proof } = card.dataset;
  let answer, prover;
  try {
    [answer, prover] = await Promise.all([fetch("/ledger/receipt/" + index, { headers: { Accept: "application/json" } }), import(proof)]);
  } catch {
    return "unreachable";
  }
  if (answer.status === 503) return "pending";
  if (!answer.ok) return "unreachable";
  const { Bad, texts, verify } = prover;
  try {
    const receipt = await answer.json();
    const body = await verify(receipt, vkey);
    if (String(receipt.index) !== index || body.id !== id) return "bad";
    return rewrite(card, texts(body, m)) ? "changed" : "ok";
  } catch (e) {
    return e instanceof Bad || e instanceof SyntaxError ? "bad" : "cannot";
  }
}

/** rewrite puts the verified words into the card; it reports whether any of
 * them differ from what the page had shown. */
function rewrite(card, words) {
  let changed = false;
  for (const el of card.querySelectorAll("[data-k]")) {
    const text = words[el.dataset.k];
    if (el.textContent.trim() !== text) changed = true;
    el.textContent = text;
  }
  return changed;
}

/** list fetches what works on the whole list, when it is first asked for: most
 * visitors do without it, and it weighs as much as all else here. Then it
 * presses the button again, for those who listen now. */
let listed = false;
async function list(button) {
  if (listed) return;
  listed = true;
  try {
    await import(button.closest("[data-list]").dataset.list);
    button.click();
  } catch {
    listed = false;
    document.getElementById(button.hasAttribute("data-whole") ? "whole" : "watch").textContent = m["check.unreachable"];
  }
}

/** beforehand fetches what verifies and has it made ready, when the browser has
 * nothing else to do: what a press waits for is the proof alone. */
async function beforehand() {
  const card = document.querySelector("[data-proof]");
  if (!card || !globalThis.crypto?.subtle || navigator.connection?.saveData) return;
  try {
    await (await import(card.dataset.proof)).prepare(card.dataset.vkey);
  } catch { /* the press says it */ }
}

document.documentElement.classList.add("js");
(globalThis.requestIdleCallback ?? setTimeout)(beforehand);
document.addEventListener("click", async (event) => {
  const whole = event.target.closest("[data-whole],[data-watch]");
  if (whole) return list(whole);
  const button = event.target.closest("[data-check]");
  if (!button) return;
  const card = button.closest("[data-index]");
  const out = card.querySelector("output");
  out.dataset.s = out.textContent = ""; // or the same verdict again would not be read out
  const late = setTimeout(() => { // most are answered before anyone could read it
    out.textContent = m["check.busy"];
    button.setAttribute("aria-disabled", "true");
  }, 100);
  const result = await check(card);
  clearTimeout(late);
  out.dataset.s = result === "ok" ? "ok" : result === "bad" || result === "changed" ? "bad" : "";
  out.textContent = m["check." + result];
  button.removeAttribute("aria-disabled");
});
