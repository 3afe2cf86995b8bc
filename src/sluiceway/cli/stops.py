"""`sluiceway pause`, `resume` and `stops`: what is not asked at present, by whose word, and why."""

from __future__ import annotations

import getpass
from enum import StrEnum
from typing import Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, known_provider, opened_store, person_at_terminal
from sluiceway.errors import BadInput


class Scope(StrEnum):
    """What can be paused."""

    ALL = "all"
    PROVIDER = "provider"
    TENANT = "tenant"
    BATCH = "batch"


What = Annotated[Scope, typer.Argument(help="What to stop: everything, or one provider, tenant or batch.")]
Name = Annotated[str | None, typer.Argument(help="Which provider, tenant or batch (the start of its id is enough).")]


@app.command()
def pause(
    what: What,
    name: Name = None,
    reason: Annotated[str | None, typer.Option(help="Why; shown wherever the pause is met.")] = None,
    database: Database = None,
) -> None:
    """Stop new calls everywhere within a second, until `resume`; restarts change nothing about it.

    Calls in flight finish and are accounted for. Work that meets the pause waits; nothing fails. For example:
    `sluiceway pause provider apollo --reason "invoice in question"`.
    """
    from sluiceway.pipeline.gate import Pause
    from sluiceway.pipeline.operate import stop

    with opened_store(database) as store, store.writing.begin() as connection:
        called = _named(connection, what, name)
        stopped = Pause(what.value, called, getpass.getuser(), reason)
        stop(connection, stopped, [called], by=person_at_terminal(), now=store.clock.now())
    typer.echo(stopped.shown())


@app.command()
def resume(what: What, name: Name = None, database: Database = None) -> None:
    """Let go on what was paused; for a provider, also close its breaker, so that it is asked again at once."""
    from sluiceway.pipeline.operate import go_on

    with opened_store(database) as store, store.writing.begin() as connection:
        called = _named(connection, what, name)
        lifted, closed = go_on(connection, what.value, called, by=person_at_terminal(), now=store.clock.now())
    label = f"{what} {called}".strip()
    if not lifted and not closed:
        raise BadInput(f"{label} is not paused; `sluiceway stops` shows what is")
    typer.echo(f"{label} goes on" + ("; its breaker is closed" if closed else ""))


@app.command()
def stops(as_json: AsJson = False, database: Database = None) -> None:
    """Show what is not asked at present: persons' pauses, and providers whose breaker is open, each with its reason."""
    import msgspec

    from sluiceway.cli.screen import console, table
    from sluiceway.pipeline.controls import all_pauses, open_breakers

    with opened_store(database) as store, store.read() as connection:
        paused, broken = all_pauses(connection), open_breakers(connection)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"pauses": paused, "breakers": broken})).decode())
        return
    screen = console()
    if not paused and not broken:
        screen.print("Nothing is stopped.")
    if paused:
        made = table("Paused by persons", "what", "which", "by", "reason", left=4)
        for pause_ in paused:
            made.add_row(pause_.scope, pause_.name, pause_.paused_by, pause_.reason or "")
        screen.print(made)
    if broken:
        made = table("Open breakers", "provider", "asked again at (UTC)", "reason", left=3)
        for provider, stop in broken.items():
            when = f"{stop.until:%Y-%m-%d %H:%M:%S}" if stop.until else "when it is mended"
            made.add_row(provider, when, stop.reason)
        screen.print(made)


def _named(connection: Any, what: Scope, name: str | None) -> str:
    """Return the whole name of what is meant; one that is misspelt would stop nothing."""
    if what is Scope.ALL:
        if name is not None:
            raise BadInput("`all` has no name: it is everything")
        return ""
    if name is None:
        raise BadInput(f"which {what}? For example: sluiceway pause {what} NAME")
    if what is Scope.PROVIDER:
        return known_provider(name)
    if what is Scope.BATCH:
        from sluiceway.pipeline.batch import batch_id_of

        return batch_id_of(connection, name)
    return name
