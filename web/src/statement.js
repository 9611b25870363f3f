// Checks that a citizen's list is whole, as pasban.Statement.Verify does: the
// receipt of the epoch, the chain of the entries, the citizen's label and the
// end of their list in the map of heads (docs/schemas/statement.v1.json).
import { big, bytes, fromURL, sha256, toURL, utf8 } from "./bytes.js";
import { Bad, canonical, closed, kinds, unfold, verify } from "./verify.js";
import { vrf } from "./vrf.js";

/** Broken is a list that is not whole; entry is the number of the first entry
 * that does not fit, message what is the matter: missing, altered or order. */
export class Broken extends Bad {
  constructor(what, entry) {
    super(what);
    this.entry = entry;
  }
}

const grace = 864e5; // after its date a hidden entry may be closed for a day more, in ms
const must = (holds, what, entry) => { if (!holds) throw new Broken(what, entry); };

/** leafHash is the entry's Merkle leaf hash. */
function leafHash({ kind, salt, body }, at) {
  const s = bytes(salt);
  must(Object.hasOwn(kinds, kind) && kind !== "heads" && s.length === 32 && body.v === 1 && body.kind === kind, "altered", at);
  return sha256([0, 1, kinds[kind]], sha256(s, canonical(body)));
}

/** chain checks that the entries follow each other; it returns how many the
 * epoch covers, how many were destroyed before them, and the leaf hash of the
 * last that the epoch covers: null for an empty list. */
function chain({ entries, number, citizen, last }, size) {
  must(Array.isArray(entries) && Number.isSafeInteger(number) && number >= 0, "form");
  const hashes = entries.map((e, i) => leafHash(e, e?.body?.list?.number ?? i + 1));
  let before = 0, covered = 0, end = null;
  for (const [i, e] of entries.entries()) {
    const { number: at, previous } = e.body.list ?? {};
    must(Number.isSafeInteger(at) && at > 0 && e.body.subject === citizen && Number.isSafeInteger(e.index) && e.index >= 0, "altered", before + 1);
    if (i > 0) {
      must(at > before, "order", at);
      must(at === before + 1, "missing", before + 1);
      must(previous === toURL(hashes[i - 1]), "altered", before);
      must(e.index > entries[i - 1].index, "order", at);
    }
    must((e.index < size) === (at <= number), "altered", at);
    before = at;
    if (at <= number) {
      covered++;
      end = hashes[i];
    }
  }
  const first = entries[0]?.body.list;
  if (covered > 0) {
    must(before >= number, "missing", before + 1);
    must(last === undefined, "form");
    return { covered, end, erased: first.number - 1 };
  }
  must((number === 0) === (last === undefined), "form"); // empty, or all of it destroyed
  end = number ? bytes(last) : null;
  must(!end || end.length === 32, "form");
  must(!first || (first.number === number + 1 && first.previous === (end ? toURL(end) : undefined)), "missing", number + 1);
  return { covered, end, erased: number };
}

/** node is the map's node in the place of a label: the list's end, or, for an
 * empty list, what is there instead. */
function node(label, blind, { number, other, proof }, end) {
  must(!other || number === 0, "form");
  if (end) return sha256([2], label, sha256(blind, big(number), end));
  if (!other) return new Uint8Array(32);
  const [theirs, value] = [bytes(other.label), bytes(other.value)];
  must(theirs.length === 32 && value.length === 32 && toURL(theirs) !== toURL(label), "form");
  for (let d = 0; d < (proof ?? []).length; d++) must(bit(theirs, d) === bit(label, d), "form");
  return sha256([2], theirs, value);
}

const bit = (label, depth) => (label[depth >> 3] >> (7 - (depth & 7))) & 1;

/** whole verifies a statement against the ledger's key. It returns the bodies,
 * oldest first, how many of them the epoch covers, how many were erased before
 * them, when the epoch was committed, how many keep their details back still,
 * and how many of those should not any more. */
export async function whole(s, vkey) {
  try {
    must(s.schema === "pasban.statement.v1", "form");
    const epoch = await verify(s.epoch, vkey), heads = epoch.heads;
    must(epoch.kind === "heads" && heads.size <= s.epoch.index, "form");
    const { covered, end, erased } = chain(s, heads.size);
    const value = await vrf(fromURL(heads.key), utf8(s.citizen), bytes(s.label));
    must(value && (s.proof ?? []).length <= 256, "form");
    const label = value.slice(0, 32), proof = (s.proof ?? []).map(bytes);
    let h = node(label, value.slice(32), s, end);
    for (const [i, sibling] of proof.entries()) {
      const right = bit(label, proof.length - 1 - i);
      must(sibling.length === 32, "form");
      h = sha256([3], right ? sibling : h, right ? h : sibling);
    }
    must(toURL(h) === heads.root, "missing", s.number || 1);
    const bodies = s.entries.map((e) => unfold(e.body, e.hidden));
    const hidden = bodies.filter(closed), due = (b) => new Date(b.hidden.until).getTime() + grace;
    const overdue = hidden.filter((b) => !(due(b) >= new Date(epoch.time).getTime()));
    return { bodies, covered, erased, time: epoch.time, closed: hidden.length, overdue: overdue.length };
  } catch (e) {
    if (e instanceof TypeError || e instanceof SyntaxError || e.name === "InvalidCharacterError") throw new Bad("form");
    throw e;
  }
}
