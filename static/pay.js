// Stripe's own fields on our page. What is typed into them never reaches us.
(() => {
  const form = document.getElementById("pay-form");
  const { key, secret, back, attempt, orders, embedded } = form.dataset;
  const trouble = document.getElementById("pay-trouble"), button = document.getElementById("pay-now");
  sessionStorage.setItem("checkoutAttemptId", attempt);
  const say = (text) => { trouble.hidden = !text; trouble.querySelector("p").textContent = text; };
  const busy = (yes) => { button.disabled = yes; form.setAttribute("aria-busy", yes); };
  const failed = () => { say("The payment form did not load. Pay on a separate page instead."); busy(false); };
  if (typeof Stripe === "undefined") return failed();
  const stripe = Stripe(key);

  if (embedded) {
    const mount = async () => (await stripe.createEmbeddedCheckoutPage({ fetchClientSecret: async () => secret })).mount("#pay-fields");
    mount().catch(failed);
    return;
  }
  const elements = stripe.elements({ clientSecret: secret });
  const fields = elements.create("payment");
  fields.mount("#pay-fields");
  fields.on("ready", () => busy(false));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    busy(true);
    const { error: wrong } = await elements.submit();
    if (wrong) { say(wrong.message); return busy(false); }
    const { error, paymentIntent } = await stripe.confirmPayment({
      elements, clientSecret: secret, confirmParams: { return_url: back }, redirect: "if_required",
    });
    // Paid in another tab, perhaps: then there is nothing to be sorry about.
    if (["succeeded", "processing"].includes(error?.payment_intent?.status)) return location.assign(back);
    if (error) { say(error.message); trouble.focus(); return busy(false); }
    // The shop may hear of it from us before it hears of it from Stripe. If not, it hears anyway.
    const token = document.querySelector("meta[name=csrf-token]").content;
    const body = JSON.stringify({ checkoutAttemptId: attempt, paymentIntentId: paymentIntent.id });
    const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
    await fetch(orders, { method: "POST", headers, body }).catch(() => {});
    location.assign(back);
  });
})();
