"""How Stripe is called: with timeouts, never inside a transaction, and with errors that say what is
known of the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import stripe

from domain.errors import (
    StripeBusy,
    StripeMissing,
    StripeRefused,
    StripeReplayedFailure,
    StripeUnavailable,
)
from domain.words import Words

# Heroku cuts a request at 30 s; two tries of 3 + 8 s stay below it. The SDK alone waits 80 s.
CONNECT_S, READ_S = 3, 8
QUICK_CONNECT_S, QUICK_READ_S = 1, 2  # on the success page a person is waiting: 3 s in all
NETWORK_RETRIES = 1  # StripeClient itself retries nothing unless told to
PAGE = 100  # the largest page that Stripe's lists give
UNREACHED = Words(
    "We could not reach the payment service. Nothing was charged, and your basket is kept. "
    "Please try again in a moment."
)


class CalledInsideTransaction(RuntimeError):
    """Stripe was about to be called while a database transaction was open (rule R1)."""


class Calls:
    """A connection to Stripe. Raises the Stripe errors of ``domain.errors`` and no others."""

    def __init__(
        self,
        *,
        secret_key: str,
        api_base: str | None = None,
        in_transaction: Callable[[], bool] = lambda: False,
        transport: Any = None,
    ) -> None:
        """``transport`` replaces the SDK's HTTP client: the storm's needs no socket."""
        self.livemode = secret_key.startswith(("sk_live_", "rk_live_"))
        self._in_transaction = in_transaction
        bases: Any = {"api": api_base} if api_base else {}

        def client(timeout: tuple[int, int], retries: int) -> stripe.StripeClient:
            http = transport or stripe.RequestsClient(timeout=timeout)
            return stripe.StripeClient(
                secret_key, base_addresses=bases, http_client=http, max_network_retries=retries
            )

        self._patient = client((CONNECT_S, READ_S), NETWORK_RETRIES)
        self._quick = client((QUICK_CONNECT_S, QUICK_READ_S), 0)

    def _pages(self, path: str, *ids: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """All that a list of Stripe's has, page by page."""
        while True:
            answer = self._get(path, *ids, limit=PAGE, **asked)
            yield from answer["data"]
            if not answer["has_more"]:
                return
            asked["starting_after"] = answer["data"][-1]["id"]

    def _get(self, path: str, *ids: str, quick: bool = False, **asked: Any) -> dict[str, Any]:
        """Read what is at ``path``, into plain dicts: the SDK's objects take as long to build as
        all the rest of a look at a page of events, and are only taken apart again. Each id fills
        a ``{}``."""
        where = path.format(*(quote(id, safe="") for id in ids))
        answer = self._call(lambda client: client.raw_request("get", where, **asked), quick=quick)
        told: dict[str, Any] = answer.data
        return told

    def _call(self, ask: Callable[[stripe.StripeClient], Any], *, quick: bool = False) -> Any:
        if self._in_transaction():
            raise CalledInsideTransaction("end the transaction before calling Stripe")
        with _known_errors():
            return ask(self._quick if quick else self._patient)


@contextmanager
def _known_errors() -> Iterator[None]:
    """Sort the SDK's errors by what they let us know about the outcome (rule R2)."""
    try:
        yield
    except stripe.IdempotencyError as error:
        # The key was used with other parameters: it will never tell us more. Search instead.
        raise StripeReplayedFailure(UNREACHED) from error
    except stripe.StripeError as error:
        raise _sorted(error) from error


def _sorted(error: stripe.StripeError) -> Exception:
    status = error.http_status
    if status is None or status >= 500:
        headers = {k.lower(): v for k, v in (error.headers or {}).items()}
        if headers.get("idempotent-replayed") == "true":
            return StripeReplayedFailure(UNREACHED)
        return StripeUnavailable(UNREACHED)
    if status in (401, 409, 429):
        return StripeBusy(UNREACHED)
    why = error.user_message or error.code or status
    detail = Words("The payment service refused: %(why)s", why=why)
    return (StripeMissing if status == 404 else StripeRefused)(detail)


def plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = value.to_dict(for_json=True)
    return plain
