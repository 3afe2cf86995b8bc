"""`sluiceway demo`: the whole thing in a few seconds, with no keys and nothing to pay."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from sluiceway.file_enrichment import FileEnrichment
    from sluiceway.sandbox.process import SandboxProcess
    from sluiceway.store.engine import Store

PEOPLE, TENANTS, SEED = 320, 6, 0
_STORE = "demo.db"


@app.command()
def demo(
    people: Annotated[
        Path | None, typer.Argument(metavar="[PEOPLE.CSV]", help="People of the sandbox's world. Default: 320 of them.")
    ] = None,
    into: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the demo's store and files go; they are made anew.")
    ] = Path("sluiceway-demo"),
    scenario: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What goes wrong: a scenario of the sandbox.")
    ] = "demo",
) -> None:
    """Enrich 320 invented people against a sandbox with some faults switched on, and settle the bill with its meter.

    Needs no keys and no network, spends nothing, and leaves a store and an enriched file to look at.
    """
    from sluiceway.cli.screen import console
    from sluiceway.sandbox.process import SandboxProcess, SandboxStartError

    screen = console()
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob(f"{_STORE}*"):
        if old.is_file():
            old.unlink()
    source = people or _write_people(into / "prospects.csv")
    try:
        with SandboxProcess(seed=SEED, scenario=scenario) as sandbox:
            raise typer.Exit(asyncio.run(_run(source, into, sandbox, screen)))
    except SandboxStartError as error:
        raise BadInput(str(error)) from error


def _write_people(path: Path) -> Path:
    from sluiceway.sandbox.people import people_csv

    path.write_text("".join(people_csv(PEOPLE, seed=SEED, tenants=TENANTS)), encoding="utf-8", newline="")
    return path


async def _run(source: Path, into: Path, sandbox: SandboxProcess, screen: Console) -> int:
    from sluiceway.app import opened
    from sluiceway.cli.options import sandbox_target
    from sluiceway.file_enrichment import FileEnrichment, Options
    from sluiceway.people_file import PeopleFile

    target = sandbox_target(sandbox.url)
    out = into / "enriched.csv"
    people = PeopleFile.open(source)
    screen.print(f"Enriching {source} against a sandbox of all five providers, with some faults switched on.\n")
    async with opened(_settings(into), names=None, target=target, tell=_sayer(screen)) as app:
        job = FileEnrichment(app, people, out, Options())
        await _enrich(job, screen)
        _summary(job, app.store, sandbox, screen)
        _next_steps(app.store, into, out, screen)
    return 0


def _settings(into: Path) -> Any:
    from sluiceway.cli.options import settings_from

    # No Redis: readers of the public counters must not meet an invented world there.
    return settings_from(database_url=f"sqlite:///{(into / _STORE).as_posix()}", concurrency=100, redis_url="")


def _sayer(screen: Console) -> Any:
    return lambda sentence: screen.print(f"  {sentence}")


async def _enrich(job: FileEnrichment, screen: Console) -> None:
    import time

    from sluiceway.cli.screen import Follow

    started = time.monotonic()
    taken = await job.take_in(lambda rows: None)
    with Follow(screen, taken.prospects) as follow:
        tally = await job.run(follow.on_source, follow.on_prospect)
    await job.write(tally)
    took = time.monotonic() - started
    screen.print(
        f"{taken.rows:,} rows, {taken.prospects:,} people, {took:.1f} s, {taken.prospects / took:,.0f} people/s"
    )


def _summary(job: FileEnrichment, store: Store, sandbox: SandboxProcess, screen: Console) -> None:
    from sluiceway.cli.screen import milliseconds_text, outcomes_table, spend_table
    from sluiceway.usage.meter import Metered, drift
    from sluiceway.usage.spend import outcomes_by_source, speed_by_source, spend_by_provider

    batch_id = job.batch.id if job.batch else None
    with store.read() as connection:
        outcomes = outcomes_by_source(connection, batch_id)
        spends = spend_by_provider(connection)
        speeds = speed_by_source(connection)
    screen.print()
    screen.print(outcomes_table(outcomes))
    screen.print(spend_table(spends))
    if speeds:
        slowest = max(speeds, key=lambda source: speeds[source].p95_us)
        speed = speeds[slowest]
        screen.print(
            f"Slowest source: {slowest}, half of its answers within {milliseconds_text(speed.median_us)}, "
            f"19 of 20 within {milliseconds_text(speed.p95_us)}."
        )
    meter = sandbox.meter()
    meters = {name: Metered(m["requests"], m["billed"]) for name, m in meter["providers"].items()}
    left = drift(spends, meters, meter["repeated_requests"])
    sent = sum(spend.attempts - spend.not_sent for spend in spends.values())
    unknown = sum(spend.unknown + spend.open for spend in spends.values())
    requests = sum(metered.requests for metered in meters.values())
    line = f"sandbox meter {requests:,} calls · ledger {sent:,} · unknown {unknown:,} · drift {left:,}"
    screen.print(f"\n{line}", style="bold green" if left == 0 else "bold red")
    if left:
        raise BadInput("the ledger and the sandbox's meter do not agree; please report this with the demo's folder")


def _next_steps(store: Store, into: Path, out: Path, screen: Console) -> None:
    from sluiceway.pipeline.timeline import latest_runs

    with store.read() as connection:
        run_id = latest_runs(connection, 1)[0].run_id
    url = f"sqlite:///{(into / _STORE).as_posix()}"
    screen.print(
        "\nUnknown calls may have been billed: their answer was lost on the way, so they are neither zero nor a guess."
        "\n\nNext:"
        f"\n  {out}  what was found, one row per input row"
        f"\n  sluiceway usage --database {url}"
        f"\n  sluiceway run show {run_id} --database {url}"
        "\n  sluiceway source list  which keys your own file needs; then: sluiceway enrich people.csv -o enriched.csv",
        soft_wrap=True,
    )
