// The work of a challenge: for each part the first number for which SHA-256
// of "challenge.part.number" begins with so many zero bits.
import { digest } from "./sha256.js";

/** work does the parts of a challenge, tells of each, and returns the answer. */
export function work(challenge, parts, bits, tell = () => {}) {
  const state = new Int32Array(8), answer = [];
  for (let part = 0; part < parts; part++) {
    const head = new TextEncoder().encode(`${challenge}.${part}.`);
    const bytes = new Uint8Array(head.length + 128);
    bytes.set(head);
    for (let n = 0; ; n++) {
      let length = head.length + (n === 0 ? 1 : Math.floor(Math.log10(n)) + 1);
      for (let at = length - 1, rest = n; at >= head.length; at--, rest = Math.floor(rest / 10)) bytes[at] = 48 + rest % 10;
      if (Math.clz32(digest(state, bytes, length)[0]) >= bits) {
        answer.push(n);
        break;
      }
    }
    tell(part + 1);
  }
  return answer.join(".");
}
