// A stand-in for Stripe.js: the part of its surface that a page with a Payment Element or an
// embedded checkout uses. It confirms over HTTP with the publishable key and the client secret.
(() => {
  "use strict";
  const BASE = document.currentScript.src.replace(/\/js\/[^/]*$/, "");
  const ORIGIN = new URL(BASE).origin;
  const OFFLINE = {
    type: "api_connection_error",
    message: "The payment service did not answer. Please check your connection and try again.",
  };
  let frames = 0;

  class IntegrationError extends Error {
    constructor(message) {
      super(message);
      this.name = "IntegrationError";
    }
  }

  const KINDS = {
    payment_intent: { path: "payment_intents", name: "paymentIntent", call: "confirmPayment" },
    setup_intent: { path: "setup_intents", name: "setupIntent", call: "confirmSetup" },
  };

  function readSecret(secret, call) {
    if (typeof secret !== "string" || !/^(pi|seti)_\w+_secret_\w+$/.test(secret)) {
      throw new IntegrationError(
        `Invalid value for ${call}: clientSecret should be a string of the form ` +
          "${id}_secret_${secret}.",
      );
    }
    return {
      id: secret.split("_secret_")[0],
      kind: secret.startsWith("seti_") ? "setup_intent" : "payment_intent",
    };
  }

  function flatten(params, prefix = "") {
    return Object.entries(params).flatMap(([key, value]) => {
      const name = prefix ? `${prefix}[${key}]` : key;
      if (value === undefined || value === null) return [];
      return typeof value === "object" ? flatten(value, name) : [[name, String(value)]];
    });
  }

  function find(target) {
    const found = typeof target === "string" ? document.querySelector(target) : target;
    if (!found) {
      throw new IntegrationError(
        `The selector you specified (${target}) applies to no DOM elements that are currently on ` +
          "the page.",
      );
    }
    return found;
  }

  function makeFrame(src, title) {
    const frame = document.createElement("iframe");
    frames += 1;
    frame.name = `__sandboxFrame${frames}`;
    frame.title = title;
    frame.src = src;
    Object.assign(frame.style, { width: "100%", border: "0", display: "block", height: "22rem" });
    return frame;
  }

  // What a page may listen to: element.on("change", …).
  class Teller {
    #listeners = new Map();

    on(event, listener) {
      this.#listeners.set(event, [...(this.#listeners.get(event) || []), listener]);
      return this;
    }

    off(event, listener) {
      const known = this.#listeners.get(event) || [];
      this.#listeners.set(event, listener ? known.filter((l) => l !== listener) : []);
      return this;
    }

    once(event, listener) {
      const once = (facts) => {
        this.off(event, once);
        listener(facts);
      };
      return this.on(event, once);
    }

    tell(event, facts) {
      for (const listener of this.#listeners.get(event) || []) listener(facts);
    }
  }

  class PaymentElement extends Teller {
    constructor(elements, options) {
      super();
      this.elements = elements;
      this.options = options;
      this.frame = null;
      this.port = null;
      this.waiting = new Map();
      this.asked = 0;
    }

    mount(target) {
      const container = find(target);
      if (this.frame) this.unmount();
      this.container = container;
      this.opened = this.open(container);
      return undefined;
    }

    async open(container) {
      const facts = await this.elements.facts();
      if (facts.error) {
        this.tell("loaderror", { elementType: "payment", error: facts.error });
        return;
      }
      const query = new URLSearchParams({
        types: facts.types.join(","),
        saving: facts.saving ? "1" : "0",
        scheme: this.scheme(),
      });
      const frame = makeFrame(`${BASE}/js/element?${query}`, "Secure payment input frame");
      frame.style.colorScheme = this.scheme();
      this.frame = frame;
      const spoken = new Promise((resolve) => {
        frame.addEventListener("load", () => {
          const { port1, port2 } = new MessageChannel();
          this.port = port1;
          port1.onmessage = ({ data }) => this.hear(data, resolve);
          frame.contentWindow.postMessage({ sandbox: "element" }, ORIGIN, [port2]);
        });
      });
      container.replaceChildren(frame);
      await spoken;
    }

    // Light or dark: as the appearance says, else as the page around it is.
    scheme() {
      const theme = this.elements.options.appearance?.theme;
      if (theme) return theme === "night" ? "dark" : "light";
      const page = getComputedStyle(document.documentElement).colorScheme;
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      return page === "dark" || (page.includes("dark") && dark) ? "dark" : "light";
    }

    hear(data, ready) {
      if ("answers" in data) {
        this.waiting.get(data.answers)?.(data.told);
        this.waiting.delete(data.answers);
        return;
      }
      const { event, ...facts } = data;
      if (event === "resize") {
        this.frame.style.height = `${facts.height}px`;
        return;
      }
      if (event === "ready") ready();
      this.tell(event, { elementType: "payment", ...facts });
    }

    async ask(task, facts) {
      await this.opened;
      if (!this.port) return { error: OFFLINE };
      this.asked += 1;
      const asks = this.asked;
      const answer = new Promise((resolve) => this.waiting.set(asks, resolve));
      this.port.postMessage({ asks, task, ...facts });
      return answer;
    }

    focus() {
      this.ask("focus");
    }

    blur() {
      this.ask("blur");
    }

    clear() {
      this.ask("clear");
    }

    collapse() {}

    update(options) {
      Object.assign(this.options, options);
    }

    repaint() {
      if (!this.frame) return;
      this.frame.style.colorScheme = this.scheme();
      this.ask("scheme", { scheme: this.scheme() });
    }

    unmount() {
      this.frame?.remove();
      this.port?.close();
      this.frame = null;
      this.port = null;
    }

    destroy() {
      this.unmount();
      this.elements.element = null;
    }
  }

  class Elements {
    constructor(stripe, options) {
      this.stripe = stripe;
      this.options = { ...options };
      this.element = null;
      this.submitted = false;
      if (options.clientSecret) {
        this.intent = readSecret(options.clientSecret, "elements()");
      } else if (!["payment", "setup", "subscription"].includes(options.mode)) {
        throw new IntegrationError("elements() needs a clientSecret, or a mode and a currency.");
      } else if (!options.currency) {
        throw new IntegrationError("elements() with a mode needs a currency.");
      }
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
        this.element?.repaint(),
      );
    }

    // What the form has to know of the intent that it is for.
    async facts() {
      if (!this.intent) {
        const { currency, mode } = this.options;
        const debit = { eur: "sepa_debit", gbp: "bacs_debit", usd: "us_bank_account" }[currency];
        return { types: ["card", debit].filter(Boolean), saving: mode === "setup" };
      }
      const told = await this.stripe.retrieve(this.options.clientSecret, "elements()");
      if (told.error) return told;
      const intent = told[KINDS[this.intent.kind].name];
      return {
        types: intent.payment_method_types,
        saving: this.intent.kind === "setup_intent",
      };
    }

    create(type, options = {}) {
      if (type !== "payment") {
        throw new IntegrationError(`The sandbox does not offer the ${type} element.`);
      }
      if (this.element) {
        throw new IntegrationError("Can only create one Element of type payment.");
      }
      this.element = new PaymentElement(this, options);
      return this.element;
    }

    getElement(type) {
      return type === "payment" ? this.element : null;
    }

    async submit() {
      const told = await this.mounted("elements.submit()").ask("validate");
      this.submitted = !told.error;
      return told;
    }

    async fetchUpdates() {
      const facts = await this.facts();
      return facts.error ? { error: facts.error } : {};
    }

    async update(options) {
      Object.assign(this.options, options);
      this.element?.repaint();
    }

    mounted(call) {
      if (!this.element?.container) {
        throw new IntegrationError(
          `Invalid value for ${call}: elements should have a mounted Payment Element.`,
        );
      }
      return this.element;
    }
  }

  class StandIn {
    constructor(key) {
      this.key = key;
    }

    async call(method, path, params) {
      const body = new URLSearchParams(flatten(params));
      const sent = method === "GET" ? `?${body}` : "";
      try {
        const answer = await fetch(`${BASE}/v1/${path}${sent}`, {
          method,
          headers: { Authorization: `Bearer ${this.key}` },
          body: method === "GET" ? undefined : body,
        });
        return await answer.json();
      } catch {
        return { error: OFFLINE };
      }
    }

    elements(options = {}) {
      return new Elements(this, options);
    }

    async retrieve(clientSecret, call) {
      const { id, kind } = readSecret(clientSecret, call);
      const { path, name } = KINDS[kind];
      const told = await this.call("GET", `${path}/${id}`, { client_secret: clientSecret });
      return told.error ? { error: told.error } : { [name]: told };
    }

    retrievePaymentIntent(clientSecret) {
      return this.retrieve(clientSecret, "retrievePaymentIntent()");
    }

    retrieveSetupIntent(clientSecret) {
      return this.retrieve(clientSecret, "retrieveSetupIntent()");
    }

    confirmPayment(options) {
      return this.confirm("payment_intent", options);
    }

    confirmSetup(options) {
      return this.confirm("setup_intent", options);
    }

    async confirm(kind, options) {
      const { elements, confirmParams = {}, redirect = "always" } = options;
      const { path, call } = KINDS[kind];
      const ours = elements?.options.clientSecret;
      const secret = options.clientSecret || ours;
      if (!secret) {
        throw new IntegrationError(`You must pass in a clientSecret when calling stripe.${call}().`);
      }
      if (ours && options.clientSecret && ours !== options.clientSecret) {
        throw new IntegrationError(
          `The clientSecret given to stripe.${call}() is not the one that elements() was created ` +
            "with.",
        );
      }
      const intent = readSecret(secret, `stripe.${call}()`);
      if (intent.kind !== kind) {
        const other = KINDS[intent.kind].call;
        throw new IntegrationError(
          `Your code called ${call}() but you passed a client_secret associated with another kind ` +
            `of intent. Did you mean to call ${other}() instead?`,
        );
      }
      const back = confirmParams.return_url;
      if (redirect === "always" || back) checkAddress(back, call);
      const method = await this.methodFor(elements, confirmParams, call);
      if (method.error) return method;
      const told = await this.call("POST", `${path}/${intent.id}/confirm`, {
        ...confirmParams,
        payment_method_data: undefined,
        payment_method: method.id,
        client_secret: secret,
        use_stripe_sdk: true,
      });
      return told.error ? { error: told.error } : this.goOn(kind, told, back, redirect);
    }

    // The payment method that is named, or a new one of what was typed into the element.
    async methodFor(elements, confirmParams, call) {
      if (typeof confirmParams.payment_method === "string") {
        return { id: confirmParams.payment_method };
      }
      if (!elements) {
        throw new IntegrationError(
          `stripe.${call}() needs elements, or a payment_method among its confirmParams.`,
        );
      }
      const element = elements.mounted(`stripe.${call}()`);
      if (!elements.intent && !elements.submitted) {
        throw new IntegrationError(`elements.submit() must be called before stripe.${call}().`);
      }
      elements.submitted = false;
      const told = await element.ask("method", {
        key: this.key,
        buyer: confirmParams.payment_method_data?.billing_details,
      });
      return told.error ? told : { id: told.paymentMethod.id };
    }

    // To the bank, back to the shop, or no further. Whoever leaves the page never comes back here.
    goOn(kind, intent, back, redirect) {
      if (intent.status === "requires_action") {
        window.location.assign(intent.next_action.redirect_to_url.url);
        return new Promise(() => {});
      }
      if (redirect === "if_required") return { [KINDS[kind].name]: intent };
      const address = new URL(back);
      address.searchParams.set(kind, intent.id);
      address.searchParams.set(`${kind}_client_secret`, intent.client_secret);
      address.searchParams.set("redirect_status", "succeeded");
      window.location.assign(address);
      return new Promise(() => {});
    }

    async handleNextAction({ clientSecret }) {
      const told = await this.retrieve(clientSecret, "handleNextAction()");
      if (told.error) return told;
      const { kind } = readSecret(clientSecret, "handleNextAction()");
      return this.goOn(kind, told[KINDS[kind].name], "", "if_required");
    }

    async createPaymentMethod({ elements, params = {} }) {
      const element = elements.mounted("stripe.createPaymentMethod()");
      return element.ask("method", { key: this.key, buyer: params.billing_details });
    }

    async createEmbeddedCheckoutPage({ fetchClientSecret, clientSecret, onComplete }) {
      const secret = clientSecret || (await fetchClientSecret());
      if (!/^cs_\w+_secret_\w+$/.test(secret)) {
        throw new IntegrationError("The client secret of an embedded Checkout Session is needed.");
      }
      return new EmbeddedCheckout(secret, onComplete);
    }

    // Its name until 2026-03-25.dahlia; pages that load an older Stripe.js still call it so.
    initEmbeddedCheckout(options) {
      return this.createEmbeddedCheckoutPage(options);
    }
  }

  class EmbeddedCheckout {
    constructor(secret, onComplete) {
      this.secret = secret;
      this.onComplete = onComplete;
      this.frame = null;
      this.hear = this.hear.bind(this);
    }

    mount(target) {
      const query = new URLSearchParams({ frame: window.location.origin });
      const src = `${BASE}/c/embedded/${this.secret}?${query}`;
      this.frame = makeFrame(src, "Secure payment input frame");
      this.frame.style.height = "46rem";
      window.addEventListener("message", this.hear);
      find(target).replaceChildren(this.frame);
    }

    hear({ data, origin, source }) {
      if (origin !== ORIGIN || source !== this.frame?.contentWindow) return;
      if (data?.sandbox !== "checkout") return;
      if (data.type === "resize") this.frame.style.height = `${data.height}px`;
      if (data.type !== "complete") return;
      if (data.url) window.location.assign(data.url);
      else this.onComplete?.();
    }

    unmount() {
      window.removeEventListener("message", this.hear);
      this.frame?.remove();
      this.frame = null;
    }

    destroy() {
      this.unmount();
    }
  }

  function checkAddress(address, call) {
    let scheme = "";
    try {
      scheme = new URL(address).protocol;
    } catch {
      // Said below: an address that cannot be read is as bad as none.
    }
    if (!/^https?:$/.test(scheme)) {
      throw new IntegrationError(
        `Invalid value for stripe.${call}(): confirmParams.return_url should be an absolute http ` +
          "or https address.",
      );
    }
  }

  window.Stripe = (key) => {
    if (typeof key === "string" && /^(sk|rk)_/.test(key)) {
      throw new IntegrationError(
        "You should not use your secret key with Stripe.js. Please pass a publishable key instead.",
      );
    }
    if (typeof key !== "string" || !key.startsWith("pk_test_")) {
      throw new IntegrationError("The sandbox opens to a publishable key of test mode only.");
    }
    return new StandIn(key);
  };
  window.Stripe.version = "sandbox";
})();
