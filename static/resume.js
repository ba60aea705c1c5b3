// Back from paying without a word of which payment: this browser knows which checkout it began.
const began = sessionStorage.getItem("checkoutAttemptId");
if (began) location.replace(`/order-success/${encodeURIComponent(began)}`);
