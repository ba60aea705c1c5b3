"""Shoppers sign in by a mailed link: whoever reads the mail of an address sees its orders. There is
no password, and nobody learns from us which addresses are known.

The request itself looks nothing up: it only notes that somebody asked, and a worker does the rest.
So an address that is known and one that is not take the same time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import delete, func, or_, select, update

from domain.clock import now
from domain.errors import ShopError
from domain.words import Words
from extensions import atomic, insert_once, reading
from models import Order, OutboxMessage, ShopperSession, SignInLink
from services import language, letters, links, mail, outbox

TO_SIGN_IN = "shopper-sign-in"
LINK_LIVES = timedelta(minutes=15)
MOST_AN_HOUR = 5  # mails to one address, whoever asks for them
IDLE = timedelta(days=14)
LONGEST = timedelta(days=30)  # as long as the cookie
SEEN_EVERY = timedelta(hours=1)  # so that looking at a page writes to the database rarely
UNKNOWN: outbox.Result = {"not_sent": "nothing was ordered with this address"}
TOO_MANY: outbox.Result = {"not_sent": f"it was sent {MOST_AN_HOUR} in the last hour"}
KEPT = timedelta(days=1)  # what is over, and links that were mailed


class LinkTooOld(ShopError):
    code = "link_expired"
    http_status = 410
    headline = Words("This link is too old")

    def __init__(self) -> None:
        minutes = int(LINK_LIVES.total_seconds() // 60)
        super().__init__(
            Words(
                "Links to sign in work for %(minutes)s minutes, so that an old mail opens nothing. "
                "Have a new one sent to you.",
                minutes=minutes,
            )
        )


class LinkUsed(ShopError):
    code = "link_used"
    http_status = 410
    headline = Words("This link has been used")

    def __init__(self) -> None:
        super().__init__(
            Words(
                "Each link signs in one browser, once. If that was not you, sign out everywhere "
                "after you have signed in with a new one."
            )
        )


def ask(email: str) -> None:
    """Somebody would like to sign in; at most one mail a minute and address comes of it."""
    with atomic():
        outbox.owe("sign_in", asked_for(email), email=email.strip().lower()[:254])


def asked_for(email: str) -> str:
    """A key for what one address is sent in this minute, which does not tell the address."""
    key = current_app.extensions["settings"].secret_keys[0].encode()
    named = hmac.new(key, email.strip().lower().encode(), hashlib.sha256).hexdigest()[:32]
    return f"{named}:{now():%Y%m%dT%H%M}"


@outbox.handles("sign_in", forgets=True)
def send(message: OutboxMessage) -> outbox.Result:
    """Mail the link, if anything was ordered with this address. Its time begins when it is sent."""
    typed = message.payload.get("email", "")
    with atomic() as session:
        known, spoken = session.execute(
            select(Order.email, Order.language)
            .where(func.lower(Order.email) == typed)
            .order_by(Order.created_at.desc())
            .limit(1)
        ).first() or (None, None)
        if known is None:
            return UNKNOWN
        others = select(func.count()).where(
            SignInLink.email == typed,
            SignInLink.created_at > now() - timedelta(hours=1),
            SignInLink.id != message.key,  # which is there, if the mail server was down before
        )
        if (session.scalar(others) or 0) >= MOST_AN_HOUR:
            return TOO_MANY
        until = now() + LINK_LIVES
        facts = {"id": message.key, "email": typed, "until": until, "created_at": now()}
        if not insert_once(SignInLink, **facts):  # the mail server was down: it is sent again
            session.execute(
                update(SignInLink).where(SignInLink.id == message.key).values(until=until)
            )
    link = f"{letters.origin()}/orders/sign-in?token={links.sign(TO_SIGN_IN, message.key)}"
    with language.speaking(spoken):
        subject = _("Sign in to see your orders")
        return mail.send(letters.letter(message, known, subject, "sign_in", link=link))


def whom(token: str) -> str:
    """The address that a link signs in, if it still does; nothing is used up by asking. Raises
    LinkDamaged, LinkTooOld, LinkUsed."""
    with reading() as session:
        return _usable(session.get(SignInLink, _id_in(token))).email


def enter(token: str) -> str:
    """Sign a browser in, once per link; returns what its cookie keeps. Raises like ``whom``."""
    link_id = _id_in(token)
    with atomic() as session:
        email = session.scalar(
            update(SignInLink)
            .where(SignInLink.id == link_id, SignInLink.used_at.is_(None), SignInLink.until > now())
            .values(used_at=now())
            .returning(SignInLink.email)
            .execution_options(synchronize_session=False)
        )
        if email is None:
            email = _usable(session.get(SignInLink, link_id)).email
        seat = secrets.token_urlsafe(32)
        session.add(ShopperSession(id=_hash(seat), email=email))
    return seat


def whose(seat: object) -> str | None:
    """The address that a browser is signed in with, unless its session is over."""
    if not isinstance(seat, str) or not seat:
        return None
    with reading() as session:
        found = session.get(ShopperSession, _hash(seat))
    moment = now()
    if (
        found is None
        or found.ended_at
        or moment - found.seen_at >= IDLE
        or moment - found.created_at >= LONGEST
    ):
        return None
    if moment - found.seen_at >= SEEN_EVERY:
        with atomic() as session:
            session.execute(
                update(ShopperSession)
                .where(ShopperSession.id == found.id, ShopperSession.ended_at.is_(None))
                .values(seen_at=moment)
            )
    return found.email


def leave(seat: object, *, everywhere: bool = False) -> None:
    """End this browser's session, or all of its address; copies of the cookie open nothing."""
    email = whose(seat)
    if email is None:
        return
    mine = ShopperSession.email == email if everywhere else ShopperSession.id == _hash(str(seat))
    with atomic() as session:
        session.execute(
            update(ShopperSession)
            .where(mine, ShopperSession.ended_at.is_(None))
            .values(ended_at=now())
        )
        if everywhere:  # nor does a link that is in the mail
            session.execute(delete(SignInLink).where(SignInLink.email == email))


def tidy() -> None:
    """Forget sessions that are over, links, and who asked for mail. Safe to repeat."""
    moment = now()
    asked = OutboxMessage.kind.in_(("sign_in", "order_links")) & OutboxMessage.order_id.is_(None)
    over = or_(
        ShopperSession.ended_at < moment - KEPT, ShopperSession.created_at < moment - LONGEST - KEPT
    )
    with atomic() as session:
        session.execute(delete(SignInLink).where(SignInLink.created_at < moment - KEPT))
        session.execute(delete(ShopperSession).where(over))
        session.execute(delete(OutboxMessage).where(asked, OutboxMessage.done_at < moment - KEPT))


def _id_in(token: str) -> str:
    said = links.read(TO_SIGN_IN, token)
    if not isinstance(said, str):
        raise links.LinkDamaged
    return said


def _usable(link: SignInLink | None) -> SignInLink:
    if link and link.used_at:
        raise LinkUsed
    if link is None or link.until <= now():  # what is a day old is not kept
        raise LinkTooOld
    return link


def _hash(seat: str) -> str:
    return hashlib.sha256(seat.encode(errors="replace")).hexdigest()
