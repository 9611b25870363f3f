// The two nodes that the tests visit: a whole demo after its story, and an
// empty node as an operator would start it. Both are the built bin/pasban.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import readline from "node:readline";
import tls from "node:tls";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const binary = process.env.PASBAN_BIN || path.join(root, "bin/pasban");

/** patience is how long anything may take to start, in milliseconds. */
const patience = 180_000;

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1)); // and so end the children

/** Process is a child that ends with the tests, however they end, and leaves
 * nothing in its directory. */
class Process {
  constructor(dir, args) {
    this.dir = dir;
    this.said = "";
    this.child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.child, "exit").catch((e) => { this.said += e.message; });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on("data", (d) => { this.said = (this.said + d).slice(-4000); });
    }
    this.last = () => {
      this.child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
    };
    process.once("exit", this.last);
  }

  /** until waits for a promise, but not longer than the process lives. */
  async until(promise, what) {
    let timer;
    const dead = this.ended.then(() => { throw new Error(`${what}: pasban ended (${this.child.exitCode}):\n${this.said}`); });
    const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what}: nothing after ${patience / 1000} s:\n${this.said}`)), patience); });
    try {
      return await Promise.race([promise, dead, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** stop asks the process to end, and waits until it has. */
  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGTERM");
    const force = setTimeout(() => this.child.kill("SIGKILL"), 20_000);
    await this.ended;
    clearTimeout(force);
    process.removeListener("exit", this.last);
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** Server is a running node: where it is, whom it trusts, how to ask it. */
class Server {
  constructor(base, ca) {
    this.base = base;
    this.ca = ca;
  }

  /** ask sends one request, from any loopback address, and resolves to
   * {status, headers, body}. Redirects are not followed. */
  ask(target, { method = "GET", headers = {}, body, from } = {}) {
    return new Promise((yes, no) => {
      const to = new URL(target, this.base);
      const req = https.request(to, { method, ca: this.ca, localAddress: from, family: 4, headers: { Accept: "text/html", ...headers }, agent: false }, (res) => {
        let text = "";
        res.setEncoding("utf8").on("data", (d) => { text += d; }).on("error", no)
          .on("end", () => yes({ status: res.statusCode, headers: res.headers, body: text }));
      });
      req.on("error", no).end(body);
    });
  }

  /** pin is the hash of the node's public key. It is given only for a
   * certificate that the node's own authority signed: with it the browser
   * trusts this node as if that authority were installed. */
  async pin() {
    const { hostname, port } = new URL(this.base);
    const socket = tls.connect({ host: "127.0.0.1", port, servername: hostname, ca: this.ca, minVersion: "TLSv1.3" });
    await once(socket, "secureConnect"); // fails unless the chain verifies
    const key = socket.getPeerX509Certificate().publicKey.export({ type: "spki", format: "der" });
    socket.destroy();
    return createHash("sha256").update(key).digest("base64");
  }
}

/** openDemo plays the story and resolves when it is over and everything stays
 * up to look around. */
export async function openDemo() {
  const dir = await mkdtemp(path.join(tmpdir(), "pasban-browser-"));
  const child = new Process(dir, ["demo", "--json", "--dir", dir]);
  const line = once(readline.createInterface({ input: child.child.stdout }), "line");
  const close = () => child.stop();
  try {
    const [text] = await child.until(line, "the demo's story");
    const story = JSON.parse(text);
    if (!story.passed) throw new Error("the demo's story did not hold: " + text);
    const read = async (name) => readFile(path.join(dir, name), "utf8");
    const { base } = JSON.parse(await read("demo.json"));
    const { personas } = JSON.parse(await read("personas.json"));
    return Object.assign(new Server(base, await read("data/ca/root.pem")), { story, personas, signedIn: new Map(), close });
  } catch (e) {
    await close();
    throw e;
  }
}

/** signIn uses a persona's one-time link, once, and resolves to their session
 * cookie as a browser context takes it. */
export async function signIn(demo, person) {
  if (!demo.signedIn.has(person)) {
    const link = demo.personas.find((p) => p.person === person);
    if (!link) throw new Error("no persona " + person);
    const answer = await demo.ask(link.url);
    const cookie = (answer.headers["set-cookie"] || []).find((c) => c.startsWith("__Host-pasban="));
    if (!cookie) throw new Error(`${person} was not signed in: status ${answer.status}: ${answer.body}`);
    const [name, value] = cookie.split(";")[0].split("=");
    demo.signedIn.set(person, { name, value, url: demo.base, secure: true, httpOnly: true, sameSite: "Lax" });
  }
  return demo.signedIn.get(person);
}

/** free resolves to a loopback port on which nobody listens. */
async function free() {
  const s = net.createServer().listen(0, "127.0.0.1");
  await once(s, "listening");
  const { port } = s.address();
  s.close();
  await once(s, "close");
  return port;
}

/** old is a service that knows nothing of security: one page about a citizen. */
async function openOld() {
  const seen = [];
  const old = http.createServer((req, res) => {
    seen.push(req.url);
    res.setHeader("Content-Type", "text/html; charset=utf-8");
    res.end(`<!DOCTYPE html><html lang="en"><title>Record</title><link rel="icon" href="data:,"><h1>Synthetic record</h1><p>${req.url.split("/").pop().replace(/[^\d-]/g, "")} holds 4 kanal</p></html>`);
  }).listen(0, "127.0.0.1");
  await once(old, "listening");
  return { seen, address: "http://127.0.0.1:" + old.address().port, close: async () => { old.close(); old.closeAllConnections(); } };
}

/** openNode starts an empty node under `pasban serve`, in front of a small
 * old service, and resolves when it is ready. */
export async function openNode() {
  const dir = await mkdtemp(path.join(tmpdir(), "pasban-browser-"));
  const [port, admin] = [await free(), await free()];
  const [config, old] = [path.join(dir, "pasban.yaml"), await openOld()];
  const examples = path.join(root, "examples");
  const base = "https://localhost:" + port;
  await writeFile(config, `agency: {id: test-office, name: {en: Test office, ur: آزمائشی دفتر}}
