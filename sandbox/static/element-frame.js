// In the frame of a Payment Element: what is typed stays here, the page gets a payment method.
(() => {
  "use strict";
  const form = document.getElementById("element");
  const number = document.getElementById("number");
  const problem = document.getElementById("number-problem");
  const debit = document.body.dataset.debit;
  let port = null;

  const tell = (event, facts) => port && port.postMessage({ event, ...facts });
  const kind = () => form.elements.kind?.value || (number ? "card" : "debit");
  const digits = () => number.value.replace(/\D/g, "");

  function isCardNumber(text) {
    if (!/^\d{12,19}$/.test(text)) return false;
    const sum = [...text].reverse().reduce((total, digit, place) => {
      const worth = Number(digit) * (place % 2 ? 2 : 1);
      return total + (worth > 9 ? worth - 9 : worth);
    }, 0);
    return sum % 10 === 0;
  }

  function whatIsWrong() {
    if (kind() === "debit" || isCardNumber(digits())) return null;
    const short = digits().length < 12;
    return {
      type: "validation_error",
      code: short ? "incomplete_number" : "invalid_number",
      message: short ? "Your card number is incomplete." : "Your card number is invalid.",
    };
  }

  function show(wrong) {
    if (!number) return;
    problem.textContent = wrong ? wrong.message : "";
    number.toggleAttribute("aria-invalid", Boolean(wrong));
    if (wrong) number.setAttribute("aria-invalid", "true");
  }

  function validate() {
    const wrong = whatIsWrong();
    show(wrong);
    if (wrong) number.focus();
    return wrong ? { error: wrong } : { selectedPaymentMethod: kind() === "card" ? "card" : debit };
  }

  async function makeMethod({ key, buyer }) {
    const wrong = validate();
    if (wrong.error) return wrong;
    const byDebit = kind() === "debit";
    const way = byDebit ? form.elements.debit.value : digits();
    const answer = await fetch("/js/method", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
      body: JSON.stringify({
        way,
        type: byDebit ? debit : "card",
        buyer,
        webhooks: form.elements.webhooks.value,
      }),
    });
    const told = await answer.json();
    return answer.ok ? { paymentMethod: told } : told;
  }

  const tasks = {
    validate,
    method: makeMethod,
    focus: () => (number || form.elements.debit[0]).focus(),
    blur: () => document.activeElement?.blur(),
    clear: () => {
      form.reset();
      form.dispatchEvent(new Event("input", { bubbles: true }));
    },
    scheme: ({ scheme }) => {
      document.documentElement.style.colorScheme = scheme;
    },
  };

  window.addEventListener("message", (message) => {
    if (message.source !== window.parent || message.data?.sandbox !== "element") return;
    port = message.ports[0];
    port.onmessage = async ({ data }) => {
      try {
        port.postMessage({ answers: data.asks, told: (await tasks[data.task](data)) || {} });
      } catch {
        const message = "The sandbox did not answer. Nothing was charged.";
        port.postMessage({ answers: data.asks, told: { error: { type: "api_error", message } } });
      }
    };
    tell("ready");
    new ResizeObserver(() => {
      tell("resize", { height: Math.ceil(document.body.getBoundingClientRect().height) });
    }).observe(document.body);
  });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("focusin", () => tell("focus"));
  form.addEventListener("focusout", () => tell("blur"));
  form.addEventListener("input", (event) => {
    if (event.target === number) {
      number.value = digits().replace(/(\d{4})(?=\d)/g, "$1 ");
      show(null);
    }
    const byCard = kind() === "card";
    document.getElementById("by-card")?.toggleAttribute("hidden", !byCard);
    document.getElementById("by-debit")?.toggleAttribute("hidden", byCard);
    tell("change", {
      complete: !whatIsWrong(),
      empty: byCard && !digits(),
      collapsed: false,
      value: { type: byCard ? "card" : debit },
    });
  });
  form.addEventListener("click", ({ target }) => {
    if (!target.dataset?.way) return;
    number.value = target.dataset.way;
    number.dispatchEvent(new Event("input", { bubbles: true }));
  });
})();
