"""`sluiceway retention run`: take away what was kept for as long as the settings say."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_with_list, print_json

if TYPE_CHECKING:
    from sluiceway.pipeline.retention import Retained
    from sluiceway.store.engine import Store

retention_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Keep nothing longer than was set.")
app.add_typer(retention_app, name="retention")


@retention_app.command("run")
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Erase people whom nobody asked about for SLUICEWAY_KEEP_PEOPLE_DAYS, and drop old calls, whose sums stay.

    Calls go by whole UTC days after SLUICEWAY_KEEP_ATTEMPTS_DAYS; such a day is sealed. `sluiceway enrich` does the
    same once a day when it starts. This command also rewrites the store's file after people were erased, so that
    nothing of them is left in its unused parts: about 10 seconds per GB, in which other commands wait.
    """
    from sluiceway.pipeline.retention import in_transactions, keep_of, retain, what_is_due

    with opened_with_list(database) as (store, suppressions, settings):
        keep = keep_of(settings)
        if dry_run:
            _say(what_is_due(store, keep), as_json, "would go")
            return
        gone = retain(store, keep, suppressions, in_transactions(store), by=getpass.getuser())
        rewritten = _rewrite_if_needed(store)
        _say(gone, as_json, "gone", **({} if rewritten is None else {"file_rewritten": rewritten}))


def _rewrite_if_needed(store: Store) -> bool | None:
    """Rewrite the file if somebody was erased since it last was; `None` if nobody was."""
    from sluiceway.rights.erasure import remove_traces, traces_since

    with store.read() as connection:
        since = traces_since(connection)
    return remove_traces(store) if since else None


def _say(what: Retained, as_json: bool, word: str, **more: Any) -> None:
    if as_json:
        said = {"people": what.people, "calls": what.calls, "days": what.days, "documents": what.documents}
        print_json({**said, **more})
        return
    days = f" ({what.days[0]} to {what.days[-1]}, UTC)" if what.days else ""
    typer.echo(
        f"{word}: {what.people:,} people, {what.calls:,} calls{days}, {what.documents:,} shared documents; sums stay"
    )
    if more.get("file_rewritten") is False:
        typer.echo("The store is in use, so its log could not be emptied; run this again when it is not.")
