// Ticking lines fills the amount, and the button repeats it; the form works without.
(() => {
  const form = document.getElementById("refund-form");
  if (!form) return;
  const { left, sign, zero, step } = form.dataset;
  const amount = form.elements.amount;
  const sum = document.getElementById("refund-sum");
  const places = (zero.split(".")[1] ?? "").length;
  let overtyped = amount.value !== "";
  const ticked = () => [...form.querySelectorAll("[data-paid]:checked")].reduce((all, box) => {
    const units = box.name === "line" ? form.elements[`units-${box.value}`]?.value ?? 1 : 1;
    const { paid, of } = box.dataset;
    return all + (units >= +of ? +paid : Math.floor(Math.floor(paid * units / of) / step) * step);
  }, 0);
  const show = () => {
    if (!overtyped) {
      const minor = Math.min(ticked(), left);
      amount.value = minor ? (minor / 10 ** places).toFixed(places) : "";
    }
    sum.textContent = amount.value ? sign + amount.value : "";
  };
  form.addEventListener("input", ({ target }) => {
    if (target === amount) overtyped = amount.value !== "";
    show();
  });
  show();
})();
