"""The command line: ``flask …``. Each command calls one service and says what came of it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from domain.roles import ROLES


def register(app: Flask) -> None:
    """Hang every command into the app."""
    for command in (
        demo,
        doctor,
        worker,
        clock,
        sync,
        check,
        strategy,
        export,
        replay,
        admin,
        products,
        person,
        storm,
    ):
        app.cli.add_command(command)


def _settings() -> Any:
    """The settings, or the whole list of what is missing and exit 2."""
    return current_app.extensions["settings"]


@contextlib.contextmanager
def _shop() -> Iterator[None]:
    """The configured shop; with no setting at all, the embedded one that is here."""
    import embedded

    if "settings" not in current_app.extensions and embedded.is_meant():
        click.echo("No settings given: this is the embedded shop in instance/.", err=True)
        with embedded.opened():
            yield
        return
    _settings()
    yield


def _say(answer: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(answer) if as_json else text)


@click.command(help="A whole shop with everything embedded: no account, no service, no question.")
@click.option("--port", type=int, default=None, help="The shop's port; another one if it is taken.")
@click.option("--once", is_flag=True, help="Place, pay and print one order by itself, then exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON.")
@click.option(
    "--instance",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    default=None,
    help="The folder that keeps its data; instance/ if left out.",
)
def demo(port: int | None, once: bool, as_json: bool, instance: Path | None) -> None:
    import embedded

    folder = instance or embedded.INSTANCE
    sys.exit(embedded.run_once(as_json, folder) if once else embedded.run(port, folder))


@click.command(help="Look at settings, database, Redis and Stripe, and say what is wrong.")
@click.option("--live", is_flag=True, help="Also look at the webhook endpoint at Stripe.")
@click.option("--json", "as_json", is_flag=True)
def doctor(live: bool, as_json: bool) -> None:
    _settings()
    from services import diagnosis

    findings = diagnosis.examine(live=live)
    lines = [f"{'ok ' if row['ok'] else 'BAD'} {row['name']}: {row['detail']}" for row in findings]
    _say({"findings": findings}, as_json, "\n".join(lines))
    sys.exit(0 if all(row["ok"] for row in findings) else 1)


@click.command(help="Work on the queue until told to stop.")
def worker() -> None:
    _settings()
    from jobs import runner

    runner.work()


@click.command(help="Keep time: sweep, reconcile and purge. A second one waits for the lease.")
def clock() -> None:
    _settings()
    from jobs import schedule

    schedule.tick_forever()


@click.command(help="One reconcile pass: fetch missed events, look at open orders.")
@click.option("--until-quiet", is_flag=True, help="Repeat until nothing waits any more.")
@click.option("--since", default=None, help="Read Stripe's event list from then (ISO 8601).")
@click.option("--json", "as_json", is_flag=True)
def sync(until_quiet: bool, since: str | None, as_json: bool) -> None:
    from services import reconcile

    moment = _moment(since) if since else None
    with _shop():
        run = reconcile.until_quiet if until_quiet else reconcile.sync
        tally = run(since=moment)
    _say(
        tally.as_dict(),
        as_json,
        f"{tally.synced} synced, {tally.failed} failed, {tally.skipped} skipped",
    )


@click.command(help="Prove every invariant, on our side and against Stripe's ledger.")
@click.option("--json", "as_json", is_flag=True)
def check(as_json: bool) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from services import by_hand
    from services import check as proof

    with _shop():
        report = proof.run()
        with contextlib.suppress(SQLAlchemyError):  # what was found is said all the same
            by_hand.remember(report, "flask check")
    _say(report.as_dict(), as_json, report.text())
    sys.exit(0 if report.holds else 1)


@click.command(help="Which strategy the shopper with this address gets next, and why.")
@click.argument("email")
@click.option("--json", "as_json", is_flag=True)
def strategy(email: str, as_json: bool) -> None:
    from services import settings
    from services.addresses import mail_address

    address = mail_address(email.strip())
    if address is None:
        raise click.BadParameter(f"{email[:80]!r} is no e-mail address, like name@example.com")
    with _shop():
        chosen, why = settings.strategy_for(address)
    answer = {"email": address, "strategy": chosen.name, "why": why}
    _say(answer, as_json, f"{address} gets {chosen.name}, because {why}.")


@click.command(help="Everything the shop knows, one object a line.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl")
@click.option("--kind", multiple=True, help="Only these kinds, e.g. order.")
def export(form: str, kind: tuple[str, ...]) -> None:
    from services import export as exporting

    unknown = set(kind) - set(exporting.KINDS)
    if unknown:
        known = ", ".join(exporting.KINDS)
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; known kinds: {known}")
    with _shop():
        for line in exporting.lines(form, kind or tuple(exporting.KINDS)):
            click.echo(line)


@click.command(help="Take up a dead event (evt_…) or effect (receipt:ORDER) again.")
@click.argument("name")
def replay(name: str) -> None:
    from services import inbox, outbox

    with _shop():
        take_up = inbox.replay if name.startswith("evt_") else outbox.replay
        again = take_up(name, "flask replay")
    if not again:
        raise click.BadParameter(f"there is no dead event or effect {name!r}")
    click.echo(f"{name} will be tried again.")


admin = AppGroup("admin", help="People who run the shop.")


@admin.command("create", help="Let EMAIL in, as an admin, and print a one-time sign-in link.")
@click.argument("email")
@click.option(
    "--role",
    type=click.Choice(tuple(ROLES)),
    default=None,
    help="What they may do. Left out: admin, or the role that they have already.",
)
@click.option(
    "--reset-totp", is_flag=True, help="Forget their second factor, as after a lost phone."
)
def admin_create(email: str, role: str | None, reset_totp: bool) -> None:
    from services import auth

    with _shop():
        link = auth.create_link(email.strip().lower(), role, reset_totp=reset_totp)
        click.echo(_settings().public_origin + link)


products = AppGroup("products", help="What is for sale.")


@products.command("import", help="Add or change goods from a CSV file, all of it or nothing.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def products_import(file: Path) -> None:
    from services import goods_file

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"{file.name} is not UTF-8 text; nothing was imported."
        ) from error
    with _shop():
        try:
            done = goods_file.read(text)
        except goods_file.BadFile as bad:
            raise click.ClickException(f"nothing was imported.\n{bad.message}") from bad
    click.echo(f"{done.new} new, {done.changed} changed")


@products.command("sync", help="Take over what the catalogue lists that CATALOGUE names, now.")
def products_sync() -> None:
    from domain.errors import ShopError
    from services import foreign_goods

    with _shop():
        try:
            done = foreign_goods.sync()
        except ShopError as error:
            raise click.ClickException(f"{error.headline}.\n{error.message}") from error
    click.echo(
        f"{done.new} new, {done.changed} changed, {done.archived} archived, "
        f"{done.brought_back} brought back"
    )


person = AppGroup("person", help="A person's own data, by e-mail address.")


@person.command("export", help="Everything kept about EMAIL, one JSON object a line.")
@click.argument("email")
def person_export(email: str) -> None:
    from services import people

    with _shop():
        for row in people.export(email.strip()):
            click.echo(json.dumps(row, ensure_ascii=False))


@person.command("erase", help="Forget EMAIL; orders and payments stay, without the person.")
@click.argument("email")
def person_erase(email: str) -> None:
    from services import erasure

    with _shop():
        done = erasure.erase(email)
    click.echo(
        f"{done.orders} orders, {done.attempts} checkouts, {done.mails} mails and {done.events} "
        "events forgot the person"
    )
    for subscription in done.running:
        click.echo(f"cancel first, it still charges: {subscription}", err=True)
    if done.still_open:
        click.echo(f"{done.still_open} still under way: run it again when they are over", err=True)
    if not done.file_is_clean:
        click.echo("the database was busy, and its file may hold remains: run it again", err=True)
    if done.still_open or done.running or not done.file_is_clean:
        sys.exit(1)


@click.command(help="Shop through crashes, faults and races, on a virtual clock; exit 1 if broken.")
@click.option("--seed", type=int, default=1, help="The first seed; the same seed replays exactly.")
@click.option("--seeds", type=click.IntRange(1), default=1, help="How many seeds.")
@click.option("--checkouts", type=click.IntRange(1), default=30, help="In each of them.")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes that share the seeds.")
@click.option("--strategy", default="mixed", help="One of them; mixed: switched while it storms.")
@click.option("--json", "as_json", is_flag=True)
def storm(seed: int, seeds: int, checkouts: int, jobs: int, strategy: str, as_json: bool) -> None:
    from storm.report import main
    from storm.world import WAYS_TO_SELL

    if strategy not in WAYS_TO_SELL:
        raise click.BadParameter(f"{strategy!r}; known: {', '.join(WAYS_TO_SELL)}")
    code = main(
        seed=seed, seeds=seeds, checkouts=checkouts, jobs=jobs, strategy=strategy, as_json=as_json
    )
    sys.exit(code)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time, like 2026-11-20T14:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
