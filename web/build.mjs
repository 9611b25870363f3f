// Builds the style sheets, scripts and fonts of Pasban's web surfaces into
// ../internal/page/static, and the fonts of printed documents into
// ../internal/paper/fonts, where they are committed so that `go build` needs no
// Node. With --check it builds into memory and fails on any difference.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";
import * as esbuild from "esbuild";
import * as sass from "sass";
import rtlcss from "rtlcss";
import subset from "subset-font";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.join(here, "../internal/page/static");
const printed = path.join(here, "../internal/paper/fonts");
const own = "/* Pasban; Apache-2.0. Built by web/build.mjs, do not edit. */\n";
const govuk = "/* Contains govuk-frontend, MIT licence, (c) Crown Copyright (Government Digital Service). */\n";

/** style compiles one sheet of scss/ to compressed CSS. */
function style(name) {
  return sass.compile(path.join(here, "scss", name + ".scss"), {
    style: "compressed", charset: false, quietDeps: true,
  }).css;
}

/** script bundles and minifies one module. */
async function script(entry, format) {
  const r = await esbuild.build({
    entryPoints: [path.join(here, entry)], bundle: true, minify: true, write: false, format,
    target: "es2022", charset: "utf8", legalComments: "none", logLevel: "warning",
  });
  return r.outputFiles[0].text;
}

/** htmx joins htmx and the extensions that are used into one classic script:
 * loaded apart they come too late and their guard fails open, and as modules
 * they do not find the global name that they extend. */
async function htmx() {
  const parts = ["htmx.min.js", "ext/hx-csp.min.js", "ext/hx-sse.min.js"];
  const texts = await Promise.all(parts.map((p) => readFile(path.join(here, "node_modules/htmx.org/dist", p), "utf8")));
  return texts.map((t) => t.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "")).join(";\n") + "\n";
}

/** urdu is every character that Urdu text may hold: the script's letters,
 * marks, digits and punctuation, and the joiners. Sindhi, Pashto and Arabic
 * letters that names may bring along are kept; Quranic marks are not. */
function urdu() {
  const codes = [0x200c, 0x200d, 0x200e, 0x200f, 0x20];
  const add = (from, to) => { for (let c = from; c <= to; c++) codes.push(c); };
  add(0x060c, 0x060c); add(0x061b, 0x061b); add(0x061f, 0x061f);
  add(0x0621, 0x063a); add(0x0640, 0x0652); add(0x0654, 0x0654); add(0x0670, 0x0670);
  for (const c of "ٹپچڈڑژکگںھہۂۃیئےۓ۔ۀ٪٫٬") codes.push(c.codePointAt(0));
  return String.fromCodePoint(...codes);
}

/** latin is every character of Latin text on paper. */
function latin() {
  let s = "–—‘’“”•…−";
  for (let c = 0x20; c < 0x180; c++) if (c < 0x7f || c > 0x9f) s += String.fromCodePoint(c);
  return s;
}

/** font cuts a font (Noto, SIL Open Font Licence) down to these characters. */
async function font(name, file, text, targetFormat) {
  const source = path.join(here, "node_modules/@fontsource", name, "files", `${name}-${file}-normal.woff2`);
  return subset(await readFile(source), text, { targetFormat });
}

/** build returns every output by name. */
async function build() {
  const portal = style("portal");
  const uplotCSS = await readFile(path.join(here, "node_modules/uplot/dist/uPlot.min.css"), "utf8");
  const files = {
    "portal.css": own + govuk + portal,
    "portal.rtl.css": own + govuk + rtlcss.process(portal),
    "nastaliq.css": own + style("nastaliq"),
    "nastaliq.woff2": await font("noto-nastaliq-urdu", "arabic-400", urdu(), "woff2"),
    "icon.svg": await readFile(path.join(here, "src/icon.svg")),
    "console.css": own + "/* Contains uPlot, MIT licence, (c) Leon Sorokin. */\n" + uplotCSS.trim() + "\n" + style("console"),
    "htmx.js": own + "/* htmx with hx-csp and hx-sse, 0BSD licence, Big Sky Software. */\n" + await htmx(),
    "chart.js": own + "/* Contains uPlot, MIT licence, (c) Leon Sorokin. */\n" + await script("src/chart.js", "iife"),
    "hunt.js": own + await script("src/hunt.js", "iife"),
    "data.js": own + await script("src/page.js", "esm"),
    "verify.js": own + await script("src/verify.js", "esm"),
    "list.js": own + await script("src/list.js", "esm"),
    "passkey.js": own + await script("src/passkey.js", "esm"),
    "pass.js": own + await script("src/pass.js", "iife"),
  };
  const paper = {
    "OFL.txt": await readFile(path.join(here, "node_modules/@fontsource/noto-nastaliq-urdu/LICENSE")),
    "nastaliq.ttf": await font("noto-nastaliq-urdu", "arabic-400", urdu(), "truetype"),
    "sans.ttf": await font("noto-sans", "latin-400", latin(), "truetype"),
    "sans-semibold.ttf": await font("noto-sans", "latin-600", latin(), "truetype"),
  };
  const buffers = (files) => new Map(Object.entries(files).map(([name, data]) => [name, Buffer.from(data)]));
  return [[out, buffers(files)], [printed, buffers(paper)]];
}

/** different lists the names in dir whose committed file is not the built one. */
async function different(dir, files) {
  const bad = [];
  for (const [name, data] of files) {
    const there = await readFile(path.join(dir, name)).catch(() => Buffer.alloc(0));
    if (!there.equals(data)) bad.push(name);
  }
  for (const name of await readdir(dir)) {
    if (!files.has(name)) bad.push(name + " (nothing builds it)");
  }
  return bad;
}

const built = await build();
for (const name of ["data.js", "verify.js"]) {
  const size = built[0][1].get(name).length;
  if (size > 6 * 1024) throw new Error(`${name} has ${size} bytes, the budget is 6144`);
}
if (process.argv.includes("--check")) {
  const bad = (await Promise.all(built.map(([dir, files]) => different(dir, files)))).flat();
  if (bad.length) {
    console.error("not what web/ builds: " + bad.join(", ") + "\nrun: make -C web");
    process.exit(1);
  }
  console.log(`${built.reduce((n, [, files]) => n + files.size, 0)} web assets are what web/ builds`);
} else {
  for (const [dir, files] of built) {
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    for (const [name, data] of files) {
      await writeFile(path.join(dir, name), data);
      console.log(String(data.length).padStart(8), name);
    }
  }
}
