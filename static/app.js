// What HTML cannot say by itself; every page works without it.
(() => {
  const on = addEventListener;
  const toast = (what) => { const at = document.getElementById("toast"); at.textContent = at.dataset[what] ?? ""; };
  const busy = (root, yes) => root.querySelectorAll("[data-busy]").forEach((b) => { b.disabled = yes; });
  on("click", ({ target }) => {
    const { copy } = target.closest("[data-copy]")?.dataset ?? {};
    if (copy) navigator.clipboard?.writeText(copy).then(() => toast("copied"));
  });
  on("submit", ({ target }) => setTimeout(busy, 0, target, true));
  on("pageshow", () => busy(document, false));
  // An error without the place we asked for changes nothing; a poll recovers by itself.
  const failed = ({ target }) => /(order-status|live)$/.test(target.id) || toast("failed");
  on("htmx:error", failed);
  on("htmx:before:swap", (event) => {
    const { ctx, tasks } = event.detail;
    if (ctx.response.status < 400 || tasks.some((t) => t.fragment.childElementCount)) return toast();
    event.preventDefault();
    failed(event);
  });
})();
