"""`sluiceway source meter` and `sluiceway usage meters`: what providers themselves say, and ours beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli.options import (
    AsJson,
    Database,
    SandboxUrl,
    for_target,
    opened_store,
    sandbox_target,
    settings_from,
)
from sluiceway.cli.source import sources_app
from sluiceway.cli.usage import usage_group

if TYPE_CHECKING:
    from sluiceway.app import App, Target
    from sluiceway.pipeline.meter_reader import MeterReader
    from sluiceway.settings import Settings
    from sluiceway.sources import Source
    from sluiceway.store.engine import Store
    from sluiceway.usage.provider_meter import Beside, MeterRow, Stretch

HOURS = 24
"""How far back ours are compared with theirs."""


@sources_app.command()
def meter(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this source. Default: all that are installed.")
    ] = None,
    sandbox_url: SandboxUrl = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Read what the providers' own meters say now, and show it beside what the ledger has.

    Asking costs nothing, and is in the ledger as free calls. Not every provider can be asked: of the others the last
    answer that told is shown. Over the last 24 hours, what a meter lost and the ledger did not spend was used outside
    Sluiceway. Calls in flight while a meter was read, and unknown ones, may be on either side: then there is a range.

    Exits with 1 when a meter that was asked for could not be read.
    """
    from sluiceway.app import Target

    target = sandbox_target(sandbox_url) if sandbox_url else Target()
    settings = for_target(settings_from(database_url=database), target)
    troubles, besides = asyncio.run(_read_now(settings, [name] if name else None, target))
    _print(besides, troubles, as_json=as_json)
    raise typer.Exit(1 if any(trouble["asked"] for trouble in troubles) else 0)


@usage_group.command()
def meters(as_json: AsJson = False, database: Database = None) -> None:
    """Show what the providers' own meters said last, beside what the ledger has. Nothing is asked.

    `sluiceway source meter` reads them now.
    """
    with opened_store(database) as store:
        besides = _looked_up(store)
    _print(besides, [], as_json=as_json)


async def _read_now(
    settings: Settings, names: list[str] | None, target: Target
) -> tuple[list[dict[str, Any]], list[Beside]]:
    from sluiceway.app import opened

    said: list[str] = []
    async with opened(settings, names=names, target=target, tell=said.append) as app:
        reader = app.meter_reader()
        troubles = [trouble for source in app.sources.values() for trouble in await _ask(app, reader, source)]
        await reader.store()
        await reader.compare()
        providers = {source.provider for source in app.sources.values()}
        return troubles, [beside for beside in _looked_up(app.store) if beside.theirs.provider in providers]


async def _ask(app: App, reader: MeterReader, source: Source) -> list[dict[str, Any]]:
    """Ask one source for its meters, and return what stood in the way."""
    from sluiceway.pipeline.gate import Exhausted, Held

    if not source.meter_requests(app.store.clock.now().date()):
        return []
    if reason := app.unusable.get(source.name):
        return [{"source": source.name, "error": reason, "asked": False}]
    try:
        readings = await reader.read(source)
    except (Held, Exhausted) as reason_why:
        return [{"source": source.name, "error": str(reason_why), "asked": False}]
    return [
        {"source": source.name, "error": reading.error or "no figures", "asked": True}
        for reading in readings
        if reading.status != "complete"
    ]


def _looked_up(store: Store) -> list[Beside]:
    from datetime import timedelta

    from sluiceway.outcome import timestamp
    from sluiceway.usage.provider_meter import side_by_side

    now = store.clock.now()
    with store.read() as connection:
        return side_by_side(connection, timestamp(now - timedelta(hours=HOURS)), timestamp(now))


def _print(besides: list[Beside], troubles: list[dict[str, Any]], *, as_json: bool) -> None:
    import msgspec

    if as_json:
        answer = {"meters": [_as_json(beside) for beside in besides], "troubles": troubles}
        typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    from sluiceway.cli.screen import console

    screen = console()
    if besides:
        _show(besides, screen)
    elif not troubles:
        screen.print("No provider has said anything of its meters yet. `sluiceway source meter` asks them.")
    told = {beside.theirs.error for beside in besides}
    for trouble in troubles:
        if trouble["error"] not in told:
            screen.print(f"{trouble['source']}: {'not read' if trouble['asked'] else 'not asked'}: {trouble['error']}")


