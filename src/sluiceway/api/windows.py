"""Of which UTC days an answer is to be, as a request says it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query

_A_DAY: Final = r"^\d{4}-\d{2}-\d{2}$"

Days = Annotated[int, Query(ge=1, le=400, description="The last so many UTC days, today included.")]
Since = Annotated[str | None, Query(alias="from", pattern=_A_DAY, description="The first UTC day, such as 2026-11-18.")]
Until = Annotated[
    str | None, Query(alias="to", pattern=_A_DAY, description="The last UTC day, included; today by default.")
]
