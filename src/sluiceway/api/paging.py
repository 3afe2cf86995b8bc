"""Lists in pages: a cursor says where the next one starts, and stays right while rows come and go."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from fastapi import Query

from sluiceway.errors import BadInput

T = TypeVar("T")

MOST: Final = 200
LIMIT: Final = 50

Limit = Annotated[int, Query(ge=1, le=MOST, description="Rows in a page.")]
CursorText = Annotated[
    str | None, Query(alias="cursor", max_length=500, description="`next_cursor` of the page before.")
]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows of a list; `next_cursor` is `null` on the last page."""

    items: list[T]
    next_cursor: str | None = None


def cursor(*after: Any) -> str:
    """Return the cursor of the page that starts after a row, told by the values it is sorted by."""
    return urlsafe_b64encode(msgspec.json.encode(after)).decode().rstrip("=")


def after(text: str | None, kind: type[T]) -> T | None:
    """Return the values a page starts after, as a tuple of some kind. Raises `BadInput` for what is no cursor."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)), type=kind)
    except (ValueError, msgspec.MsgspecError):
        raise BadInput("that is no cursor of this list; leave it out to start at the beginning") from None
