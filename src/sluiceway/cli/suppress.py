"""`sluiceway suppress`: the people who must not be asked about."""

from __future__ import annotations

import getpass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, existing, opened_store, opened_with_list, print_json
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from sluiceway.sign import Sign

suppress_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keep people from being asked about: by e-mail, LinkedIn profile, domain, or name with a company.",
)
app.add_typer(suppress_app, name="suppress")

Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="VALUE...", help="An e-mail, a LinkedIn profile's address, or a domain (all of it)."),
]
Name = Annotated[str, typer.Option("--name", help="Somebody's name, where that is all there is; with --company.")]
Company = Annotated[str, typer.Option("--company", help="The company of --name, or its domain.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose list.")]
Everywhere = Annotated[bool, typer.Option("--everywhere", help="The list that holds for every tenant.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, in words that name nobody.")]

_ROWS_AT_ONCE = 500
_REJECTS_SHOWN = 20


@suppress_app.command()
def add(
    values: Values = None,
    name: Name = "",
    company: Company = "",
    tenant: Tenant = "default",
    everywhere: Everywhere = False,
    reason: Reason = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Put people on the list; from the next call on nobody is asked about them.

    What is held about them already stays until `sluiceway prospect erase`, but is in no output any more. The list
    holds keyed hashes: nobody can read from it who is on it.
    """
    signs, scope = _signs(values, name, company), _scope(tenant, everywhere)
    with opened_with_list(database) as (store, suppressions, _), store.change() as connection:
        at, by = store.clock.stamp(), getpass.getuser()
        added = suppressions.add(connection, scope, signs, at=at, by=by, reason=reason)
    _say_changed(as_json, {"added": added, "already": len(signs) - added, "tenant": scope}, f"{added} added")


@suppress_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="One value a line, or a CSV with columns such as email, domain, name.")],
    tenant: Tenant = "default",
    everywhere: Everywhere = False,
    reason: Reason = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Put everybody in a file on the list. Lines that cannot be used are named, and the others go on.

    A CSV may have the columns email, linkedin_url, domain, and name (or first_name and last_name) with company; others
    are passed over. Exit code 1 if a line could not be used.
    """
    from sluiceway.rights.listed import Listed, Refused, read_list

    lines, scope = read_list(existing(file)), _scope(tenant, everywhere)
    found = added = 0
    rejects: list[Refused] = []
    with opened_with_list(database) as (store, suppressions, _):
        at, by = store.clock.stamp(), getpass.getuser()
        while chunk := list(islice(lines, _ROWS_AT_ONCE)):
            rejects += [line for line in chunk if isinstance(line, Refused)]
            signs = {sign for line in chunk if isinstance(line, Listed) for sign in line.signs}
            found += len(signs)
            with store.change() as connection:
                added += suppressions.add(connection, scope, signs, at=at, by=by, reason=reason)
    said = {"added": added, "already": found - added, "tenant": scope, "rejected": rejects}
    _say_changed(as_json, said, f"{added:,} added, {found - added:,} on it already, {len(rejects):,} lines not used")
    for reject in [] if as_json else rejects[:_REJECTS_SHOWN]:
        typer.echo(f"line {reject.line}: {reject.reason}", err=True)
    if len(rejects) > _REJECTS_SHOWN and not as_json:
        typer.echo(f"... and {len(rejects) - _REJECTS_SHOWN:,} more; --json has all", err=True)
    if rejects:
        raise typer.Exit(1)


@suppress_app.command("list")
def list_(as_json: AsJson = False, database: Database = None) -> None:
    """Count what is on the list. Who it is cannot be read back: it holds keyed hashes; ask with `suppress check`."""
    from sluiceway.cli.screen import console, table
    from sluiceway.rights.suppression import EVERYWHERE, counts

    with opened_store(database) as store, store.read() as connection:
        found = counts(connection)
    if as_json:
        print_json({"counts": found})
        return
    if not found:
        console().print("Nobody is on the list. `sluiceway suppress add` puts somebody on it.")
        return
    made = table("Suppressed", "tenant", "by", "count", left=2)
    for each in found:
        made.add_row("everywhere" if each.tenant_id == EVERYWHERE else each.tenant_id, each.kind, f"{each.count:,}")
    console().print(made)


@suppress_app.command()
def check(
    value: Annotated[str | None, typer.Argument(help="An e-mail, a LinkedIn profile's address, or a domain.")] = None,
    name: Name = "",
    company: Company = "",
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Say whether somebody is on the list, for which tenants, since when and why."""
    from sluiceway.rights.suppression import EVERYWHERE
    from sluiceway.sign import shown_with

    signs = shown_with(_signs([value] if value else None, name, company))
    with opened_with_list(database) as (store, suppressions, _), store.read() as connection:
        found = [entry for sign in sorted(signs) for entry in suppressions.find(connection, sign)]
    if as_json:
        print_json({"suppressed": bool(found), "entries": found})
        return
    for entry in found:
        where = "everywhere" if entry.tenant_id == EVERYWHERE else f"for tenant {entry.tenant_id}"
        why = f": {entry.reason}" if entry.reason else ""
        typer.echo(f"suppressed {where} by {entry.kind}, since {entry.created_at[:10]} ({entry.added_by}){why}")
    if not found:
        typer.echo("not suppressed")


@suppress_app.command()
def remove(
    values: Values = None,
    name: Name = "",
    company: Company = "",
    tenant: Tenant = "default",
    everywhere: Everywhere = False,
    everybody: Annotated[
        bool, typer.Option("--all", help="Empty the whole list of the tenant, or of --everywhere.")
    ] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Take people off the list, by the values they were put on it with."""
    from sluiceway.rights.suppression import empty

    if everybody and (values or name or company):
        raise BadInput("--all takes everybody off; give no values with it")
    signs, scope = set() if everybody else _signs(values, name, company), _scope(tenant, everywhere)
    with opened_with_list(database) as (store, suppressions, _), store.change() as connection:
        removed = empty(connection, scope) if everybody else suppressions.remove(connection, scope, signs)
    if not removed:
        raise BadInput("none of this is on that list; `sluiceway suppress check` says on which it is")
    _say_changed(as_json, {"removed": removed, "tenant": scope}, f"{removed} removed")


def _signs(values: list[str] | None, name: str, company: str) -> set[Sign]:
    from sluiceway.sign import named, read_sign

    signs = {read_sign(value) for value in values or []}
    if name or company:
        signs.add(named(name, company))
    if not signs:
        raise BadInput("give an e-mail, a LinkedIn profile, a domain, or --name with --company")
    return signs


def _scope(tenant: str, everywhere: bool) -> str:
    from sluiceway.rights.suppression import EVERYWHERE

    if everywhere and tenant != "default":
        raise BadInput("choose one of --tenant and --everywhere")
    return EVERYWHERE if everywhere else tenant


def _say_changed(as_json: bool, said: dict[str, Any], sentence: str) -> None:
    if as_json:
        print_json(said)
    else:
        where = "everywhere" if said["tenant"] == "*" else f"tenant {said['tenant']}"
        typer.echo(f"{where}: {sentence}")
