// SHA-256, written out (FIPS 180-4): proofs and challenges hash small things one
// after the other, and a browser's own answers one at a time and later. Most of the
// time would go into waiting for it.

/** constants are the first 32 bits of the fractional parts of the cube roots
 * (k) and square roots (h) of the first primes (FIPS 180-4, sections 4.2.2 and
 * 5.3.3). */
function constants() {
  const k = new Int32Array(64), h = new Int32Array(8);
  const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  for (let n = 2, i = 0; i < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
    if (!prime) continue;
    if (i < 8) h[i] = fraction(Math.sqrt(n));
    k[i++] = fraction(Math.cbrt(n));
  }
  return { k, h };
}

const { k, h } = constants();
const w = new Int32Array(64);

/** compress takes one block of 64 bytes at an offset into the state. */
function compress(state, bytes, at) {
  for (let i = 0; i < 16; i++, at += 4) w[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15], y = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3) + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], j = state[7];
  for (let i = 0; i < 64; i++) {
    const t1 = j + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (g ^ e & (f ^ g)) + k[i] + w[i] | 0;
    const t2 = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b | c & (a | b)) | 0;
    j = g; g = f; f = e; e = d + t1 | 0; d = c; c = b; b = a; a = t1 + t2 | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += j;
}

/** digest leaves SHA-256 of the first length bytes in state; bytes has room
 * for the padding. */
export function digest(state, bytes, length) {
  const size = (length + 9 + 63) & ~63;
  bytes.fill(0, length, size);
  bytes[length] = 0x80;
  for (let i = 1, bits = length * 8; i <= 4; i++, bits >>>= 8) bytes[size - i] = bits;
  state.set(h);
  for (let at = 0; at < size; at += 64) compress(state, bytes, at);
  return state;
}
