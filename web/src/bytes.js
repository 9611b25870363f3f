// Bytes as the proofs need them: base64 in both alphabets, hashes, numbers.
import { digest } from "./sha256.js";

/** utf8 writes text as bytes. */
export const utf8 = (text) => new TextEncoder().encode(text);

/** bytes reads standard base64. */
export const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

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

/** sha256 hashes lists of bytes, one behind the other. */
export function sha256(...parts) {
  const length = parts.reduce((n, p) => n + p.length, 0), hash = new DataView(new ArrayBuffer(32));
  digest(new Int32Array(8), join(...parts, new Uint8Array(72)), length).forEach((word, i) => hash.setInt32(4 * i, word));
  return new Uint8Array(hash.buffer);
}

/** big writes a number as 8 bytes, big-endian. */
export function big(n) {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}
