"""`sluiceway alert`: where operators are told what needs a look."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import (
    AsJson,
    Database,
    opened_store,
    person_at_terminal,
    print_json,
    reading_settings,
    store_of,
)
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluiceway.hooks.alert_receivers import AlertReceiver
    from sluiceway.hooks.letter import Reply
    from sluiceway.settings import Settings
    from sluiceway.store.engine import Store

alerts_app = typer.Typer(
    no_args_is_help=True,
    help="Be told when a limit is reached, a key refused, a provider stopped, or the books do not agree.",
    rich_markup_mode=None,
)
app.add_typer(alerts_app, name="alert")


class Form(StrEnum):
    """What a receiver takes."""

    JSON = "json"
    TEXT = "text"


Named = Annotated[str, typer.Argument(help="The receiver's name or id, as `sluiceway alert list` shows them.")]


@alerts_app.command("add")
def add(
    url: Annotated[str, typer.Argument(help="Where to send: an address of yours, or a chat room's incoming webhook.")],
    name: Annotated[str, typer.Option(help="What you call it; its host by default.")] = "",
    form: Annotated[
        Form | None,
        typer.Option(help="Signed JSON, or the text that Slack, Teams and Discord show. Guessed from the host."),
    ] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Have a receiver told from now on, and print the secret that signs what it is sent, once.

    The address is sealed: whoever knows a chat room's can write into it. `sluiceway serve` looks and tells; try it
    with `sluiceway alert test`.
    """
    from sluiceway.hooks.address import allowed_by, checked_url
    from sluiceway.hooks.alert_receivers import Form as Known
    from sluiceway.hooks.alert_receivers import add_alert_receiver
    from sluiceway.store.secret import secret_key

    settings = reading_settings(database)
    checked = checked_url(url, allowed_by(settings.webhook_allow))
    chosen = Known(form.value) if form else None
    with store_of(settings) as store:
        key = secret_key(settings.secret_key.get_secret_value(), settings.database_url, make=True)
        by, now = person_at_terminal(), store.clock.now()
        with store.change() as connection:
            made = add_alert_receiver(connection, checked, name, chosen, key, by=by, now=now)
    if as_json:
        print_json({"receiver": made.receiver, "secret": made.secret})
        return
    typer.echo(made.secret)
    told = f"{made.receiver.name} ({made.receiver.shown_url}) is told as {made.receiver.form}"
    typer.echo(f"({told}; the secret above signs it and is not shown again)", err=True)


@alerts_app.command("list")
def list_(as_json: AsJson = False, database: Database = None) -> None:
    """List the receivers, with their addresses shortened, and what is raised now."""
    from sluiceway.alerts.alarms import open_alarms
    from sluiceway.cli.screen import console, table
    from sluiceway.hooks.alert_receivers import alert_receivers

    with opened_store(database) as store, store.read() as connection:
        found, raised = alert_receivers(connection), open_alarms(connection)
    if as_json:
        print_json({"receivers": found, "raised": raised})
        return
    made = table("Told of alarms", "name", "form", "address", "since (UTC)", "by", "id", left=6)
    for each in found:
        made.add_row(each.name, each.form, each.shown_url, each.created_at[:10], each.created_by, each.id)
    console().print(made if found else "Nobody is told. `sluiceway alert add URL` changes that.")
    for alarm in raised:
        typer.echo(f"raised since {alarm.raised_at[:16]}Z: {alarm.said}")


@alerts_app.command("remove")
def remove(named: Named, as_json: AsJson = False, database: Database = None) -> None:
    """Tell a receiver nothing any more, and forget its address."""
    from sluiceway.hooks.alert_receivers import alert_receiver, remove_alert_receiver

    with opened_store(database) as store, store.change() as connection:
        gone = alert_receiver(connection, named)
        remove_alert_receiver(connection, gone.id, by=person_at_terminal(), now=store.clock.now())
    if as_json:
        print_json({"receiver": gone})
    else:
        typer.echo(f"{gone.name} is told nothing any more")


@alerts_app.command("test")
def try_out(
    named: Annotated[str | None, typer.Argument(help="One receiver's name or id; all of them by default.")] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Send a test to the receivers now, once, and print what came back. No server needs to run."""
    from sluiceway.hooks.alert_receivers import alert_receiver, alert_receivers

    settings = reading_settings(database)
    with store_of(settings) as store:
        with store.read() as connection:
            asked = [alert_receiver(connection, named)] if named else alert_receivers(connection)
        if not asked:
            raise BadInput("there is nobody to try; `sluiceway alert add URL` comes first")
        replies = asyncio.run(_try_out(store, settings, asked))
    if as_json:
        print_json({"tests": [{"name": each.name, "reply": reply} for each, reply in replies]})
    else:
        for each, reply in replies:
            typer.echo(f"{each.name}: {_in_words(reply)}")
    if not all(reply.is_delivered for _, reply in replies):
        raise typer.Exit(1)


async def _try_out(
    store: Store, settings: Settings, receivers: Sequence[AlertReceiver]
) -> list[tuple[AlertReceiver, Reply]]:
    """Send each receiver a test, and keep in the log what came back."""
    from sluiceway.hooks.address import allowed_by
    from sluiceway.hooks.deliveries import To, keep_ping, ping_for
    from sluiceway.hooks.door import send
    from sluiceway.hooks.letters import letter_to_operators
    from sluiceway.store.secret import secret_key

    allowed = allowed_by(settings.webhook_allow)
    key = secret_key(settings.secret_key.get_secret_value(), settings.database_url)
    tried = []
    for each in receivers:
        ping = ping_for(To.ALERT, each.id, None, store.clock.stamp())
        with store.read() as connection:
            letter = letter_to_operators(connection, ping, key)
        reply = await send(letter, allowed)
        with store.change() as connection:
            keep_ping(connection, ping, reply, store.clock.stamp())
        tried.append((each, reply))
    return tried


def _in_words(reply: Reply) -> str:
    return f"delivered (HTTP {reply.http_status})" if reply.is_delivered else f"not delivered: {reply.error}"


@alerts_app.command("log")
def log(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest deliveries.")] = 50,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show what receivers were told, newest first: when, how often it was tried, and what came back."""
    from sluiceway.cli.screen import console, table
    from sluiceway.hooks.alert_receivers import alert_receivers
    from sluiceway.hooks.deliveries import alert_log

    with opened_store(database) as store, store.read() as connection:
        names = {each.id: each.name for each in alert_receivers(connection)}
        found = alert_log(connection, limit)
    if as_json:
        print_json({"deliveries": found})
        return
    made = table("Deliveries", "made (UTC)", "receiver", "state", "what", "last answer", "tries", left=5)
    for each in found:
        came = each.error or (f"HTTP {each.http_status}" if each.http_status else "")
        name = names.get(each.receiver_id, "(removed)")
        at = each.created_at[:19].replace("T", " ")
        what = f"{each.event} {each.target}" if each.event != "ping" else each.event
        made.add_row(at, name, each.state, what, came, str(each.tries))
    console().print(made if found else "Nothing yet.")
