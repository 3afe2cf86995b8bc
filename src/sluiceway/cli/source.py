"""`sluiceway source`: which sources there are, whether their keys work, and how they read a payload."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import (
    AsJson,
    Database,
    SandboxUrl,
    Sources,
    existing,
    for_target,
    names_in,
    sandbox_target,
    settings_from,
)

if TYPE_CHECKING:
    from sluiceway.app import App, Target
    from sluiceway.pipeline.caller import Caller
    from sluiceway.settings import Settings
    from sluiceway.sources import Source

sources_app = typer.Typer(no_args_is_help=True, help="Look at the sources and their keys.", rich_markup_mode=None)
app.add_typer(sources_app, name="source")


@sources_app.command("list")
def list_sources(as_json: AsJson = False) -> None:
    """List the installed sources: what each finds, what it costs at most, how fast it may be asked, and its key."""
    import msgspec

    from sluiceway.cli.screen import console, credits_text, dollars_text, table
    from sluiceway.sources import all_sources

    settings = settings_from()
    rows = [_described(kind, settings) for kind in all_sources().values()]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"sources": rows})).decode())
        return
    made = table("Sources", "source", "key", "at most, per prospect", "finds", "pace", left=4)
    for row in rows:
        pools = ", ".join(f"{credits_text(n)} {pool}" for pool, n in row["price"]["credits"].items())
        price = " · ".join(filter(None, (pools and f"{pools} credits", dollars_text(row["price"]["usd_micros"]))))
        key = f"{row['variable']} {'set' if row['ready'] else 'not set'}" if row["variable"] else "none needed"
        made.add_row(row["name"], key, price, ", ".join(row["finds"]), f"{row['pace']:g}/s")
    made.columns[1].no_wrap = False
    console().print(made)


def _described(kind: type[Source], settings: Settings) -> dict[str, Any]:
    price = kind().price(settings.want)
    return {
        "name": kind.name,
        "provider": kind.provider,
        "title": kind.title,
        "finds": list(kind.finds),
        "price": {"credits": price.credits, "usd_micros": price.usd_micros},
        "pace": settings.pace.get(kind.name, kind.pace),
        "variable": kind.needs.variable if kind.needs else None,
        "hint": kind.needs.hint if kind.needs else None,
        "ready": kind.needs is None or bool(settings.credential(kind.needs.variable)),
        "docs_url": kind.docs_url,
    }


@sources_app.command()
def check(
    sources: Sources = None, sandbox_url: SandboxUrl = None, as_json: AsJson = False, database: Database = None
) -> None:
    """Prove every key by a call that costs nothing, or say that the provider has none.

    Such calls are in the ledger too; they are free and belong to no prospect.

    Exits with 1 when a key that is set is refused.
    """
    import msgspec

    from sluiceway.app import Target
    from sluiceway.cli.screen import console, table

    target = sandbox_target(sandbox_url) if sandbox_url else Target()
    settings = for_target(settings_from(database_url=database), target)
    checked = asyncio.run(_check_all(settings, names_in(sources), target))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"sources": checked})).decode())
    else:
        made = table("Keys", "source", "key", "what happened", left=3)
        for name, (verdict, said) in checked.items():
            made.add_row(name, verdict, said)
        console().print(made)
    raise typer.Exit(1 if any(verdict == "refused" for verdict, _ in checked.values()) else 0)


async def _check_all(settings: Settings, names: list[str] | None, target: Target) -> dict[str, tuple[str, str]]:
    from sluiceway.app import opened

    said: list[str] = []
    async with opened(settings, names=names, target=target, tell=said.append) as app:
        caller = app.caller()
        return {name: await _check(app, caller, source) for name, source in app.sources.items()}


async def _check(app: App, caller: Caller, source: Source) -> tuple[str, str]:
    """Ask once, with a row in the ledger as for every request."""
    from sluiceway.pipeline.caller import Budget
    from sluiceway.pipeline.gate import Exhausted, Held
    from sluiceway.pipeline.turns import Behalf
    from sluiceway.prospect import Person
    from sluiceway.sources import Subject

    if reason := app.unusable.get(source.name):
        return "missing", reason
    request = source.check()
    if request is None:
        return "not checked", f"{source.title} has no call that proves a key and costs nothing"
    nobody = Subject(Person(), (), app.store.clock.now().date())
    try:
        obtained = await caller.obtain(source, nobody, request, Behalf("check"), Budget(unknowns=0), patient=False)
    except (Held, Exhausted) as reason_why:
        return "not checked", str(reason_why)
    await app.writer.put(obtained.finish)
    reading = obtained.reading
    if reading.status == "complete":
        return "works", f"HTTP {obtained.finish.http_status} from {request.endpoint}"
    refused = reading.status in ("unauthorized", "quota_exceeded")
    return ("refused" if refused else "no answer"), reading.error or "no reason given"


@sources_app.command()
def read(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source that would read it.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A saved answer of that provider, as it came.")],
    status: Annotated[int, typer.Option(help="The HTTP status it came with.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Read a saved provider payload exactly as the source would, and print what it understood.

    For the day a provider changes its shape: save the body of an answer and see what is still read. For edgar, a
    Form 4's XML gives its issuer, owners and transactions, numbers as decimal strings.
    """
    import msgspec

    from sluiceway.errors import Redactor, describe
    from sluiceway.sources import choose

    source = choose([name])[name]()
    try:
        understood = source.read_file(existing(file).read_bytes(), status)
    except Exception as error:  # whatever the payload does to the reader is what the person wants to know
        typer.echo(f"sluiceway: {file} cannot be read as {name}: {describe(error, Redactor())}", err=True)
        raise typer.Exit(2) from None
    encoded = msgspec.json.encode(understood)
    typer.echo((encoded if as_json else msgspec.json.format(encoded)).decode())
