"""Taking people out as a file: a stream of CSV or of lines of JSON, page by page, recorded as it is sent."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Connection, select
from starlette.responses import StreamingResponse

from sluiceway.activity import Action, Event, Export, record, record_exported
from sluiceway.api.answers import answers
from sluiceway.api.batches import found
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.prospects import shown, which_of
from sluiceway.enriched_file import Column, Enriched, added_cells, added_columns, safe
from sluiceway.outcome import read_statuses
from sluiceway.pipeline.selection import Selection, matching
from sluiceway.prospect import Person, best
from sluiceway.rights.suppression import Suppressions, signs_of_row
from sluiceway.store.schema import batch_rows, prospects
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(tags=["prospects"])

Taker = Annotated[Asker, who_may(Permission.EXPORT)]

_PAGE: Final = 250
_ASKED: Final = Person.__struct_fields__


class Format(StrEnum):
    """How people are written: a row of a table each, or a line of JSON each."""

    CSV = "csv"
    NDJSON = "ndjson"


_MEDIA: Final = {Format.CSV: "text/csv", Format.NDJSON: "application/x-ndjson"}

Formatted = Annotated[
    Format, Query(alias="format", description="`csv` is safe to open in a spreadsheet; `ndjson` has all that is held.")
]


def _described(example: str) -> dict[str, Any]:
    """Describe an answer that is a file in either format."""
    text = {"schema": {"type": "string"}}
    content = {_MEDIA[Format.CSV]: {**text, "example": example}, _MEDIA[Format.NDJSON]: text}
    problems = answers(None, problems=[404])["responses"]
    return {
        "response_class": Response,
        "responses": {**problems, 200: {"description": "The file.", "content": content}},
    }


_CSV_EXAMPLE: Final = (
    "id,external_id,first_name,last_name,…,enriched_title,…,enrichment_status,…,apollo_status,…\r\n"
    "0199f0c4b1e27c3a8f5d2b6e4a907c11,crm-17,Ines,Okafor-Lind,…,CFO,…,complete,…,complete,…\r\n"
)


# The routes.


@router.get("/prospects/export", name="export_prospects", **_described(_CSV_EXAMPLE))
async def export(
    asker: Taker, selection: Annotated[Selection, Depends(which_of)], form: Formatted = Format.CSV
) -> Response:
    """Take out the prospects that are meant, oldest first, with what is held about them and how each source stands.

    People on the suppression list are left out. Who was taken out is recorded. A file that ends early was cut off:
    its last chunk is missing, which every HTTP client tells.
    """
    asker = msgspec.structs.replace(asker, scope=Scope(asker.tenant_id))
    return await _answer(asker, form, partial(_meant, selection=selection), None, "prospects")


@router.get(
    "/batches/{batch_id}/export", **_described(f"number,{_CSV_EXAMPLE.replace(chr(10) + '0', chr(10) + '0,0')}")
)
async def export_batch(batch_id: str, asker: Taker, form: Formatted = Format.CSV) -> Response:
    """Take out the people of a batch, row by row in the order in which they came.

    `number` counts rows from 0, rejects and suppressed people included, who are left out here.
    """
    batch = await asker.world.read(found, batch_id, asker.scope)
    asker = msgspec.structs.replace(asker, scope=Scope(batch.tenant_id))
    return await _answer(asker, form, partial(_in_batch, batch_id=batch_id), batch_id, f"batch-{batch_id[:12]}")


# The pages.

Select = Callable[[Connection, Scope, Any], Sequence[Any]]
"""Selects the rows of a page, which come after a place (`None`: from the start); each says its own place."""


class _Page(NamedTuple):
    """Some prospects as they are written, by id and in order, and the place they end at."""

    lines: list[tuple[str, bytes]]
    last: Any


def _meant(connection: Connection, scope: Scope, after: Any, *, selection: Selection) -> Sequence[Any]:
    p = scope.of(prospects)
    query = select(p, p.c.id.label("place")).where(matching(selection, p.c), p.c.id > (after or ""))
    return connection.execute(query.order_by(p.c.id).limit(_PAGE)).all()


def _in_batch(connection: Connection, scope: Scope, after: Any, *, batch_id: str) -> Sequence[Any]:
    p, r = scope.of(prospects), batch_rows.c
    query = select(p, r.number.label("place")).join(batch_rows, r.prospect_id == p.c.id)
    query = query.where(r.batch_id == batch_id, r.number > (-1 if after is None else after))
    return connection.execute(query.order_by(r.number).limit(_PAGE)).all()


def _page(
    connection: Connection, after: Any, *, which: Select, scope: Scope, write: _Write, suppressions: Suppressions
) -> _Page | None:
    """Return the next page, written; `None` after the last one."""
    rows = which(connection, scope, after)
    if not rows:
        return None
    suppressions.look(connection)
    hidden: set[str] = set()
    if not suppressions.is_empty:
        hidden = suppressions.among(connection, {row.id: (row.tenant_id, signs_of_row(row)) for row in rows})
    return _Page([(row.id, write(row)) for row in rows if row.id not in hidden], rows[-1].place)


def _record_page(connection: Connection, ids: Sequence[str], event: Event, scope: Scope) -> set[str]:
    """Record who is taken out; returns those who are still there, since somebody may have been erased meanwhile."""
    p = scope.of(prospects)
    there = sorted(connection.execute(select(p.c.id).where(p.c.id.in_(ids))).scalars())
    record_exported(connection, [Export(event.id, prospect_id, event.tenant_id, event.at) for prospect_id in there])
    return set(there)


async def _answer(asker: Asker, form: Format, which: Select, target: str | None, name: str) -> Response:
    """Begin the file: what cannot be read or recorded is said before anything is sent."""
    event = asker.did(Action.CSV_EXPORTED, target)
    writing = _Table(list(asker.world.sources), numbered=target is not None) if form is Format.CSV else _Lines()
    look = partial(_page, which=which, scope=asker.scope, write=writing.row, suppressions=asker.world.suppressions)
    first = await asker.world.read(look, None)
    await asker.world.write(record, [event])
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{event.at[:10]}.{form}"',
        "Cache-Control": "no-store",
    }
    sent = _sent(asker, event, look, first, writing.head)
    return StreamingResponse(sent, headers=headers, media_type=_MEDIA[form])


async def _sent(
    asker: Asker, event: Event, look: Callable[..., _Page | None], page: _Page | None, head: bytes
) -> AsyncIterator[bytes]:
    """Yield the file, each page once it is recorded; whoever goes away ends it."""
    if head:
        yield head
    while page is not None:
        ids = list(dict.fromkeys(prospect_id for prospect_id, _ in page.lines))
        there = await asker.world.write(_record_page, ids, event, asker.scope)
        yield b"".join(line for prospect_id, line in page.lines if prospect_id in there)
        page = await asker.world.read(look, page.last)


# What is written.

_Write = Callable[[Any], bytes]


class _Lines:
    """One line of JSON for each prospect, as it is read by its id."""

    head = b""

    def row(self, row: Any) -> bytes:
        """Return a prospect as a line."""
        return msgspec.json.encode(shown(row, suppressed=False)) + b"\n"


class _Table:
    """A row for each prospect: the person asked about, what was found, how each source stands."""

    def __init__(self, sources: Sequence[str], *, numbered: bool) -> None:
        self._numbered = numbered
        self._added: tuple[Column, ...] = tuple(added_columns(sources))
        number = ("number",) if numbered else ()
        self.head = _as_csv((*number, "id", "external_id", *_ASKED, *(column.name for column in self._added)))

    def row(self, row: Any) -> bytes:
        """Return a prospect as a row; every cell is safe to open in a spreadsheet."""
        number = (str(row.place),) if self._numbered else ()
        return _as_csv((*number, row.id, *self._asked(row), *added_cells(self._added, _enriched(row))))

    def _asked(self, row: Any) -> Iterator[str]:
        person = msgspec.json.decode(row.person, type=Person)
        return map(safe, (row.external_id or "", *(getattr(person, name) for name in _ASKED)))


def _enriched(row: Any) -> Enriched:
    return Enriched(
        fields=best(msgspec.json.decode(row.fields)),
        statuses=read_statuses(msgspec.json.decode(row.enrichment_source_status)),
        status=row.enrichment_status,
    )


def _as_csv(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
