// Completion of the query on the hunting page, after the ARIA pattern of an
// editable combobox with a list (www.w3.org/WAI/ARIA/apg/patterns/combobox).
// Without it the field is a field.

/** pause is how long one may go on writing before the node is asked, in ms. */
const pause = 150;

/** combobox makes an input offer what may come next. */
export function combobox(input) {
  const list = input.ownerDocument.createElement("ul");
  const state = { items: [], from: 0, active: -1, asked: 0, timer: 0 };
  Object.assign(list, { id: input.id + "-list", hidden: true, dir: "ltr" });
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", input.dataset.list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id })) input.setAttribute(name, value);
  input.after(list);

  function close() {
    state.active = -1;
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choose(i) {
    state.active = i;
    [...list.children].forEach((li, n) => li.setAttribute("aria-selected", String(n === i)));
    if (i < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[i].id);
    list.children[i].scrollIntoView({ block: "nearest" });
  }

  function show({ from, items }) {
    Object.assign(state, { from, items });
    if (!items.length) return close();
    list.replaceChildren(...items.map((item, i) => {
      const li = input.ownerDocument.createElement("li");
      const hint = input.ownerDocument.createElement("span");
      li.id = `${list.id}-${i}`;
      li.setAttribute("role", "option");
      li.textContent = item.label + " ";
      hint.textContent = item.hint || "";
      li.append(hint);
      return li;
    }));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    choose(-1);
  }

  function take(i) {
    const { text } = state.items[i];
    const rest = input.value.slice(input.selectionStart);
    input.value = input.value.slice(0, state.from) + text + rest;
    input.setSelectionRange(state.from + text.length, state.from + text.length);
    close();
    if (text.endsWith(":") || text.endsWith(" ")) ask();
  }

  /** ask fetches what may follow the text before the cursor. An answer that
   * comes after another question was asked is not looked at. */
  async function ask() {
    const asked = ++state.asked;
    const before = input.value.slice(0, input.selectionStart);
    try {
      const answer = await fetch(`${input.dataset.complete}?${new URLSearchParams({ before })}`, { headers: { Accept: "application/json" } });
      const found = answer.ok ? await answer.json() : { items: [] };
      if (asked === state.asked) show(found);
    } catch {
      if (asked === state.asked) close(); // the query can be written without
    }
  }

  /** leave closes the list, and whatever is still on its way stays unseen. */
  function leave() {
    state.asked++;
    clearTimeout(state.timer);
    close();
  }

  input.addEventListener("input", () => {
    leave(); // what was offered for other words must not be taken for these
    state.timer = setTimeout(ask, pause);
  });
  input.addEventListener("blur", leave);
  list.addEventListener("pointerdown", (e) => {
    e.preventDefault(); // the field keeps the focus
    const i = [...list.children].indexOf(e.target.closest("[role=option]"));
    if (i >= 0) take(i);
  });
  input.addEventListener("keydown", (e) => {
    const n = state.items.length;
    if (e.key === "Escape") leave();
    else if (e.key === " " && e.ctrlKey || e.key === "ArrowDown" && list.hidden) ask();
    else if (list.hidden) return;
    else if (e.key === "ArrowDown") choose((state.active + 1) % n);
    else if (e.key === "ArrowUp") choose((state.active < 1 ? n : state.active) - 1);
    else if ((e.key === "Enter" || e.key === "Tab") && state.active >= 0) take(state.active);
    else return;
    e.preventDefault();
  });
}

for (const input of globalThis.document?.querySelectorAll("[data-complete]") ?? []) combobox(input);
