"""`sluiceway usage reconcile`: whether every figure is the same wherever it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sluiceway.cli.options import AsJson, Database, reading_settings, store_of
from sluiceway.cli.usage.group import usage_group
from sluiceway.errors import TryLater

if TYPE_CHECKING:
    from sluiceway.settings import Settings
    from sluiceway.store.engine import Store
    from sluiceway.usage.reconcile import Change, Drift, Line, Reconciliation

_LINES_SHOWN = 15
_PUBLISHED_WITHIN_S, _LOOK_AGAIN_S = 12.0, 0.5
"""While calls keep coming, counters follow the store within ten seconds; one that differs for longer is wrong."""


@usage_group.command("reconcile")
def reconcile(
    days: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the last N UTC days, today included. Default: everything."),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Fold anew from the ledger what differs, and publish it again.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Also exit with 1 if a provider counted calls that Sluiceway did not make.")
    ] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Hold every figure against the ledger.

    By provider and UTC day: the daily totals, the rollups, the counters in Redis and the providers' own meters. Exits
    with 1 if anything differs, or if Redis is set and does not answer.

    A meter is compared between two of its readings. Calls whose charge is unknown or open, and calls in flight at a
    reading, may be counted there or not; times in which the provider's window turned are not compared. What a provider
    counted beyond that was used outside Sluiceway; it is shown, and is a difference with --strict only.
    """
    from datetime import timedelta

    import msgspec

    with _kept(database) as kept:
        since = (kept.store.clock.now().date() - timedelta(days=days - 1)).isoformat() if days else ""
        found = _look(kept, since)
        changes = _mend(kept, found) if fix else []
        if changes:
            found = _look(kept, since)
    if as_json:
        said = {
            "drift": found.drifts, "changes": changes, "since": found.since or None, "horizon": found.horizon,
            "counters_compared": found.counters_compared, "lines": found.lines,
            "figures": found.figures,
        }  # fmt: skip
        typer.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
    else:
        _show(found, changes)
    if found.drifts or kept.silent or (strict and found.outside):
        raise typer.Exit(1)


class _Kept(NamedTuple):
    """Where figures are kept: the store, and a client of Redis, `None` where none is set or it is `silent`."""

    store: Store
    client: Any
    prefix: str
    silent: bool


@contextmanager
def _kept(database: str | None) -> Iterator[_Kept]:
    from sluiceway.usage.on_redis import connected

    settings = reading_settings(database)
    silent = bool(settings.redis_url.get_secret_value()) and not _answers(settings)
    has_redis = bool(settings.redis_url.get_secret_value()) and not silent
    with store_of(settings) as store, connected(settings) if has_redis else nullcontext() as client:
        yield _Kept(store, client, settings.usage_key_prefix, silent)


def _answers(settings: Settings) -> bool:
    """Tell whether Redis answers; where it does not, everything else can be compared all the same."""
    from sluiceway.usage.on_redis import connected

    try:
        with connected(settings) as client:
            client.ping()
    except TryLater as error:
        typer.echo(f"sluiceway: {error}: its counters are not compared", err=True)
        return False
    return True


def _look(kept: _Kept, since: str) -> Reconciliation:
    """Compare, and go on looking while only counters differ: they follow the store within seconds."""
    import time

    give_up = time.monotonic() + _PUBLISHED_WITHIN_S
    while True:
        found = _compare(kept, since)
        drifts = [drift for line in found.drifting for drift in line.drifts]
        lagging = (
            bool(drifts)
            and not found.figures
            and all(drift.where == "counter" and not drift.foreign for drift in drifts)
        )
        if not lagging or time.monotonic() > give_up:
            return found
        time.sleep(_LOOK_AGAIN_S)


def _compare(kept: _Kept, since: str) -> Reconciliation:
    from sluiceway.usage.reconcile import counters_in
    from sluiceway.usage.reconcile import reconcile as compare

    read = None if kept.client is None else counters_in(kept.client, kept.prefix)
    with kept.store.read() as connection:
        return compare(connection, kept.store.clock.now(), since, read)


