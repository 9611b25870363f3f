// Gets a visitor through: on the page of a challenge it has a worker do the
// work and sends it; on the page of a waiting room it says how long the wait
// is. The same file is the worker. It shows texts only, and goes only to the
// page that it is on: the server leads on from there.
import { work } from "./work.js";

/** challenge has the work done and sends the form. */
function challenge(form) {
  const status = document.getElementById("pass-status");
  const bar = document.getElementById("pass-progress");
  const { worker, bits, parts, wait, busy, done, failed } = form.dataset;
  const fail = () => { // without the work, by waiting
    status.textContent = failed;
    setTimeout(() => location.reload(), wait * 1000);
  };
  form.hidden = false;
  status.textContent = busy;
  try {
    const policy = self.trustedTypes?.createPolicy("pass", { createScriptURL: (u) => u });
    const w = new Worker(policy ? policy.createScriptURL(worker) : worker);
    w.onerror = fail;
    w.onmessage = ({ data }) => {
      if (data.answer === undefined) {
        bar.value = data.part;
        return;
      }
      bar.value = bar.max;
      status.textContent = done;
      form.elements.answer.value = data.answer;
      form.submit();
    };
    w.postMessage({ challenge: form.elements.challenge.value, bits: +bits, parts: +parts });
  } catch {
    fail();
  }
}

/** queue asks now and then how long it is, and says it when it has changed. */
async function queue(box) {
  let seconds = +box.dataset.refresh;
  for (;;) {
    await new Promise((go) => setTimeout(go, seconds * 1000));
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { Accept: "application/json" }, cache: "no-store" });
      const { ready, say, refresh } = await answer.json();
      if (ready) return location.reload();
      if (say && box.textContent !== say) box.textContent = say;
      seconds = refresh || seconds;
    } catch {
      seconds = Math.min(60, seconds * 2); // the server is busy, or the visitor is not connected
    }
  }
}

if (self.document) {
  const form = document.getElementById("pass"), box = document.getElementById("queue");
  if (form) challenge(form);
  if (box) queue(box);
} else {
  onmessage = ({ data }) => {
    const answer = work(data.challenge, data.parts, data.bits, (part) => postMessage({ part }));
    postMessage({ answer });
  };
}
