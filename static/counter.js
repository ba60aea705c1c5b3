// The counter's keys and what HTML cannot say by itself. Every key presses a button that is there.
(() => {
  const OFF = "no-keys", store = localStorage, find = (what) => document.querySelector(what);
  const rows = () => [...document.querySelectorAll("tbody a.o")];
  let before = "";
  const move = (by) => {
    const all = rows(), at = all.indexOf(document.activeElement);
    all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + by))]?.focus();
  };
  const press = (key) => {
    if (!/^(g )?[a-z/]$/.test(key)) return;
    const it = [...document.querySelectorAll(`[data-key="${key}"]`)].find((one) => one.checkVisibility());
    if (it?.matches("input:not([type=checkbox]), textarea")) it.focus();
    else it?.click();
    if (it?.matches("summary")) it.parentElement.querySelector("input:not([type=hidden]), select")?.focus();
    return it;
  };
  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey && key === "Enter" && target.matches("textarea")) return target.form.requestSubmit();
    if (event.ctrlKey || event.metaKey || event.altKey || store.getItem(OFF)) return;
    if (target.matches("input:not([type=checkbox], [type=radio]), textarea, select")) return;
    const name = key.toLowerCase(), seen = before;
    before = name === "g" ? "g" : "";
    if (seen) press(`g ${name}`);
    else if (key === "?") find("#keys").togglePopover();
    else if (rows().length && "jk".includes(name)) move(name === "j" ? 1 : -1);
    else if (target.dataset[name]) location.assign(target.dataset[name]);
    else if (name === "x") target.closest("tr")?.querySelector(".tick")?.click();
    else if (!press(name)) return;
    event.preventDefault();
  });
  addEventListener("change", ({ target }) => {
    if (target.dataset.all) document.getElementsByName(target.dataset.all).forEach((box) => { box.checked = target.checked; });
    if (target.id === "use-keys") target.checked ? store.removeItem(OFF) : store.setItem(OFF, "1");
  });
  addEventListener("DOMContentLoaded", () => { find("#use-keys").checked = !store.getItem(OFF); });
  // A page that nobody looks at asks nothing, and an answer that fails is asked for again in silence.
  addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.target.dataset?.quiet !== undefined) event.preventDefault();
  });
})();
