// Checks a receipt of Pasban's ledger as pasban.Receipt.Verify does, with
// nothing but the browser: the checkpoint's signature, the leaf's place in the
// tree, and that the leaf commits to the body. Byte formats: the Go package
// pasban, RFC 6962 (hashes, section 2.1), C2SP signed-note and tlog-checkpoint.

import { bytes, sha256, toURL, utf8 } from "./bytes.js";

/** Bad is a receipt that does not hold; any other error means that this
 * browser could not tell. */
export class Bad extends Error {}

/** kinds are the public bytes of a leaf's kind. */
export const kinds = { look: 1, change: 2, decision: 3, admin: 4, heads: 5, opening: 6 };
const same = (a, b) => a.length === b.length && a.every((v, i) => v === b[i]);
const must = (holds, what) => { if (!holds) throw new Bad(what); };

/** ordered reports whether an object's keys, and those in it, stand in order. */
const ordered = (v) => !v || typeof v !== "object" ||
  (Array.isArray(v) || Object.keys(v).every((k, i, all) => !i || all[i - 1] < k)) && Object.values(v).every(ordered);

/** canonical writes JSON as RFC 8785 does. Bodies hold strings, lists of
 * strings and one small integer, for which this is all there is to it. Most
 * come in order: the browser's own writing is the same then, and faster. */
export function canonical(v) {
  if (ordered(v)) return JSON.stringify(v);
  if (Array.isArray(v)) return "[" + v.map(canonical).join(",") + "]";
  return "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + canonical(v[k])).join(",") + "}";
}

/** read checks a verifier key (name+hash+base64) and hands it to the browser. */
async function read(vkey) {
  const [, name, hash, b64] = vkey.match(/^([^+]+)\+([0-9a-f]{8})\+(.+)$/) || [];
  must(name, "key");
  const key = bytes(b64); // algorithm 1, then 32 bytes of Ed25519
  must(key[0] === 1 && key.length === 33, "key");
  const id = sha256(name + "\n", key).slice(0, 4);
  must([...id].map((b) => b.toString(16).padStart(2, "0")).join("") === hash, "key");
  return { name, id, pub: await crypto.subtle.importKey("raw", key.slice(1), { name: "Ed25519" }, false, ["verify"]) };
}

let last = {};

/** ready returns the verifier key, which is read once. */
function ready(vkey) {
  if (last.vkey !== vkey) last = { vkey, key: read(vkey) };
  const { key } = last;
  key.catch(() => { last = {}; });
  return key;
}

/** prepare does beforehand what needs no receipt: it reads the key, hashes as
 * much as makes a browser compile that, and wakes the browser's Ed25519. */
export async function prepare(vkey) {
  const { id, pub } = await ready(vkey);
  for (let i = 0; i < 200; i++) sha256(id);
  await crypto.subtle.verify("Ed25519", pub, new Uint8Array(64), id);
}

/** open reads a checkpoint: its origin, size and root, and whether its
 * signature holds, which the browser finds out in a thread of its own. */
function open(checkpoint, { name, id, pub }) {
  const end = checkpoint.lastIndexOf("\n\n") + 1;
  const [origin, size, root] = checkpoint.slice(0, end).split("\n");
  must(end > 0 && checkpoint.endsWith("\n") && origin === name && /^(0|[1-9]\d{0,15})$/.test(size), "checkpoint");
  for (const line of checkpoint.slice(end + 1).split("\n")) {
    if (!line.startsWith("— " + name + " ")) continue;
    const sig = bytes(line.slice(name.length + 3));
    if (!same(sig.slice(0, 4), id)) continue;
    const signed = crypto.subtle.verify("Ed25519", pub, sig.slice(4), utf8(checkpoint.slice(0, end)));
    signed.catch(() => {}); // who awaits it is told; the rest may have failed before
    return { origin, size: +size, root: bytes(root), signed };
  }
  throw new Bad("signature");
}