def _mend(kept: _Kept, found: Reconciliation) -> list[Change]:
    from sluiceway.store.facts import identify
    from sluiceway.usage.on_redis import Published, publish
    from sluiceway.usage.reconcile import fix

    with kept.store.writing.begin() as connection:
        published = Published(identify(connection), kept.prefix)
        changes = fix(connection, found)
    if kept.client is not None and changes:
        publish(kept.store, published, kept.client)
        for sentence in published.news():
            typer.echo(sentence, err=True)
    return changes


def _show(found: Reconciliation, changes: list[Change]) -> None:
    from sluiceway.cli.screen import console, table

    screen = console()
    for change in changes:
        was = "nothing" if change.was is None else f"{change.was:,}"
        screen.print(f"mended {change.provider} {change.day}, {change.where}: {change.figure} {was} → {change.now:,}")
    latest = {id(line) for line in found.lines[-_LINES_SHOWN:]}
    lines = [line for line in found.lines if line.drifts or id(line) in latest]
    counters = ("counter",) if found.counters_compared else ()
    made = table(
        "Counted calls by provider and UTC day, as each store has them",
        "provider", "day", "ledger", "daily total", "rollup", *counters, "unknown", "open", "their meter", "", left=2,
    )  # fmt: skip
    for line in lines:
        made.add_row(*_cells(line, with_counter=found.counters_compared))
    screen.print(made if lines else "No calls yet. `sluiceway demo` makes some that cost nothing.")
    for line in found.drifting:
        for drift in line.drifts:
            screen.print(f"{line.provider} {line.day}: {_words(drift)}")
    for one in found.figures[:_LINES_SHOWN]:
        held = "is missing" if one.found is None else f"is {one.found:,}"
        screen.print(f"{one.table} {one.day}, {one.key}: {one.figure} {held}, and it is {one.should_be:,}")
    screen.print(_verdict(found))


def _cells(line: Line, *, with_counter: bool) -> list[str]:
    counts = [None if line.sealed else line.ledger, line.total, line.rollup]
    counts += [line.counter] if with_counter else []
    marks = "drift" if line.drifts else "sealed" if line.sealed else "ok"
    return [
        line.provider, line.day, *("" if n is None else f"{n:,}" for n in counts),
        str(line.unknown or "·"), str(line.open or "·"), _meters(line), marks,
    ]  # fmt: skip


def _meters(line: Line) -> str:
    from sluiceway.cli.screen import amount_text

    said = []
    for metered in line.meters:
        off = f" ({amount_text(metered.outside, metered.unit)} outside)" if metered.outside else ""
        said.append(f"{metered.meter}: {amount_text(metered.theirs, metered.unit)}{off}")
    if said and line.near_midnight:
        said.append(f"{line.near_midnight:,} at midnight")
    return "; ".join(said)


def _words(drift: Drift) -> str:
    found = "is missing" if drift.found is None else f"is {drift.found:,}"
    if drift.foreign:
        return f"counter {found}, and Sluiceway wrote none; `sluiceway usage adopt` books what another job counted"
    whose = "surely" if drift.where == "meter" else "by the ledger"
    return f"{drift.where}, {drift.figure}: {found}, and it is {drift.should_be:,} {whose}"


def _verdict(found: Reconciliation) -> str:
    without = "" if found.counters_compared else " (No Redis is set, so no counters were compared.)"
    if not found.drifts:
        return f"No drift.{without}"
    mendable = bool(found.figures) or any(drift.mendable for line in found.drifting for drift in line.drifts)
    what_to_do = " `sluiceway usage reconcile --fix` folds the sums anew." if mendable else ""
    lines = "1 line" if len(found.drifting) == 1 else f"{len(found.drifting):,} lines"
    figures = f" and in {len(found.figures):,} other sums" if found.figures else ""
    return f"Drift on {lines}{figures}.{what_to_do}{without}"
