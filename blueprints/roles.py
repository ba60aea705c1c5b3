"""Which role each address of the counter needs. One table: what has no line here is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from werkzeug.exceptions import HTTPException

from domain.roles import ADMIN, PACKER, REFUNDS, VIEWER, is_enough

# Endpoints that nobody has to be signed in for.
OPEN = frozenset(("admin.login", "admin.sign_in"))

NEEDS = {
    "admin.start": VIEWER,
    "admin.logout": VIEWER,
    "admin.orders": VIEWER,
    "admin.order_changes": VIEWER,
    "admin.order": VIEWER,
    "admin.invoice": VIEWER,
    "admin.exceptions": VIEWER,
    "admin.webhooks": VIEWER,
    "admin.webhook": VIEWER,
    "admin.webhook_targets": VIEWER,
    "admin.health": VIEWER,
    # one's own account
    "admin.account": VIEWER,
    "admin.set_password": VIEWER,
    "admin.begin_second_factor": VIEWER,
    "admin.finish_second_factor": VIEWER,
    "admin.remove_second_factor": VIEWER,
    "admin.renew_recovery_codes": VIEWER,
    "admin.sign_out": VIEWER,
    # many orders at once, and the views of their list
    "admin.keep_view": PACKER,
    "admin.remove_view": PACKER,
    "admin.shipments_form": PACKER,
    "admin.ship_chosen": PACKER,
    "admin.resend_chosen": PACKER,
    "admin.export_chosen": PACKER,
    "admin.sync_chosen": ADMIN,
    # what is written down about one, and mailed again
    "admin.write_note": PACKER,
    "admin.change_note": PACKER,
    "admin.resend_receipt": PACKER,
    "admin.packing_slips": PACKER,
    # parcels
    "admin.pack": PACKER,
    "admin.ship": PACKER,
    "admin.deliver": PACKER,
    # links that shoppers were sent
    "admin.replace_links": PACKER,
    # goods and stock
    "admin.products": VIEWER,
    "admin.products_csv": VIEWER,
    "admin.product": VIEWER,
    "admin.receive_stock": PACKER,
    "admin.correct_stock": PACKER,
    "admin.new_product": ADMIN,
    "admin.add_product": ADMIN,
    "admin.change_product": ADMIN,
    "admin.archive_product": ADMIN,
    "admin.bring_back_product": ADMIN,
    "admin.products_import": ADMIN,
    "admin.check_products_file": ADMIN,
    "admin.import_products": ADMIN,
    # money back
    "admin.refund_form": REFUNDS,
    "admin.refund": REFUNDS,
    # exceptions: what moves money, and what is done with them
    "admin.refund_exception": REFUNDS,
    "admin.accept_exception": REFUNDS,
    "admin.see_to_exception": REFUNDS,
    "admin.reopen_exception": REFUNDS,
    "admin.look_at_exception": ADMIN,
    "admin.replay_exception": ADMIN,
    "admin.evidence": REFUNDS,
    "admin.cancel_subscription": REFUNDS,
    "admin.resume_subscription": REFUNDS,
    # the engine room
    "admin.sync": ADMIN,
    "admin.sync_orders": ADMIN,
    "api.sync_orders": ADMIN,
    "admin.prove": ADMIN,
    "admin.webhook_setup": ADMIN,
    "admin.rehearse_events": ADMIN,
    "admin.replay_events": ADMIN,
    "admin.ignore_event": ADMIN,
    "admin.fetch_events": ADMIN,
    "admin.replay_deliveries": ADMIN,
    "admin.test_key": ADMIN,
    "admin.jobs": ADMIN,
    "admin.retry_jobs": ADMIN,
    "admin.drop_job": ADMIN,
    "admin.settings": ADMIN,
    "admin.change_settings": ADMIN,
    "admin.undo_change": ADMIN,
    # shoppers' own data
    "admin.person": ADMIN,
    "admin.erase": ADMIN,
    # people
    "admin.people": ADMIN,
    "admin.invite": ADMIN,
    "admin.new_link": ADMIN,
    "admin.change_role": ADMIN,
    "admin.end_sessions": ADMIN,
}


def may(role: str, endpoint: str | None) -> bool:
    """Whether somebody with this role may reach an endpoint."""
    return is_enough(role, NEEDS.get(endpoint or ""))


def reach(role: str) -> frozenset[str]:
    """Every endpoint that this role may reach, for a page that shows no button in vain."""
    return frozenset(endpoint for endpoint in NEEDS if may(role, endpoint))


def only_reachable(role: str, alerts: list[Any]) -> list[Any]:
    """The alerts, without the links that would lead this role to a closed door."""
    return [one if _leads_on(role, one.link) else replace(one, link="") for one in alerts]


def _leads_on(role: str, path: str) -> bool:
    try:
        endpoint, _ = current_app.url_map.bind("").match(urlsplit(path).path)
    except HTTPException:
        return False
    return may(role, str(endpoint))
