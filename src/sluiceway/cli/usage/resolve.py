"""`sluiceway usage unknown` and `usage resolve`: calls that may have been billed, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli.options import AsJson, Database, known_provider, opened_store
from sluiceway.cli.usage.group import usage_group
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from sluiceway.usage.resolve import Resolution, UnknownAttempt


@usage_group.command("unknown")
def unknown(
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Only this provider's. Default: all.")
    ] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """List the calls that may have been billed.

    Their answers were lost. Look each up at the provider (its usage page, or its support with the time and the
    endpoint) and write down what you found with `sluiceway usage resolve`. Until then they are in no sum of credits or
    dollars, and limits keep back the most that each can have cost.
    """
    import msgspec

    from sluiceway.usage.resolve import unknown_attempts

    with opened_store(database) as store, store.read() as connection:
        found = unknown_attempts(connection, provider)
    if provider is not None and not found:
        known_provider(provider)  # a name that is misspelt would look like one without unknown calls
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"unknown": found})).decode())
    elif found:
        _show(found)
    else:
        typer.echo("No call's charge is unknown.")


def _show(found: list[UnknownAttempt]) -> None:
    from sluiceway.cli.screen import console

    screen = console()
    ids = _shortened([one.id for one in found])
    calls = "1 call" if len(found) == 1 else f"{len(found):,} calls"
    screen.print(f"{calls} may have been billed (moments in UTC):")
    for one in found:
        source = one.provider if one.source == one.provider else f"{one.provider} ({one.source})"
        when = f"{one.begun_at[:10]} {one.begun_at[11:19]}"
        screen.print(f"{ids[one.id]}  {when}  {source} {one.endpoint}, tenant {one.tenant_id or 'shared'}")
        screen.print(f"  prospect {one.prospect_id or '—'}, batch {one.batch_id or '—'}", soft_wrap=True)
        screen.print(f"  {one.error or 'no answer was seen'}", soft_wrap=True)
    screen.print("When you know what became of one:")
    screen.print(f'  sluiceway usage resolve {ids[found[0].id]} --billed --note "on the invoice of …"')
    screen.print(f'  sluiceway usage resolve {ids[found[0].id]} --free --note "not on their usage page"')


_SHORTEST = 14


def _shortened(ids: list[str]) -> dict[str, str]:
    """Return how much of each id tells it from the others."""
    length = next(n for n in range(_SHORTEST, 1000) if len({key[:n] for key in ids}) == len(ids))
    return {key: key[:length] for key in ids}


@usage_group.command("resolve")
def resolve(
    attempt: Annotated[
        str, typer.Argument(metavar="ATTEMPT", help="The attempt's id, or its start; `usage unknown` lists them.")
    ],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="How you know. Kept with the correcting entry.")],
    billed: Annotated[bool, typer.Option("--billed", help="The provider counted it.")] = False,
    free: Annotated[bool, typer.Option("--free", help="The provider did not count it.")] = False,
    credit_count: Annotated[
        float | None,
        typer.Option("--credits", metavar="N", help="Credits it cost. Default: the most it could, where known."),
    ] = None,
    dollars: Annotated[
        float | None,
        typer.Option("--usd", metavar="X", help="Dollars it cost. Default: the most it could, where known."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who says so. Default: your user name on this machine.")
    ] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Write down what became of a call whose charge is unknown.

    A correcting entry says who found out what and why; counters, credits and dollars follow in the same transaction,
    on the UTC day of the call. It cannot be taken back. Where an amount is neither given nor known it stays unknown.
    """
    import msgspec

    from sluiceway.pipeline.operate import resolve_attempt

    said = _resolution(billed, free, note, credit_count, dollars, by)
    with opened_store(database) as store, store.writing.begin() as connection:
        resolved = resolve_attempt(connection, attempt.strip(), said, by=f"cli:{said.by}", now=store.clock.now())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(resolved)).decode())
        return
    from sluiceway.cli.screen import credits_text, dollars_text

    dollars_said = "unknown dollars" if resolved.usd_micros is None else dollars_text(resolved.usd_micros)
    cost = f" ({credits_text(resolved.milli_credits)} credits, {dollars_said})" if billed else ""
    typer.echo(f"{resolved.provider}'s call {resolved.id} of {resolved.day} is {resolved.became}{cost}.")


def _resolution(
    billed: bool, free: bool, note: str, credit_count: float | None, dollars: float | None, by: str | None
) -> Resolution:
    from sluiceway.outcome import ChargeKind
    from sluiceway.usage.resolve import Resolution

    if billed == free:
        raise BadInput("say what became of it: either --billed or --free")
    if free and (credit_count is not None or dollars is not None):
        raise BadInput("a free call costs nothing; leave --credits and --usd out")
    if not note.strip():
        raise BadInput("--note is empty; say how you know, so that others can follow it")
    return Resolution(
        ChargeKind.BILLED if billed else ChargeKind.FREE,
        note.strip(),
        (by or "").strip() or _user_name(),
        milli_credits=_in_units(credit_count, 1000, "--credits"),
        usd_micros=_in_units(dollars, 1_000_000, "--usd"),
    )


def _in_units(amount: float | None, scale: int, option: str) -> int | None:
    if amount is None:
        return None
    if not 0 <= amount < 1e9:
        raise BadInput(f"{option} {amount:g} is not an amount a call can cost")
    return round(amount * scale)


def _user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no name for this user, as in some containers
        raise BadInput("your user has no name here; say who you are with --by") from None
