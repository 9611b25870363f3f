// Bytes as the proofs need them: base64 in both alphabets, hashes, numbers.

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
export const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));

/** big writes a number as 8 bytes, big-endian. */
export function big(n) {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}
