"""`sluiceway usage explain`: why a provider ran out at some moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated

import typer

from sluiceway.cli.options import AsJson, Database, opened_store
from sluiceway.cli.usage.group import usage_group
from sluiceway.errors import BadInput


@usage_group.command("explain")
def explain(
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Which provider, such as apollo.")],
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="WHEN",
            help="A moment, such as '2026-11-24 15:00 America/New_York' or 2026-11-24T20:00Z; UTC unless it says "
            "otherwise. Default: now.",
        ),
    ] = "now",
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Tell why a provider had run out at some moment.

    In a paragraph: which limit it was, who had spent it (by tenant, batch and trigger), how much was used outside
    Sluiceway, which calls are of unknown charge, and what to do. If it had not run out, how much was left.
    """
    import msgspec

    from sluiceway.usage.explain import explain as explanation
    from sluiceway.usage.explain import paragraph

    moment = None if at.strip() == "now" else moment_in(at)
    with opened_store(database) as store, store.read() as connection:
        now = store.clock.now()
        if moment is not None and moment > now:
            raise BadInput(f"--at {at!r} is in the future; `sluiceway usage forecast` looks ahead")
        said = explanation(connection, provider, moment or now)
    zone = moment.tzinfo if moment is not None and moment.tzinfo is not None else UTC
    if as_json:
        known = msgspec.to_builtins(said) | {"paragraph": paragraph(said, zone)}
        typer.echo(msgspec.json.format(msgspec.json.encode(known)).decode())
        return
    from sluiceway.cli.screen import console

    console().print(paragraph(said, zone))


_WHEN = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)(?:[T ]+(?P<time>\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?\s*(?P<zone>\S.*)?")
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)")


def moment_in(text: str) -> datetime:
    """Read a moment with its time zone, UTC where it names none. Raises `BadInput` where it could be another one too.

    Abbreviations are refused, since each is used in several zones; so is a local time that comes twice or never.
    """
    found = _WHEN.fullmatch(text.strip())
    if not found:
        raise BadInput(
            f"--at {text!r} is not a moment such as '2026-11-24 15:00 America/New_York' or 2026-11-24T20:00Z"
        )
    zone = _zone(found["zone"] or "UTC")
    try:
        local = datetime.fromisoformat(f"{found['day']} {found['time'] or '00:00'}").replace(tzinfo=zone)
    except ValueError as error:
        raise BadInput(f"--at {text!r}: {error}") from None
    _check_it_comes_once(local, text)
    return local


def _zone(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z", "GMT"):
        return UTC
    if offset := _OFFSET.fullmatch(name):
        shift = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"]))
        if shift < timedelta(hours=24):
            from datetime import timezone

            return timezone(shift if offset["sign"] == "+" else -shift)
    return _named_zone(name)


def _named_zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, available_timezones

    if "/" in name:
        known = {zone.lower(): zone for zone in available_timezones()}
        if name.lower() in known:
            return ZoneInfo(known[name.lower()])
        raise BadInput(f"there is no time zone {name!r}; they are called like America/New_York or Europe/Berlin")
    raise BadInput(
        f"{name!r} does not say for sure which time zone is meant; write its full name, such as America/New_York, or "
        "an offset, such as -05:00"
    )


def _check_it_comes_once(local: datetime, text: str) -> None:
    """Refuse a local time that comes twice, or never, because the clocks are changed."""
    first, second = (local.replace(fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return
    there_and_back = first.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None)
    if there_and_back != local.replace(tzinfo=None, fold=0):
        raise BadInput(f"--at {text!r}: that time is left out there, because the clocks go forward")
    either = " or ".join(f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}" for moment in (first, second))
    raise BadInput(f"--at {text!r}: that time comes twice there, because the clocks go back; say {either}")