/** climb computes the root that a proof leads to (RFC 9162, section 2.1.3.2). */
function climb(hash, index, size, proof) {
  let last = size - 1;
  for (const p of proof) {
    must(last > 0, "proof");
    if (index % 2 || index === last) {
      hash = sha256([1], p, hash);
      while (index && index % 2 === 0) {
        index /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      hash = sha256([1], hash, p);
    }
    index = Math.floor(index / 2);
    last = Math.floor(last / 2);
  }
  must(last === 0, "proof");
  return hash;
}

const details = ["who", "service", "resource", "action", "fields", "purpose", "case", "basis", "mode"];

/** unfold checks what opens an entry that was hidden until its date against the
 * body that commits to it, and returns the body with its details; an entry that
 * is not opened, or was never hidden, is returned as it is. */
export function unfold(body, hidden) {
  if (!hidden) return body;
  const salt = bytes(hidden.salt), part = bytes(hidden.part);
  must(salt.length === 32 && body.hidden?.digest === toURL(sha256(salt, part)), "hidden");
  const text = new TextDecoder("utf-8", { fatal: true }).decode(part), told = JSON.parse(text);
  must(canonical(told) === text && told.who?.kind && !closed(told) && Object.keys(told).every((k) => details.includes(k)), "hidden");
  return { ...body, ...told };
}

/** closed reports whether a body keeps its details back until its date. */
export const closed = (b) => b.who?.kind === "hidden";

/** verify checks a whole receipt against the ledger's key and returns the
 * verified body; what is shown to a person is written from that. */
export async function verify(receipt, vkey) {
  try {
    const { body, kind, index, salt, proof } = receipt;
    must(receipt.schema === "pasban.receipt.v1" && Object.hasOwn(kinds, kind), "schema");
    const cp = open(receipt.checkpoint, await ready(vkey));
    must(receipt.origin === cp.origin && Number.isSafeInteger(index) && index >= 0 && index < cp.size, "index");
    const s = bytes(salt);
    must(s.length === 32 && body.v === 1 && body.kind === kind, "body");
    const leaf = sha256([0, 1, kinds[kind]], sha256(s, canonical(body)));
    must(same(climb(leaf, index, cp.size, proof.map(bytes)), cp.root), "proof");
    must(await cp.signed, "signature");
    return unfold(body, receipt.hidden);
  } catch (e) {
    // what cannot be read is not a receipt; a DOMException but atob's is the browser's
    if (e instanceof TypeError || e instanceof SyntaxError || e.name === "InvalidCharacterError") throw new Bad("form");
    throw e;
  }
}

/** texts says a body in words, exactly as internal/portal's (*phrases).texts
 * does: m holds the words by key; a code without words stands for itself. */
export function texts(b, m) {
  const say = (kind, code) => m[kind + "." + code] ?? code.replaceAll("_", " ");
  const fill = (key, values) => (m[key] ?? key).replace(/\{(\w+)\}/g, (_, k) => values[k] ?? "");
  const t = new Date(new Date(b.time).getTime() + 5 * 36e5); // Pakistan's time, no summer time
  const hour = t.getUTCHours();
  const date = (s) => {
    const at = new Date(new Date(s).getTime() + 5 * 36e5);
    return fill("date", { day: at.getUTCDate(), month: m["month." + (at.getUTCMonth() + 1)], year: at.getUTCFullYear() });
  };
  const until = b.hidden ? date(b.hidden.until) : "", later = fill("hidden.until", { date: until });
  const who = b.who || {}, role = say("role", who.role || "");
  const service = say("service", b.service || ""), fields = b.fields || [];
  const what = "what." + (b.outcome === "deny" ? "refused" : b.kind) + (fields.length ? "" : "_all");
  const record = b.kind !== "opening" && /^[\w-]+$/.test(b.resource || "") ? fill("what.record", { resource: b.resource }) : "";
  const purpose = b.purpose ? say("purpose", b.purpose) : m[b.kind === "opening" ? "why.opening" : who.kind === "citizen" ? "why.own" : "why.none"];
  let why = b.case ? fill("why.case", { purpose, case: b.case }) : purpose;
  if (b.mode === "emergency") why = fill("why.emergency", { why });
  if (b.hidden) why = fill("hidden.was", { why, date: until });
  return {
    title: say("agency", b.agency || ""),
    tag: m["tag." + tag(b)],
    who: closed(b) ? later : who.kind === "person" ? (who.staff ? fill("who.staff", { role, staff: who.staff }) : role) : say("who", who.kind || ""),
    when: fill("when", {
      day: t.getUTCDate(), month: m["month." + (t.getUTCMonth() + 1)], year: t.getUTCFullYear(),
      time: (hour % 12 || 12) + ":" + String(t.getUTCMinutes()).padStart(2, "0"), period: m["hour." + hour],
    }),
    what: closed(b) ? fill("hidden.what", { date: until })
      : fill(what, { fields: fields.map((f) => say("field", b.service + "." + f)).join(m.comma), service, resource: b.resource }) + record,
    why: closed(b) ? later : why,
    basis: closed(b) ? later : b.basis ? fill("basis.is", { basis: say("basis", b.basis) }) : m["basis.none"],
  };
}

/** tag is what sort of entry it is. */
export function tag(b) {
  if (closed(b)) return "hidden";
  if (b.outcome === "deny") return "refused";
  if (b.mode === "emergency") return "emergency";
  if (b.mode === "automatic" || b.who?.kind === "system") return "automatic";
  return b.who?.kind === "citizen" ? "citizen" : "person";
}
