// Keeps what the switchboard tells up to date. Without scripts the page tells it when it is loaded.
(() => {
  const LIVE = ["now", "ahead", "told", "asked"], EVERY_MS = 1500;
  const look = async () => {
    if (document.hidden) return;
    const answer = await fetch("/_sandbox/", { cache: "no-store" }).catch(() => null);
    if (!answer?.ok) return; // it may be off for a moment
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of LIVE) {
      const here = document.getElementById(id), there = fresh.getElementById(id);
      if (here.innerHTML === there.innerHTML) continue;
      const top = here.querySelector(".scroll")?.scrollTop ?? 0;
      here.replaceChildren(...there.childNodes);
      here.querySelector(".scroll")?.scrollTo(0, top);
    }
  };
  setInterval(look, EVERY_MS);
})();
