"""`sluiceway prospect`: who is held, what about them, and erasing them."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store, opened_with_list, print_json
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from sluiceway.rights.erasure import Erased
    from sluiceway.rights.lookup import Match
    from sluiceway.rights.report import Report
    from sluiceway.rights.suppression import Suppressions
    from sluiceway.store.engine import Store

prospects_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Find a person, report what is held about them, erase them."
)
app.add_typer(prospects_app, name="prospect")

Who = Annotated[
    str | None,
    typer.Argument(metavar="WHO", help="A prospect's id or its start, your own id of it, an e-mail, or a name."),
]
Email = Annotated[str | None, typer.Option("--email", help="The person's e-mail, as asked or as found.")]
LinkedIn = Annotated[str | None, typer.Option("--linkedin", metavar="URL", help="The person's LinkedIn profile.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's prospects. Default: all.")]


@prospects_app.command()
def find(
    value: Annotated[str, typer.Argument(help="An id or its start, an e-mail, a LinkedIn profile, or a name.")],
    tenant: Tenant = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Find prospects by what was asked about them or what sources found."""
    from sluiceway.rights.lookup import find as find_in

    with opened_store(database) as store, store.read() as connection:
        found = find_in(connection, value, tenant)
    if as_json:
        print_json({"prospects": found})
    elif found:
        _show_matches(found)
    else:
        typer.echo("Nobody like that is held.")


