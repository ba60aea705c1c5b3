// In the frame of an embedded checkout: tells the page around it how tall it is, and when it is done.
(() => {
  "use strict";
  const facts = document.body.dataset;
  if (window.parent === window || !facts.parent) return;
  const tell = (message) =>
    window.parent.postMessage({ sandbox: "checkout", ...message }, facts.parent);
  new ResizeObserver(() => {
    tell({ type: "resize", height: Math.ceil(document.body.getBoundingClientRect().height) });
  }).observe(document.body);
  if (facts.done) tell({ type: "complete", url: facts.url || null });
})();
