"""What a browser may do with a publishable key, and the stand-in for Stripe.js that does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import stripe

from tests.sandbox.drive import a_session, deliver_all, event_types, http_call
from tests.sandbox.test_sandbox_pages import LAUNCH, Outline

PK = "pk_test_anything"


@pytest.fixture
def browser_api(box):
    """Stripe's API as a browser calls it: with the publishable key."""
    caller = stripe.StripeClient(
        PK, base_addresses={"api": box.url}, http_client=stripe.RequestsClient(timeout=5)
    )
    return caller.v1


def an_intent(api, **changes):
    return api.payment_intents.create({"amount": 2490, "currency": "eur", **changes})


def secret_of(intent):
    return {"client_secret": intent.client_secret}


# -- the publishable key --------------------------------------------------------------------------


def test_whoever_has_the_client_secret_may_read_and_confirm_the_intent(box, api, browser_api):
    intent = an_intent(api, metadata={"checkout_attempt_id": "a1"})
    method = browser_api.payment_methods.create(
        {"type": "card", "card": {"number": "4242424242424242"}}
    )

    done = confirm(browser_api, intent, method.id)

    assert done.status == "succeeded"
    assert "metadata" not in done
    assert "customer" not in done
    seen = browser_api.payment_intents.retrieve(intent.id, secret_of(intent))
    assert (seen.amount, seen.status) == (2490, "succeeded")
    assert {r["by"] for r in box.requests if r["path"].endswith(("/confirm", "methods"))} == {
        "browser"
    }


def confirm(browser_api, intent, method, secret=None, **changes):
    """Confirm an intent of either kind as the script does; the SDK lets any parameter out."""
    kind = (
        browser_api.setup_intents
        if intent.id.startswith("seti_")
        else (browser_api.payment_intents)
    )
    given = {"payment_method": method, "client_secret": secret or intent.client_secret}
    return kind.confirm(intent.id, {**given, **changes})


def test_a_setup_is_confirmed_the_same_way(api, browser_api):
    setup = api.setup_intents.create({})

    done = confirm(browser_api, setup, "pm_card_visa", return_url="http://shop.test/back")

    assert done.status == "succeeded"
    assert "metadata" not in done


@pytest.mark.parametrize("whose", ["another intent's", "another kind's", "none"])
def test_a_secret_that_is_not_the_intents_is_refused(box, api, browser_api, whose):
    intent = an_intent(api)
    secret = {
        "another intent's": an_intent(api).client_secret,
        "another kind's": api.setup_intents.create({}).client_secret,
        "none": "",
    }[whose]

    with pytest.raises(stripe.InvalidRequestError) as caught:
        confirm(browser_api, intent, "pm_card_visa", secret or " ")

    assert caught.value.param == "client_secret"
    assert api.payment_intents.retrieve(intent.id).status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError, match="client_secret"):
        browser_api.payment_intents.retrieve(intent.id)


def test_a_publishable_key_opens_nothing_else(api, browser_api):
    intent = an_intent(api)
    refused = [
        lambda: browser_api.customers.list(),
        lambda: browser_api.payment_intents.list(),
        lambda: browser_api.payment_intents.cancel(intent.id),
        lambda: browser_api.payment_intents.update(intent.id, {"amount": 100}),
        lambda: browser_api.payment_intents.create({"amount": 2490, "currency": "eur"}),
        lambda: browser_api.refunds.create({"payment_intent": intent.id}),
    ]

    for call in refused:
        with pytest.raises(stripe.PermissionError, match="publishable API key") as caught:
            call()
        assert caught.value.json_body["error"]["code"] == "secret_key_required"


@pytest.mark.parametrize("name", ["off_session", "capture_method"])
def test_a_browser_cannot_say_what_only_the_shop_may_say(api, browser_api, name):
    value = {"off_session": True, "capture_method": "manual"}[name]

    with pytest.raises(stripe.InvalidRequestError) as caught:
        confirm(browser_api, an_intent(api), "pm_card_visa", **{name: value})

    assert caught.value.param == name


def test_a_decline_tells_the_browser_no_more_than_it_may_see(api, browser_api):
    intent = an_intent(api, metadata={"checkout_attempt_id": "a1"})

    with pytest.raises(stripe.CardError) as caught:
        confirm(browser_api, intent, "pm_card_chargeDeclined")

    shown = caught.value.json_body["error"]["payment_intent"]
    assert shown["status"] == "requires_payment_method"
    assert "metadata" not in shown


