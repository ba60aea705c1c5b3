"""Who a shop is and how it looks, as its settings say."""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = re.compile(r"[A-Z][A-Z0-9]{0,7}")  # of order numbers: NL-10001
FILE = re.compile(r"[A-Za-z0-9][\w.-]*\.(?:svg|png|webp)")
THEME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Identity:
    """For pages and mails. ``logo`` is a file in ``static/``, ``theme`` one in ``static/themes/``
    without its ending; empty for the shop's own star and colours."""

    name: str = "Northlight Supply"
    tagline: str = "Plain things, made to be used for years."
    help_email: str = "help@northlight.example"
    number_prefix: str = "NL"
    logo: str = ""
    theme: str = ""
    is_sober: bool = False  # receipts without stamp and torn edge
    time_zone: str = "UTC"  # in which clocks are told
