"""All that we ask of Stripe and hear from it, in one object."""

from __future__ import annotations

from typing import Any

from gateway import webhooks
from gateway.calls import PAGE, plain
from gateway.ledger import Ledger
from gateway.pricing import Pricing
from gateway.webhooks import VerifiedEvent


class StripeGateway(Ledger, Pricing):
    """Every call we make to Stripe. Raises the Stripe errors of ``domain.errors`` and no others."""

    def __init__(self, *, webhook_secrets: tuple[str, ...], **connection: Any) -> None:
        """``connection`` is what ``Calls`` wants."""
        super().__init__(**connection)
        self._secrets = webhook_secrets

    def verify(self, body: bytes, signature: str) -> VerifiedEvent:
        """See ``gateway.webhooks``. Raises UnverifiedEvent."""
        return webhooks.verify(body, signature, secrets=self._secrets, livemode=self.livemode)

    def webhook_endpoints(self) -> list[dict[str, Any]]:
        """Where Stripe sends events to."""
        return [
            plain(endpoint)
            for endpoint in self._pages(
                lambda client, page: client.v1.webhook_endpoints.list({"limit": PAGE, **page})
            )
        ]

    def ping(self) -> None:
        """Ask for something small, to see whether address and key are right."""
        self._call(lambda client: client.v1.events.list({"limit": 1}), quick=True)