def test_a_page_of_any_origin_may_call(box):
    import requests

    asked = requests.options(
        f"{box.url}/v1/payment_intents/pi_x/confirm",
        headers={
            "Origin": "http://shop.test",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
        timeout=5,
    )
    answered = requests.get(
        f"{box.url}/v1/payment_intents/pi_x",
        headers={"Origin": "http://shop.test", "Authorization": f"Bearer {PK}"},
        timeout=5,
    )

    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization"
    assert answered.headers["Access-Control-Allow-Origin"] == "http://shop.test"
    assert box.requests[-1]["method"] == "GET"  # asking whether one may call is no call


def test_a_browsers_calls_meet_the_same_faults_and_keys(box, api, browser_api):
    intent = an_intent(api)
    box.chaos.effect_then_cut = {"next": 1, "only": "POST */confirm"}
    key = {"idempotency_key": "k1"}
    given = {"payment_method": "pm_card_visa", **secret_of(intent)}

    with pytest.raises(stripe.APIConnectionError):
        browser_api.payment_intents.confirm(intent.id, given, key)
    again = browser_api.payment_intents.confirm(intent.id, given, key)

    assert again.status == "succeeded"
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(box.store.objects["charge"]) == 1


def test_what_was_typed_becomes_a_method_with_its_own_trouble(box, api, browser_api):
    import requests

    made = requests.post(
        f"{box.url}/js/method",
        json={"way": "4242424242424242", "webhooks": "lost"},
        headers={"Authorization": f"Bearer {PK}"},
        timeout=5,
    ).json()
    confirm(browser_api, an_intent(api), made["id"])

    assert "payment_intent.succeeded" in event_types(box)
    assert [e["type"] for e in deliver_all(box)] == ["payment_intent.created"]


@pytest.mark.parametrize(
    ("key", "way", "status"), [("sk_live_x", "4242424242424242", 401), (PK, "4242", 400)]
)
def test_what_cannot_be_a_card_or_a_key_becomes_nothing(box, key, way, status):
    import requests

    answer = requests.post(
        f"{box.url}/js/method",
        json={"way": way},
        headers={"Authorization": f"Bearer {key}"},
        timeout=5,
    )

    assert (answer.status_code, box.store.objects["payment_method"]) == (status, {})


# -- the form -------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["types=card,sepa_debit", "types=card", "types=card&saving=1"])
def test_the_framed_form_has_labels_and_runs_only_the_sandboxs_scripts(box, query):
    _, headers, page = http_call(f"{box.url}/js/element?{query}")

    outline = Outline(page)
    assert outline.unclosed == []
    assert outline.headings == ["h1"]
    assert len(outline.ids) == len(set(outline.ids))
    for field in outline.fields:
        assert field["id"] in outline.labelled
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert ("Bank debit" in page) is ("sepa_debit" in query)
    assert ("Saved, never pays" in page) is ("saving" in query)


# -- in a browser ---------------------------------------------------------------------------------


class Shop:
    """A page of a shop that pays on its own page, under a policy without anything inline."""

    SCRIPT = """
      const facts = document.body.dataset;
      const stripe = Stripe(facts.key);
      const says = document.getElementById("says");
      const tell = (told) => { says.textContent = told; };
      const back = `${location.origin}/back`;

      async function pay(elements) {
        const { error } = await elements.submit();
        if (error) return error.message;
        const options = { elements, confirmParams: { return_url: back }, redirect: facts.redirect };
        if (facts.setup) {
          const set = await stripe.confirmSetup({ ...options, clientSecret: facts.setup });
          if (set.error) return set.error.message;
          if (!facts.payment) return set.setupIntent.status;
          const paid = await stripe.confirmPayment({
            clientSecret: facts.payment,
            confirmParams: { payment_method: set.setupIntent.payment_method, return_url: back },
            redirect: facts.redirect,
          });
          return paid.error ? paid.error.message : paid.paymentIntent.status;
        }
        const paid = await stripe.confirmPayment({ ...options, clientSecret: facts.payment });
        return paid.error ? paid.error.message : paid.paymentIntent.status;
      }

      if (facts.checkout) {
        stripe
          .createEmbeddedCheckoutPage({
            fetchClientSecret: async () => facts.checkout,
            onComplete: () => tell("complete"),
          })
          .then((checkout) => checkout.mount("#here"));
      } else {
        const elements = stripe.elements({ clientSecret: facts.setup || facts.payment });
        const element = elements.create("payment");
        element.on("ready", () => tell("ready"));
        element.on("loaderror", ({ error }) => tell(`not loaded: ${error.message}`));
        element.mount("#here");
        document.getElementById("go").addEventListener("click", async () => {
          tell("…");
          tell(await pay(elements).catch((error) => `${error.name}: ${error.message}`));
        });
      }
    """

    def __init__(self, box) -> None:
        self._box = box
        self.facts: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, body = outer.answer(self.path.partition("?")[0])
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Security-Policy", outer.policy)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def policy(self) -> str:
        there = self._box.url
        return (
            f"default-src 'none'; script-src 'self' {there}; connect-src 'self' {there}; "
            f"frame-src {there}; img-src data:"
        )

    def answer(self, path: str) -> tuple[str, str]:
        if path == "/pay.js":
            return "text/javascript", self.SCRIPT
        facts = " ".join(f'data-{k}="{v}"' for k, v in {"key": PK, **self.facts}.items())
        scripts = f'<script src="{self._box.url}/js/elements.js" defer></script>'
        scripts += '<script src="/pay.js" defer></script>' if path == "/pay" else ""
        return "text/html", (
            f"<!doctype html><html lang=en><head><title>Shop</title><meta charset=utf-8>"
            f'<link rel="icon" href="data:,">{scripts}</head><body {facts}><h1>{path}</h1>'
            "<div id=here></div><button id=go>Pay now</button><p id=says></p></body></html>"
        )

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def shop(box) -> Iterator[Shop]:
    made = Shop(box)
    yield made
    made.close()


class Paying:
    """Somebody before the shop's page, with a browser that may complain about nothing."""

    def __init__(self, page, shop) -> None:
        self.page, self.shop = page, shop
        self.complaints: list[str] = []
        page.on("console", lambda m: self._hear(m.type, m.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, kind: str, text: str) -> None:
        # A refused call is told as a failed resource, whatever the script makes of it.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(text)

    def opens(self, **facts: str) -> None:
        self.shop.facts = {"redirect": "if_required", **facts}
        self.page.goto(f"{self.shop.url}/pay")
        if "checkout" not in facts:
            self.sees("ready")

    @property
    def frame(self):
        return self.page.frame_locator("iframe")

    def pays(self, card: str = "4242 4242 4242 4242") -> None:
        self.frame.get_by_label("Card number").fill(card)
        self.page.get_by_role("button", name="Pay now").click()

    def sees(self, words: str) -> None:
        self.page.locator("#says", has_text=words).wait_for(timeout=10_000)


@pytest.fixture
def paying(shop) -> Iterator[Paying]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=LAUNCH)
        maya = Paying(browser.new_page(), shop)
        yield maya
        browser.close()
    assert maya.complaints == []


@pytest.mark.browser
def test_a_payment_is_declined_then_paid_without_leaving_the_page(api, paying):
    intent = an_intent(api)
    paying.opens(payment=intent.client_secret)

    paying.page.get_by_role("button", name="Pay now").click()
    paying.sees("Your card number is incomplete.")
    paying.pays("4000 0000 0000 9995")
    paying.sees("Your card has insufficient funds.")
    paying.frame.get_by_role("button", name="Pays").click()
    paying.page.get_by_role("button", name="Pay now").click()
    paying.sees("succeeded")

    assert api.payment_intents.retrieve(intent.id).amount_received == 2490


@pytest.mark.browser
@pytest.mark.parametrize(("answer", "status"), [("Yes", "succeeded"), ("No", "failed")])
def test_the_bank_asks_on_a_page_of_its_own_and_leads_back(api, paying, answer, status):
    intent = an_intent(api)
    paying.opens(payment=intent.client_secret)

    paying.pays("4000 0027 6000 3184")
    paying.page.get_by_role("heading", name="Is this you?").wait_for()
    paying.page.get_by_role("button", name=answer).click()
    paying.page.wait_for_url(f"{paying.shop.url}/back?*")

    assert f"payment_intent={intent.id}" in paying.page.url
    assert f"redirect_status={status}" in paying.page.url


@pytest.mark.browser
def test_whoever_always_wants_to_be_sent_back_is(api, paying):
    intent = an_intent(api)
    paying.opens(payment=intent.client_secret, redirect="always")

    paying.pays()
    paying.page.wait_for_url(f"{paying.shop.url}/back?payment_intent={intent.id}&*")

    assert f"payment_intent_client_secret={intent.client_secret}" in paying.page.url


@pytest.mark.browser
def test_a_mixed_cart_saves_the_card_first_and_pays_with_it_then(box, api, paying):
    maya = api.customers.create({"name": "Maya"}).id
    setup = api.setup_intents.create({"customer": maya})
    intent = an_intent(api, customer=maya)
    paying.opens(setup=setup.client_secret, payment=intent.client_secret)

    paying.pays()
    paying.sees("succeeded")

    saved = api.setup_intents.retrieve(setup.id).payment_method
    paid = api.payment_intents.retrieve(intent.id)
    assert (paid.status, paid.payment_method) == ("succeeded", saved)
    assert api.payment_methods.retrieve(saved).customer == maya


@pytest.mark.browser
def test_a_debit_and_late_news_are_chosen_in_the_form(box, api, paying):
    intent = an_intent(api)
    paying.opens(payment=intent.client_secret)

    paying.frame.get_by_label("Bank debit").check()
    paying.frame.get_by_label("The shop hears of it").select_option("20 seconds late")
    paying.page.get_by_role("button", name="Pay now").click()
    paying.sees("processing")

    assert [e["type"] for e in deliver_all(box)] == ["payment_intent.created"]
    box.advance(20)
    assert api.payment_intents.retrieve(intent.id).status == "succeeded"


@pytest.mark.browser
def test_a_secret_that_does_not_fit_is_told_and_pays_nothing(api, paying):
    intent, other = an_intent(api), an_intent(api)
    forged = f"{intent.id}_secret_{other.client_secret.partition('_secret_')[2]}"
    paying.shop.facts = {"payment": forged, "redirect": "if_required"}
    paying.page.goto(f"{paying.shop.url}/pay")

    paying.sees("not loaded: The client_secret provided does not match")

    assert api.payment_intents.retrieve(intent.id).status == "requires_payment_method"


@pytest.mark.browser
def test_an_embedded_checkout_is_paid_in_its_frame_and_leads_the_page_back(box, api, paying):
    params = a_session(ui_mode="embedded_page", customer_email="maya@example.com")
    params |= {"return_url": paying.shop.url + "/back?s={CHECKOUT_SESSION_ID}"}
    for name in ("success_url", "cancel_url"):
        params.pop(name)
    session = api.checkout.sessions.create(params)
    paying.opens(checkout=session.client_secret)

    paying.frame.get_by_label("Card number").fill("4000 0025 0000 3155")
    paying.frame.get_by_role("button", name="Pay €41.50").click()
    paying.frame.get_by_role("button", name="Yes, pay it").click()
    paying.page.wait_for_url(f"{paying.shop.url}/back?s={session.id}")

    assert api.checkout.sessions.retrieve(session.id).payment_status == "paid"


@pytest.mark.browser
def test_an_embedded_checkout_that_stays_tells_the_page_that_it_is_complete(api, paying):
    params = a_session(ui_mode="embedded_page", redirect_on_completion="never")
    for name in ("success_url", "cancel_url"):
        params.pop(name)
    session = api.checkout.sessions.create(params)
    paying.opens(checkout=session.client_secret)

    paying.frame.get_by_role("button", name="Declined").click()
    paying.frame.get_by_role("alert").wait_for()
    paying.frame.get_by_role("button", name="Pays").click()
    paying.sees("complete")

    assert paying.page.url == f"{paying.shop.url}/pay"


@pytest.mark.browser
def test_the_script_refuses_what_stripes_own_refuses(api, paying):
    intent, setup = an_intent(api), api.setup_intents.create({})
    paying.opens(payment=intent.client_secret)

    def said(code: str) -> str:
        return paying.page.evaluate(
            f"async () => {{ try {{ {code}; return 'nothing' }} catch (e) {{ return e.message }} }}"
        )

    secrets = json.dumps([intent.client_secret, setup.client_secret])
    assert "secret key" in said("Stripe('sk_test_x')")
    assert "publishable key" in said("Stripe('pk_live_x')")
    assert "needs a clientSecret" in said("Stripe('pk_test_x').elements()")
    assert "does not offer" in said(
        f"Stripe('pk_test_x').elements({{clientSecret: {secrets}[0]}}).create('address')"
    )
    assert "confirmSetup() instead" in said(
        f"await Stripe('pk_test_x').confirmPayment({{clientSecret: {secrets}[1], confirmParams: "
        "{return_url: 'http://shop.test/'}})"
    )
    assert "return_url should be an absolute" in said(
        f"await Stripe('pk_test_x').confirmPayment({{clientSecret: {secrets}[0]}})"
    )
    assert "is not the one" in said(
        f"const s = Stripe('pk_test_x'), elements = s.elements({{clientSecret: {secrets}[1]}}); "
        f"await s.confirmPayment({{elements, clientSecret: {secrets}[0]}})"
    )
