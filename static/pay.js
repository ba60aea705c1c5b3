// Stripe's own fields on our page. What is typed into them never reaches us.
(() => {
  const at = (id) => document.getElementById(id), form = at("pay-form");
  const { key, secret, setup, back, attempt, orders, embedded, press, pressCard, pressOnce, pressKept, saved, other: another, backToSaved, days, locale } = form.dataset;
  const trouble = at("pay-trouble"), button = at("pay-now"), other = at("pay-other"), lost = trouble.querySelector("p").textContent;
  sessionStorage.setItem("checkoutAttemptId", attempt);
  const say = (text) => { trouble.hidden = !text; trouble.querySelector("p").textContent = text; };
  const busy = (yes) => { button.disabled = yes; if (other) other.disabled = yes; form.setAttribute("aria-busy", yes); };
  const refuse = (text) => { say(text); trouble.focus(); busy(false); };
  const failed = () => { say(lost); busy(false); };
  if (typeof Stripe === "undefined") return failed();
  const stripe = Stripe(key, { locale });

  if (embedded) {
    const mount = async () => (await stripe.createEmbeddedCheckoutPage({ fetchClientSecret: async () => secret })).mount("#pay-fields");
    mount().catch(failed);
    return;
  }

  // "card": it is entered and saved. "kept": it is saved, and pays. "pay": what is entered pays.
  let step, elements, fields, card, owes = Boolean(secret);
  const show = (next) => {
    step = next;
    fields?.destroy();
    fields = null;
    at("pay-fields").hidden = at("pay-whose").hidden = next === "kept";
    at("pay-kept").hidden = !card;
    other.hidden = !card;
    at("pay-stays").hidden = next !== "pay" || !card;
    if (at("pay-two")) at("pay-two").hidden = next === "pay" || !owes;
    other.textContent = next === "kept" ? another : backToSaved;
    const digits = card?.[card.type]?.last4; // known until the page is loaded anew
    const kept = pressKept.replace("*", digits ? `•••• ${digits}` : saved);
    at("pay-label").textContent = { card: owes ? press : pressCard, kept, pay: pressOnce }[next];
    if (next === "kept") return busy(false);
    elements = stripe.elements({ clientSecret: next === "card" ? setup : secret });
    fields = elements.create("payment");
    fields.on("ready", () => busy(false));
    fields.on("loaderror", failed);
    fields.mount("#pay-fields");
  };

  // Another tab, or a bank's page, may have been here before. Nothing is charged without a press.
  const isPaid = (intent) => ["succeeded", "processing"].includes(intent?.status);
  const look = async () => {
    const [{ setupIntent }, { paymentIntent }] = await Promise.all([
      setup ? stripe.retrieveSetupIntent(setup) : {}, secret ? stripe.retrievePaymentIntent(secret) : {},
    ]);
    owes = Boolean(secret) && !isPaid(paymentIntent);
    const isSaved = setupIntent?.status === "succeeded";
    if (!owes && (isSaved || !setup)) return location.replace(back);
    card = isSaved ? setupIntent.payment_method : null;
    show(card ? "kept" : setup && !isSaved ? "card" : "pay");
    return setupIntent?.last_setup_error;
  };

  const leave = async (told) => {
    // The shop may hear of it from us before it hears of it from Stripe. If not, it hears anyway.
    const token = document.querySelector("meta[name=csrf-token]").content;
    const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
    const body = JSON.stringify({ checkoutAttemptId: attempt, ...told });
    await fetch(orders, { method: "POST", headers, body }).catch(() => {});
    location.assign(back);
  };
  const save = async () => {
    const { error, setupIntent } = await stripe.confirmSetup({
      elements, clientSecret: setup, redirect: "if_required",
      // From the bank back to this page, if there is still something to pay here.
      confirmParams: { return_url: owes ? location.origin + location.pathname : back, expand: ["payment_method"] },
    });
    if (error?.setup_intent?.status === "succeeded") return look();
    if (error?.setup_intent?.status === "canceled") return location.reload();
    if (error) return refuse(error.message);
    if (!owes) return leave({ setupIntentId: setupIntent.id });
    if (setupIntent.status !== "succeeded") return refuse(days);
    card = setupIntent.payment_method;
    show("kept");
    busy(true);
    return pay();
  };
  const pay = async () => {
    const kept = step === "kept" ? { payment_method: card.id ?? card } : {};
    const { error, paymentIntent } = await stripe.confirmPayment({
      ...(step === "kept" ? {} : { elements }), clientSecret: secret, redirect: "if_required",
      confirmParams: { return_url: back, ...kept },
    });
    if (isPaid(error?.payment_intent)) return location.assign(back); // in another tab, perhaps
    if (error?.payment_intent?.status === "canceled") return location.reload();
    if (error && step === "kept") show("pay");
    return error ? refuse(error.message) : leave({ paymentIntentId: paymentIntent.id });
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    busy(true);
    const { error: wrong } = step === "kept" ? {} : await elements.submit();
    return wrong ? refuse(wrong.message) : step === "card" ? save() : pay();
  });
  other.addEventListener("click", () => { say(""); busy(true); show(step === "kept" ? "pay" : "kept"); });
  addEventListener("pageshow", (event) => event.persisted && look());

  const isBack = new URLSearchParams(location.search).has("setup_intent");
  history.replaceState(null, "", location.pathname);
  if (!setup) show("pay");
  else look().then((wrong) => isBack && wrong && say(wrong.message), failed);
})();