@prospects_app.command()
def report(
    who: Who = None,
    email: Email = None,
    linkedin: LinkedIn = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Say what is held about a person: values and who said so, since when, what for, which calls, which files.

    For the person who asks, and for whoever has to answer. The purpose is what SLUICEWAY_PURPOSE says.
    """
    from sluiceway.rights.report import report as report_on

    with opened_with_list(database) as (store, suppressions, settings), store.read() as connection:
        found = _the_ones(store, who, email, linkedin, tenant)
        said = [report_on(connection, each.prospect_id, settings.purpose, suppressions) for each in found]
    reports = [each for each in said if each is not None]
    if as_json:
        print_json({"reports": reports})
        return
    for each in reports:
        _show_report(each)


@prospects_app.command()
def erase(
    who: Who = None,
    email: Email = None,
    linkedin: LinkedIn = None,
    tenant: Tenant = None,
    keep_asking: Annotated[
        bool, typer.Option("--keep-asking", help="Do not suppress: a later file may have them asked about again.")
    ] = False,
    later: Annotated[
        bool, typer.Option("--later", help="Do not rewrite the store's file now; `retention run` does it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether these are the right people.")] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Erase a person: everything that tells who they are goes, what was spent on them stays as money.

    They are put on the suppression list, as keyed hashes, so that nobody is asked about them again. No sum changes.
    At the end the store's file is rewritten, so that nothing is left in its unused parts: about 10 seconds per GB, in
    which other commands wait.

    Files that were written for you (enriched and rejected rows), backups and logs lie outside the store; the command
    names the backups it knows of.
    """
    with opened_with_list(database) as (store, suppressions, _):
        found = _the_ones(store, who, email, linkedin, tenant)
        _make_sure(found, yes, as_json)
        erased = _erase(store, found, suppressions, suppress=not keep_asking)
        clean = not later and _rewritten(store)
        _say_erased(store, erased, clean, as_json)


def _the_ones(
    store: Store, who: str | None, email: str | None, linkedin: str | None, tenant: str | None
) -> list[Match]:
    """Return who is meant: by e-mail or profile everybody who has it, else one prospect; raises `BadInput`."""
    from sluiceway.rights.lookup import find as find_in

    given = [value for value in (who, email, linkedin) if value]
    if len(given) != 1:
        raise BadInput("say who it is, in one way: an id, a name, --email or --linkedin")
    for option, value, sign in (("--email", email, "@"), ("--linkedin", linkedin, "linkedin.com/")):
        if value and sign not in value:
            raise BadInput(f"{option} {value!r} is none")
    with store.read() as connection:
        found = find_in(connection, given[0], tenant)
    if not found:
        raise BadInput(f"nobody like {given[0]!r} is held")
    if who and "@" not in who and "linkedin.com/" not in who and len(found) > 1:
        listed = "; ".join(f"{each.prospect_id} ({each.tenant_id}, {_name(each)})" for each in found[:5])
        raise BadInput(f"{len(found)} prospects are meant by {who!r}; give an id: {listed}")
    return found


def _make_sure(found: list[Match], yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise BadInput("erasing cannot be undone, and there is no terminal to ask on; add --yes to agree")
    _show_matches(found)
    if not typer.confirm(f"Erase {'these' if len(found) > 1 else 'this person'}? It cannot be undone", err=True):
        raise typer.Exit(1)


def _erase(store: Store, found: list[Match], suppressions: Suppressions, *, suppress: bool) -> list[Erased]:
    from sluiceway.rights.erasure import BY_REQUEST, Why, documents_naming, drop_documents
    from sluiceway.rights.erasure import erase as erase_in

    why = Why(BY_REQUEST, getpass.getuser(), store.clock.stamp(), suppress)
    with store.read() as connection:
        documents = documents_naming(connection, [each.person for each in found])
    erased = []
    for each in found:
        with store.change() as connection:
            erased.append(erase_in(connection, [each.prospect_id], why, suppressions))
    with store.change() as connection:
        drop_documents(connection, documents)
    return erased


def _rewritten(store: Store) -> bool:
    from sluiceway.rights.erasure import remove_traces

    typer.echo("Rewriting the store's file, so that nothing is left in its unused parts ...", err=True)
    return remove_traces(store)


def _say_erased(store: Store, erased: list[Erased], clean: bool, as_json: bool) -> None:
    from sluiceway.store.engine import backups_of

    people, calls, signs = (sum(getattr(each, part) for each in erased) for part in ("prospects", "attempts", "signs"))
    backups = backups_of(store)
    if as_json:
        said = {"erased": people, "calls_kept": calls, "suppressed": signs, "file_rewritten": clean}
        print_json({**said, "backups": [str(path) for path in backups]})
        return
    typer.echo(f"{people} erased; {calls:,} calls about them stay as money; {signs} signs put on the suppression list.")
    if not clean:
        typer.echo("The store's file may hold pieces of them until `sluiceway retention run` has rewritten it.")
    _say_what_lies_outside(backups)


def _say_what_lies_outside(backups: list[Path]) -> None:
    for path in backups:
        typer.echo(f"A backup from before a migration still holds them: {path}")
    typer.echo("Enriched files, lists of rejects, your own backups and logs lie outside the store: see to them.")


def _show_matches(found: list[Match]) -> None:
    from sluiceway.cli.screen import console, table

    made = table("Prospects", "id", "tenant", "name", "e-mail", "LinkedIn", "held since (UTC)", left=6)
    for each in found:
        person = each.person
        made.add_row(
            each.prospect_id, each.tenant_id, person.name, person.email, person.linkedin_url, each.created_at[:10]
        )
    console(stderr=False).print(made)


def _name(match: Match) -> str:
    return match.person.name or match.person.email or match.person.linkedin_url


def _show_report(report: Report) -> None:
    from sluiceway.cli.screen import console
    from sluiceway.enriched_file import readable

    screen = console()
    screen.print(f"prospect {report.prospect_id} · tenant {report.tenant_id} · held since {report.since}")
    screen.print(f"purpose: {report.purpose or 'not stated (SLUICEWAY_PURPOSE)'}")
    screen.print("on the suppression list" if report.suppressed else "not on the suppression list")
    screen.print(f"asked as: {_said_of(report.as_asked)}")
    _print_rows("Values held", ("field", "source", "since (UTC)", "value"), [
        (each.field, each.source, each.since[:19], readable(each.value)) for each in report.values
    ])  # fmt: skip
    _print_rows("Answers kept", ("source", "at (UTC)", "about them", "values"), [
        (each.source, each.at[:19], "yes" if each.about_them else "not surely", str(len(each.found)))
        for each in report.answers
    ])  # fmt: skip
    _print_rows("Calls made", ("at (UTC)", "provider", "endpoint", "through", "charge"), [
        (each.at[:19], each.provider, each.endpoint, each.trigger, each.charge or "open") for each in report.calls
    ])  # fmt: skip
    if report.calls_kept_after:
        screen.print(f"Calls up to {report.calls_kept_after} (UTC) are not kept one by one any more.")
    _print_rows("What users did", ("at (UTC)", "user", "what"), [
        (each.at[:19], each.user_id, each.action.replace("_", " ")) for each in report.done
    ])  # fmt: skip
    _print_rows("In which files, which were written with what is held", ("file", "rows", "asked (UTC)", "written"), [
        (each.name, ", ".join(map(str, each.rows)), each.since[:19], (each.finished_at or "")[:19])
        for each in report.batches
    ])  # fmt: skip


def _said_of(person: Any) -> str:
    import msgspec

    return ", ".join(f"{part}: {value}" for part, value in msgspec.structs.asdict(person).items() if value)


def _print_rows(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from sluiceway.cli.screen import console, table

    made = table(title, *columns, left=len(columns))
    for row in rows:
        made.add_row(*row)
    console().print(made if rows else f"{title}: none")
