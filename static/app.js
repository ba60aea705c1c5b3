// The little that HTML cannot say by itself. Every page works without this file.
(() => {
  const say = (id, text) => { const at = document.getElementById(id); if (at) at.textContent = text; };
  const busy = (root, yes) => root.querySelectorAll("[data-busy]").forEach((b) => { b.disabled = yes; });
  addEventListener("click", ({ target }) => {
    const { copy } = target.closest("[data-copy]")?.dataset ?? {};
    if (copy) navigator.clipboard?.writeText(copy).then(() => say("toast", "Link copied."));
  });
  addEventListener("submit", ({ target }) => setTimeout(busy, 0, target, true));
  addEventListener("pageshow", () => busy(document, false));
  // An answer without the place we asked for changes nothing; a poll recovers by itself.
  const failed = ({ target }) => target.id === "order-status" || say("toast", "That didn’t work. Please try again.");
  addEventListener("htmx:error", failed);
  addEventListener("htmx:before:swap", (event) => {
    const { ctx, tasks } = event.detail;
    if (ctx.response.status < 400 || tasks.some((t) => t.fragment.childElementCount)) return say("toast", "");
    event.preventDefault();
    failed(event);
  });
})();