data: ./data
listen: 127.0.0.1:${port}
admin: 127.0.0.1:${admin}
tls: {mode: local}
ledger: {origin: test.example/ledger}
identity: {rp: localhost, origins: ["${base}"]}
sites:
  - host: "*"
    upstream: [${old.address}]
    waf: {paranoia: 1, mode: block}
    routes:
      - {match: "GET /open", signin: none}
      - {match: "POST /send", signin: none}
      - {match: "GET /surge", signin: none, queue: {admit: 0.1, stay: 1m}}
      - {match: "GET /records/{cnic}", signin: officer, subject: cnic, purposes: [mutation], basis: Punjab Land Revenue Act 1967, fields: [name, holdings]}
services: [${examples}/services/*.yaml]
policies: [${examples}/policies/*.cedar]
rules: [${examples}/rules]
`);
  const child = new Process(dir, ["serve", "-c", config]);
  const close = async () => {
    await child.stop();
    await old.close();
  };
  try {
    await child.until(ready(`http://127.0.0.1:${admin}/readyz`), "the node");
    const server = new Server(base, await readFile(path.join(dir, "data/ca/root.pem"), "utf8"));
    return Object.assign(server, { old, close, add: (args, input) => add(config, args, input) });
  } catch (e) {
    await close();
    throw e;
  }
}

/** ready resolves when a health address answers 200. */
async function ready(address) {
  for (;;) {
    const answer = await fetch(address).catch(() => null);
    if (answer?.ok) return;
    await new Promise((go) => setTimeout(go, 50));
  }
}

/** add runs `pasban user add` and resolves to what it says. */
async function add(config, args, input = "") {
  const child = spawn(binary, ["user", "add", "--json", "-c", config, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(input);
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (d) => { out += d; });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error("pasban user add: status " + code);
  return JSON.parse(out);
}
