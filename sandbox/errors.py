"""What goes wrong: errors that are answered in Stripe's shape, and a line that goes dead."""

from __future__ import annotations

from typing import Any


class Cut(ConnectionError):
    """The connection died before an answer was seen; whether the work was done is unknown.

    Over HTTP the socket is closed. A driver that calls ``Sandbox.wsgi`` itself gets this raised.
    """


class ApiError(Exception):
    """An answer that is an error, in the body and with the status that Stripe gives it.

    ``begun`` says that the endpoint had started its work: only then is the answer kept
    under the call's idempotency key.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        begun: bool = True,
        retry: bool | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.begun = begun
        self.retry = retry
        facts = {"code": code, "message": message, "param": param, "type": type, **more}
        self.body: dict[str, Any] = {k: v for k, v in facts.items() if v is not None}
        if code:
            self.body["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"


def bad_parameter(message: str, param: str, code: str | None = None) -> ApiError:
    """A parameter that is refused before any work begins."""
    return ApiError(message, code=code, param=param, begun=False)


def missing(param: str) -> ApiError:
    return bad_parameter(f"Missing required param: {param}.", param, "parameter_missing")


def no_such(kind: str, id: str, param: str = "id") -> ApiError:
    """The 404 for an id that was never given, or not to this kind of thing."""
    return ApiError(f"No such {kind}: '{id}'", status=404, code="resource_missing", param=param)


def not_yet(what: str, param: str | None = None) -> ApiError:
    """Real in Stripe, absent here: said plainly, so that nobody takes it for Stripe's answer."""
    return ApiError(f"The sandbox does not offer {what}.", param=param, begun=False)
