"""`sluiceway run show`: one prospect's enrichment, source by source and call by call."""

from __future__ import annotations

from typing import Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, reading_settings
from sluiceway.errors import BadInput

runs_app = typer.Typer(no_args_is_help=True, help="Look at single enrichments.", rich_markup_mode=None)
app.add_typer(runs_app, name="run")


@runs_app.command("show")
def show(
    run_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="A run's id, or a prospect's for its last run; the start of one is enough."),
    ],
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show the timeline of one run: every source's outcome, and every request with its charge and latency."""
    import msgspec

    from sluiceway.pipeline.timeline import timeline
    from sluiceway.store.engine import open_store

    store = open_store(reading_settings(database).database_url)
    try:
        with store.read() as connection:
            found = timeline(connection, run_id)
    finally:
        store.close()
    if found is None:
        raise BadInput(f"no run or prospect begins with {run_id!r}")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    _show(found)


@runs_app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the latest runs.")] = 20,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """List the latest runs, newest first, with the ids that `run show` takes."""
    import msgspec

    from sluiceway.pipeline.timeline import latest_runs
    from sluiceway.store.engine import open_store

    store = open_store(reading_settings(database).database_url)
    with store.read() as connection:
        found = latest_runs(connection, limit)
    store.close()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    from sluiceway.cli.screen import console, table

    made = table("Latest runs", "run", "opened (UTC)", "tenant", "prospect", "status", left=5)
    for run in found:
        made.add_row(run.run_id, run.opened_at, run.tenant_id, run.name, run.status)
    console().print(made if found else "No runs yet. `sluiceway demo` makes some that cost nothing.")


def _show(found: object) -> None:
    from sluiceway.cli.screen import console, credits_text, dollars_text, milliseconds_text, table
    from sluiceway.pipeline.timeline import Timeline

    assert isinstance(found, Timeline)  # noqa: S101 - imported here so that `--help` does not load the store
    screen = console()
    screen.print(f"run {found.run_id} · {found.status} · {found.name} · tenant {found.tenant_id}")
    screen.print(f"opened {found.opened_at} · closed {found.closed_at or 'not yet'}")
    results = table("Source results", "source", "status", "closed (UTC)", "error or reason", left=4)
    for result in found.results:
        results.add_row(result.source, result.status, result.closed_at or "", result.error or "")
    screen.print(results)
    calls = table("Calls", "begun (UTC)", "source", "endpoint", "HTTP", "charge", "took", "credits", "dollars", left=3)
    for call in found.calls:
        calls.add_row(
            call.begun_at,
            call.source,
            call.endpoint,
            str(call.http_status or ""),
            call.charge or "open",
            milliseconds_text(call.latency_us) if call.latency_us is not None else "",
            credits_text(call.milli_credits) if call.charge else "",
            dollars_text(call.usd_micros) if call.charge else "",
        )
    screen.print(calls)
