// Bytes as the proofs need them: base64 in both alphabets, hashes, numbers.
import { digest } from "./sha256.js";

const encoder = new TextEncoder();

/** utf8 writes text as bytes. */
export const utf8 = (text) => encoder.encode(text);

/** bytes reads standard base64. */
export function bytes(base64) {
  const text = atob(base64), b = new Uint8Array(text.length);
  for (let i = 0; i < b.length; i++) b[i] = text.charCodeAt(i);
  return b;
}

/** fromURL and toURL are base64url without padding. */
export const fromURL = (s) => bytes(s.replaceAll("-", "+").replaceAll("_", "/"));
export const toURL = (b) => btoa(String.fromCharCode(...b)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** join puts lists of bytes behind each other. */
export function join(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

// What is hashed is put together in room, which grows: a list has a thousand
// entries, and memory of its own for each takes longer than hashing it.
let room = new Uint8Array(2048);
const state = new Int32Array(8);

/** sha256 hashes lists of bytes and texts, one behind the other. */
export function sha256(...parts) {
  let length = 0;
  for (const p of parts) {
    const most = length + 3 * p.length + 72; // of UTF-8, and the padding
    if (most > room.length) {
      const more = new Uint8Array(2 * most);
      more.set(room.subarray(0, length));
      room = more;
    }
    if (typeof p === "string") {
      length += encoder.encodeInto(p, room.subarray(length)).written;
    } else {
      room.set(p, length);
      length += p.length;
    }
  }
  digest(state, room, length);
  const hash = new Uint8Array(32);
  for (let i = 0; i < 32; i++) hash[i] = state[i >> 2] >> (24 - 8 * (i & 3));
  return hash;
}

/** big writes a number as 8 bytes, big-endian. */
export function big(n) {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}
