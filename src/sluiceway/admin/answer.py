"""What every answer says about itself: its days, as of when, and from which tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from sluiceway.errors import BadInput
from sluiceway.outcome import Rates, timestamp

_MOST_DAYS: Final = 400


class Window(msgspec.Struct, frozen=True):
    """Some UTC days (`YYYY-MM-DD`), the first and the last included."""

    since: str
    until: str

    def days(self) -> list[str]:
        """Return every day, oldest first."""
        first, last = datetime.fromisoformat(self.since), datetime.fromisoformat(self.until)
        return [f"{first + timedelta(days=back):%Y-%m-%d}" for back in range((last - first).days + 1)]


class About(msgspec.Struct, frozen=True):
    """Of which UTC days an answer is, as of when (sums are kept with the rows they sum), and from which tables."""

    window: Window
    as_of: str
    source: tuple[str, ...]


class Figure(msgspec.Struct, frozen=True):
    """A number, or `None` and the reason why there is none. It is never zero for want of data."""

    value: float | None
    reason: str | None = None


def last_days(now: datetime, days: int) -> Window:
    """Return the last UTC days up to `now` (aware), today included. Raises `BadInput` for none or too many."""
    if not 1 <= days <= _MOST_DAYS:
        raise BadInput(f"an answer is about 1 to {_MOST_DAYS} days, not {days}")
    today = now.astimezone(UTC).date()
    return Window((today - timedelta(days=days - 1)).isoformat(), today.isoformat())


def window_of(since: str, until: str) -> Window:
    """Return the UTC days from one (`YYYY-MM-DD`) to another; raises `BadInput` for what are no days, or too many."""
    try:
        length = (datetime.fromisoformat(until).date() - datetime.fromisoformat(since).date()).days + 1
    except ValueError:
        raise BadInput(f"{since!r} to {until!r} are not two days such as 2026-11-24") from None
    if len(since) != 10 or len(until) != 10 or not 1 <= length <= _MOST_DAYS:
        raise BadInput(f"{since} to {until} is not a stretch of 1 to {_MOST_DAYS} days")
    return Window(since, until)


def days_between(now: datetime, since: str | None, until: str | None, otherwise: int) -> Window:
    """Return the UTC days from one to another: up to today, or as many as `otherwise`, where one is not given."""
    until = until or now.astimezone(UTC).date().isoformat()
    if since is None:
        try:
            since = (datetime.fromisoformat(until) - timedelta(days=otherwise - 1)).date().isoformat()
        except (ValueError, OverflowError):
            raise BadInput(f"{until!r} is no day such as 2026-11-24") from None
    return window_of(since, until)


def about(window: Window, now: datetime, *source: str) -> About:
    """Return what an answer says about itself."""
    return About(window, timestamp(now), tuple(map(str, source)))


def divided(part: float, whole: float, without: str) -> Figure:
    """Return a share, or why there is none."""
    return Figure(part / whole) if whole else Figure(None, without)


def rate_figures(rates: Rates) -> tuple[Figure, Figure]:
    """Return the success rate and the hit rate as figures."""
    success = Figure(rates.success, None if rates.success is not None else "no source result has ended")
    return success, Figure(rates.hit, None if rates.hit is not None else "nothing was bought")
