"""All that we ask of Stripe and hear from it, in one object."""

from __future__ import annotations

from typing import Any

from gateway import webhooks
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
        return list(self._pages("/v1/webhook_endpoints"))

    def ping(self) -> None:
        """Ask for something small, to see whether address and key are right."""
        self._get("/v1/events", limit=1, quick=True)
