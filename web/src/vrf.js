// Checks a proof of ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381) as the Go package
// internal/vrf does. Everything here is public: nothing needs constant time.

const P = 2n ** 255n - 19n;
const Q = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (a) => ((a % P) + P) % P;
const pow = (b, e) => {
  let r = 1n;
  for (; e; e >>= 1n, b = (b * b) % P) if (e & 1n) r = (r * b) % P;
  return r;
};
const D = mod(-121665n * pow(121666n, P - 2n));
const I = pow(2n, (P - 1n) / 4n); // a root of -1

const number = (b) => b.reduceRight((n, v) => (n << 8n) | BigInt(v), 0n); // little-endian

/** point decodes a point (RFC 8032, section 5.1.3), in extended coordinates; it
 * returns null for what is not the canonical encoding of one. */
function point(b) {
  if (b.length !== 32) return null;
  const sign = b[31] >> 7, y = number(b) & (2n ** 255n - 1n);
  if (y >= P) return null;
  const u = mod(y * y - 1n), v = mod(D * y * y + 1n), v3 = (v * v * v) % P;
  let x = (u * v3 * pow(u * v3 * v3 * v % P, (P - 5n) / 8n)) % P;
  const vxx = (v * x * x) % P;
  if (vxx !== u) {
    if (vxx !== mod(-u)) return null;
    x = (x * I) % P;
  }
  if (x === 0n && sign) return null;
  if (Number(x & 1n) !== sign) x = P - x;
  return [x, y, 1n, (x * y) % P];
}

function encode([x, y, z]) {
  const inverse = pow(z, P - 2n), out = new Uint8Array(32);
  let n = (y * inverse) % P;
  for (let i = 0; i < 32; i++, n >>= 8n) out[i] = Number(n & 255n);
  out[31] |= Number((x * inverse) % P & 1n) << 7;
  return out;
}

/** add is complete (RFC 8032, section 5.1.4): it doubles as well. */
function add([x1, y1, z1, t1], [x2, y2, z2, t2]) {
  const a = (y1 - x1) * (y2 - x2), b = (y1 + x1) * (y2 + x2), c = 2n * t1 * D % P * t2, d = 2n * z1 * z2;
  const e = mod(b - a), f = mod(d - c), g = mod(d + c), h = mod(b + a);
  return [e * f % P, g * h % P, f * g % P, e * h % P];
}

function times(k, p) {
  let r = [0n, 1n, 1n, 0n];
  for (; k; k >>= 1n, p = add(p, p)) if (k & 1n) r = add(r, p);
  return r;
}

const neutral = ([x, y, z]) => x === 0n && y === z;
const minus = ([x, y, z, t]) => [mod(-x), y, z, mod(-t)];
const base = point(Uint8Array.from([0x58, ...Array(31).fill(0x66)]));

const sha512 = async (...parts) => {
  const all = Uint8Array.from(parts.flatMap((p) => [...p]));
  return new Uint8Array(await crypto.subtle.digest("SHA-512", all));
};

async function toCurve(key, alpha) {
  for (let n = 0; n < 256; n++) {
    let p = point((await sha512([3, 1], key, alpha, [n, 0])).slice(0, 32));
    if (p && !neutral(p = times(8n, p))) return p;
  }
  return null;
}

/** vrf returns the 64 bytes that the proof shows to be the value of alpha under
 * the public key, or null if it shows nothing. */
export async function vrf(key, alpha, proof) {
  const y = point(key);
  if (!y || neutral(times(8n, y)) || proof.length !== 80) return null;
  const gamma = point(proof.slice(0, 32)), c = proof.slice(32, 48), s = number(proof.slice(48));
  const h = await toCurve(key, alpha);
  if (!gamma || !h || s >= Q) return null;
  const n = number(c);
  const u = add(times(s, base), times(n, minus(y))), v = add(times(s, h), times(n, minus(gamma)));
  const again = await sha512([3, 2], key, encode(h), proof.slice(0, 32), encode(u), encode(v), [0]);
  if (!c.every((b, i) => b === again[i])) return null;
  return sha512([3, 3], encode(times(8n, gamma)), [0]);
}
