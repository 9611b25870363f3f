// Signing in and setting up a passkey (WebAuthn): asks the server for a
// challenge, has the device answer it, and sends the answer back. It shows
// texts only, and goes only where the server says.
const box = document.getElementById("passkey");
const button = box.querySelector("button");
const status = box.querySelector("[role=status]");

/** bytes decodes base64url, for browsers that do not do it themselves. */
function bytes(text) {
  const bin = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(bin, (c) => c.charCodeAt(0)).buffer;
}

/** text encodes bytes as base64url without padding. */
function text(buffer) {
  const bin = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(bin).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** withBytes decodes the ids of a list of credentials. */
const withBytes = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

/** creation reads the options for a new passkey. */
function creation(o) {
  if (PublicKeyCredential.parseCreationOptionsFromJSON) return PublicKeyCredential.parseCreationOptionsFromJSON(o);
  return { ...o, challenge: bytes(o.challenge), user: { ...o.user, id: bytes(o.user.id) }, excludeCredentials: withBytes(o.excludeCredentials) };
}

/** request reads the options for using a passkey. */
function request(o) {
  if (PublicKeyCredential.parseRequestOptionsFromJSON) return PublicKeyCredential.parseRequestOptionsFromJSON(o);
  return { ...o, challenge: bytes(o.challenge), allowCredentials: withBytes(o.allowCredentials) };
}

/** plain is the answer of the device as JSON can carry it. */
function plain(c) {
  if (c.toJSON) return c.toJSON();
  const r = { clientDataJSON: text(c.response.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (c.response[name]) r[name] = text(c.response[name]);
  }
  if (c.response.getTransports) r.transports = c.response.getTransports();
  return { id: c.id, rawId: text(c.rawId), type: c.type, response: r, clientExtensionResults: c.getClientExtensionResults() };
}

/** post sends JSON and returns the answer, or throws its status. */
async function post(url, body) {
  const r = await fetch(url, {
    method: "POST", body: body && JSON.stringify(body),
    headers: { "Accept": "application/json", "Content-Type": "application/json" },
  });
  if (!r.ok) throw r.status;
  return r.json();
}

/** say names what went wrong. */
function say(e) {
  if (e === 429) return box.dataset.limited;
  if (e >= 500 || e instanceof TypeError) return box.dataset.unavailable;
  if (e instanceof DOMException && (e.name === "NotAllowedError" || e.name === "AbortError")) return box.dataset.cancelled;
  return box.dataset.failed;
}

async function run() {
  button.disabled = true;
  status.textContent = box.dataset.busy;
  try {
    const { publicKey } = await post(box.dataset.begin);
    const answer = box.dataset.kind === "create"
      ? await navigator.credentials.create({ publicKey: creation(publicKey) })
      : await navigator.credentials.get({ publicKey: request(publicKey) });
    const next = box.dataset.next ? "?next=" + encodeURIComponent(box.dataset.next) : "";
    const done = await post(box.dataset.finish + next, plain(answer));
    location.assign(new URL(done.next, location.origin));
  } catch (e) {
    status.textContent = say(e);
    button.disabled = false;
  }
}

document.getElementById("passkey-noscript").hidden = true;
if (window.PublicKeyCredential && navigator.credentials) {
  button.parentElement.hidden = false;
  button.addEventListener("click", run);
} else {
  status.textContent = box.dataset.unsupported;
}
