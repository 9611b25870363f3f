// What must hold of every page.
import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";

/** accessible fails unless axe finds nothing on the page as it is now. With
 * rules given, only these are tried. */
export async function accessible(page, what, rules) {
  const axe = new AxeBuilder({ page }).setLegacyMode(true).options({ resultTypes: ["violations"] });
  const { violations } = await (rules ? axe.withRules(rules) : axe).analyze();
  const list = violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}\n    ${n.failureSummary?.replaceAll("\n", "\n    ")}\n    ${n.html}`));
  assert.equal(list.length, 0, `${what}: axe found\n${list.slice(0, 8).join("\n")}`);
}

/** upright fails if the page scrolls sideways, or says its language wrong. */
export async function upright(page, lang, what) {
  const found = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.scrollingElement;
    const edge = (e) => { const r = e.getBoundingClientRect(); return r.right > clientWidth + 1 || r.left < -1; };
    const wide = scrollWidth > clientWidth ? [...document.body.querySelectorAll("*")].filter(edge).slice(-3).map((e) => e.outerHTML.slice(0, 160)) : [];
    return { scrollWidth, clientWidth, wide, lang: document.documentElement.lang, dir: getComputedStyle(document.documentElement).direction };
  });
  assert.ok(found.scrollWidth <= found.clientWidth, `${what}: ${found.scrollWidth} px in ${found.clientWidth}\n${found.wide.join("\n")}`);
  assert.deepEqual([found.lang, found.dir], lang === "ur" ? ["ur", "rtl"] : ["en", "ltr"], what);
}

/** unclipped fails if Nastaliq text may lose its ink: lines that are too low,
 * controls lower than their line or without room beside it, boxes that hide
 * what overflows them. */
export async function unclipped(page, what) {
  const found = await page.evaluate(async () => {
    await document.fonts.ready;
    const urdu = /[\u0600-\u06ff]/, bad = [];
    const say = (e, why) => bad.push(`${why}: ${e.outerHTML.slice(0, 160)}`);
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const at = walk.currentNode.parentElement;
      if (!urdu.test(walk.currentNode.data) || !at.checkVisibility() || at.closest("[lang=en], script")) continue;
      const style = getComputedStyle(at), size = parseFloat(style.fontSize), line = parseFloat(style.lineHeight);
      if (!style.fontFamily.startsWith('"Pasban Nastaliq"')) continue; // the system's Naskh
      const boxes = [];
      for (let box = at; box !== document.documentElement; box = box.parentElement) boxes.push(box);
      const hides = (box) => { const s = getComputedStyle(box); return [s.overflowX, s.overflowY].some((v) => v === "hidden" || v === "clip"); };
      if (boxes.some((box) => hides(box) && box.clientWidth <= 1)) continue; // for screen readers only
      if (!(line >= size * 2.05)) say(at, `line ${line} for ${size} px`);
      for (const box of boxes) {
        if (hides(box)) say(box, "overflow hidden");
        if (/^(BUTTON|SELECT|INPUT)$/.test(box.tagName) && box.clientHeight + 1 < line) say(box, `${box.clientHeight} px high for a line of ${line}`);
      }
    }
    const pen = document.createElement("canvas").getContext("2d");
    for (const select of document.querySelectorAll("select")) { // cuts at the sides too
      const style = getComputedStyle(select), text = select.selectedOptions[0]?.textContent.trim() || "";
      if (!urdu.test(text) || !select.checkVisibility()) continue;
      Object.assign(pen, { font: `${style.fontSize} ${style.fontFamily}`, direction: "rtl", textAlign: "right" });
      const ink = pen.measureText(text), over = ink.actualBoundingBoxRight, tall = ink.actualBoundingBoxAscent + ink.actualBoundingBoxDescent;
      if (over > parseFloat(style.textIndent) + 0.5) say(select, `${over} px of ink before its start`);
      if (tall > select.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom)) say(select, `${tall} px of ink in ${select.clientHeight}`);
    }
    return bad;
  });
  assert.deepEqual(found.slice(0, 8), [], `${what}: Nastaliq may be clipped`);
}
