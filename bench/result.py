"""One line of the table."""

from __future__ import annotations

import msgspec


class Result(msgspec.Struct, frozen=True):
    """A measured value beside its baseline. `ratio` is what a target, where there is one, is about."""

    name: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    target: float | None
    holds: bool | None