def _as_json(beside: Beside) -> dict[str, Any]:
    theirs, compared, ours = beside.theirs, beside.compared, beside.compared.ours
    names = "provider meter unit used amount remaining resets_at read_at origin error".split()
    return {
        **{name: getattr(theirs, name) for name in names},
        "compared_since": compared.wholes[0].since if compared.wholes else None,
        "lost": compared.lost,
        "ours_least": ours[0] if ours else None,
        "ours_most": ours[1] if ours else None,
        "outside": [_stretch_as_json(stretch) for stretch in compared.outside],
    }


def _stretch_as_json(stretch: Stretch) -> dict[str, Any]:
    outside = {"least": stretch.outside_least, "most": stretch.outside_most}
    return {"since": stretch.since, "until": stretch.until, **outside}


def _show(besides: list[Beside], screen: Any) -> None:
    shown = [beside for beside in besides if _worth_showing(beside)]
    screen.print(_meters_table(shown))
    if compared := [beside for beside in shown if beside.compared.wholes]:
        screen.print(_beside_table(compared))
    for beside in shown:
        for line in _lines(beside):
            screen.print(line)
    if left_out := len(besides) - len(shown):
        screen.print(f"{left_out} meters of which nothing was used are left out; --json has them.")


def _worth_showing(beside: Beside) -> bool:
    theirs = beside.theirs
    return theirs.unit != "requests" or theirs.used != 0 or theirs.error is not None


def _meters_table(besides: list[Beside]) -> Any:
    from sluiceway.cli.screen import table

    made = table("What the providers' own meters say (UTC)", "meter", "used", "of", "left", "resets", "read")
    for theirs in (beside.theirs for beside in besides):
        figures = [_amount(figure, theirs.unit) for figure in (theirs.used, theirs.amount, theirs.remaining)]
        if theirs.error:
            figures[0] = "not told"
        times = (_moment(theirs.resets_at), _moment(theirs.read_at, seconds=True))
        made.add_row(_called(theirs), *figures, *times)
    return made


def _beside_table(besides: list[Beside]) -> Any:
    from sluiceway.cli.screen import table

    title = f"What they lost in the last {HOURS} hours, and how much of it is ours (UTC)"
    made = table(title, "meter", "from", "to", "lost", "ours", "outside")
    for beside in besides:
        unit, compared = beside.theirs.unit, beside.compared
        ours, outside, wholes = compared.ours or (0, 0), compared.outside, compared.wholes
        times = (_moment(wholes[0].since, seconds=True), _moment(wholes[-1].until, seconds=True))
        surely = _range(sum(s.outside_least for s in outside), sum(s.outside_most for s in outside), unit)
        made.add_row(_called(beside.theirs), *times, _amount(compared.lost, unit), _range(*ours, unit), surely)
    return made


def _called(theirs: MeterRow) -> str:
    return f"{theirs.provider}: {theirs.meter}"


def _lines(beside: Beside) -> list[str]:
    """Return sentences: why a meter is not told, and when something was used outside."""
    theirs = beside.theirs
    lines = [f"{theirs.provider} does not tell its {theirs.meter}: {theirs.error}"] if theirs.error else []
    for stretch in beside.compared.outside:
        much = _range(stretch.outside_least, stretch.outside_most, theirs.unit)
        when = f"between {_moment(stretch.since, seconds=True)} and {_moment(stretch.until, seconds=True)} UTC"
        lines.append(f"{_called(theirs)}: {much} used outside Sluiceway {when}")
    return lines


def _amount(figure: int | None, unit: str) -> str:
    from sluiceway.cli.screen import amount_text

    return "·" if figure is None else amount_text(figure, unit)


def _range(least: int, most: int | None, unit: str) -> str:
    if most is None:
        return f"{_amount(least, unit)} or more"
    if least == most:
        return _amount(least, unit) if least else "·"
    return f"{_amount(least, unit)} to {_amount(most, unit)}"


def _moment(stamp: str | None, *, seconds: bool = False) -> str:
    """Show a stored moment without its year."""
    return "·" if stamp is None else stamp[5 : 19 if seconds else 16].replace("T", " ")
