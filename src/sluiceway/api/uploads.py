"""Uploading people: a CSV or lines of JSON as a stream, taken in as a batch, with rejects by line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect

from sluiceway.activity import Action, record
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.world import World
from sluiceway.errors import BadInput, TryLater
from sluiceway.people_file import PeopleFile
from sluiceway.people_lines import PeopleLines
from sluiceway.people_row import Reject, Row
from sluiceway.pipeline.batch import CHUNK, InputRow, withdraw
from sluiceway.pipeline.uploads import Rejected, Upload, add_to_upload, begin_upload, end_upload, spooled
from sluiceway.sign import signs_of
from sluiceway.tenancy.roles import Permission

router = APIRouter(prefix="/prospects", tags=["prospects"])

CSV, LINES = "text/csv", "application/x-ndjson"

_SHOWN_REJECTS: Final = 20
_MB: Final = 1_000_000
_HEARD_OUT: Final = 2
"""So many times the limit is read of a file that is too large, since most programs listen only when all is sent."""

_CSV_EXAMPLE: Final = (
    "First Name,Last Name,Company,Email\nInes,Okafor-Lind,Harbourline Robotics,ines@harbourline.example\n"
)
_LINES_EXAMPLE: Final = (
    '{"external_id": "crm-17", "full_name": "Ines Okafor-Lind", "company": "Harbourline Robotics"}\n'
    '{"external_id": "crm-18", "email": "theo@quell.example"}\n'
)
_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "The file itself.",
        "content": {
            CSV: {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
            LINES: {"schema": {"type": "string"}, "example": _LINES_EXAMPLE},
        },
    }
}


class Uploaded(msgspec.Struct, frozen=True):
    """What a file turned out to hold. `batch_id` is the batch of its people, which waits to be asked for.

    Of its `rows`, `rejected` could not be used (`rejects` shows the first 20; the batch has them all) and `suppressed`
    are about people on the suppression list, who were not taken in. The others are so many distinct `prospects`.
    `columns` says which column or field each thing about a person was read from.
    """

    batch_id: str
    name: str
    rows: int
    prospects: int
    rejected: int
    suppressed: int
    rejects: list[Rejected]
    columns: dict[str, str]
    notes: list[str]


_EXAMPLE: Final = {
    "batch_id": "0199f0c4b1e27c3a8f5d2b6e4a907c11",
    "name": "conference.csv",
    "rows": 250,
    "prospects": 241,
    "rejected": 2,
    "suppressed": 3,
    "rejects": [
        {
            "number": 16,
            "line": 18,
            "reason": "needs a LinkedIn URL, an e-mail, or a name together with a company",
        }
    ],
    "columns": {"first_name": "First Name", "last_name": "Last Name", "company": "Company", "email": "E-mail (work)"},
    "notes": [],
}

Name = Annotated[str, Query(max_length=200, description="The file's name, for those who look at the batch.")]
Mapped = Annotated[
    list[Annotated[str, Query(max_length=300)]],
    Query(alias="map", max_length=20, description="Name a column: `email=E-mail (work)`. For `text/csv` alone."),
]


@router.post(
    "/upload",
    name="upload_prospects",
    openapi_extra=_BODY,
    **answers(
        Uploaded,
        201,
        problems=[400, 404, 413, 415],
        description="Taken in; nothing is asked about anybody.",
        example=_EXAMPLE,
    ),
)
async def upload(
    request: Request,
    asker: Annotated[Asker, who_may(Permission.WRITE_PROSPECTS)],
    name: Name = "",
    mapped: Mapped = [],  # noqa: B006 - FastAPI copies it
) -> Json:
    """Bring people as a file. A row that cannot be used is a reject with its line, and costs no other row.

    Any CSV that a spreadsheet or a CRM writes, or one JSON object per line with the fields `external_id`, `first_name`,
    `last_name`, `full_name`, `company`, `domain`, `email`, `linkedin_url` and `title`. The answer is a batch that
    waits: `POST /batches` with `{"upload": "<batch_id>"}` asks for it. The same file again is a new batch of the same
    prospects; nobody is there twice. Rows that name another tenant are rejects.
    """
    kind = _kind_of(request)
    tenant_id = asker.tenant_id
    name = "".join(filter(str.isprintable, name)).strip() or ("upload.csv" if kind == CSV else "upload.ndjson")
    mapping = _pairs_in(mapped)
    descriptor, path = await asyncio.to_thread(spooled, asker.world.store, asker.world.worker_id)
    try:
        await _spool(request, descriptor, asker.world)
        people = await asyncio.to_thread(_opened, path, kind, mapping, name)
        principal = asker.principal
        bringing = Upload(tenant_id, name, asker.trigger, asker.world.worker_id, principal.user_id, principal.key_id)
        done = await _take_in(asker, bringing, people)
    finally:
        with suppress(OSError):
            path.unlink()
    return Json(done, 201, {"Location": f"/api/v1/batches/{done.batch_id}"})


# The file, before anything of it is used.


def _kind_of(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (CSV, LINES):
        raise HTTPException(415, f"say what the file is: `Content-Type: {CSV}`, or `{LINES}` for lines of JSON")
    return kind


def _pairs_in(mapped: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for pair in mapped:
        target, equals, column = (part.strip() for part in pair.partition("="))
        if not (target and equals and column):
            raise BadInput(f"map={pair} is not of the form map=email=E-mail (work)")
        pairs[target] = column
    return pairs


async def _spool(request: Request, descriptor: int, world: World) -> None:
    """Write a request's body to a file; raises for one that is too large, or that breaks off."""
    size, most = 0, world.settings.upload_most_mb * _MB
    with os.fdopen(descriptor, "wb") as file:
        try:
            async for piece in request.stream():
                size += len(piece)
                if size <= most:
                    await asyncio.to_thread(file.write, piece)
                if size > most * _HEARD_OUT:
                    break
                _refuse_while_stopping(world)
        except ClientDisconnect:
            raise HTTPException(400, "the upload broke off; nothing of it was kept") from None
    if size > most:
        raise HTTPException(
            413, f"a file may have {most // _MB:,} MB at most (SLUICEWAY_UPLOAD_MOST_MB); split it into several"
        )


def _refuse_while_stopping(world: World) -> None:
    if world.gate.draining.is_set():
        raise TryLater("the service is about to stop, and nothing was kept; upload the file again when it is back")


def _opened(path: Path, kind: str, mapping: Mapping[str, str], name: str) -> PeopleFile | PeopleLines:
    """Look at the file; what is wrong with it is said in the words of who sent it."""
    if mapping and kind == LINES:
        raise BadInput("map names columns of a CSV; lines of JSON use the field names of a person")
    try:
        return PeopleFile.open(path, mapping=mapping) if kind == CSV else PeopleLines.open(path)
    except BadInput as error:
        raise BadInput(_over_http(str(error).replace(str(path), name))) from None


def _over_http(sentence: str) -> str:
    """Have a sentence name the query's `map` instead of the command's option."""
    return sentence.replace("--map ", "map=").replace("--map", "map")


def _columns(people: PeopleFile | PeopleLines) -> dict[str, str]:
    if isinstance(people, PeopleFile):
        return {target: people.headers[at] for target, at in people.columns.items()}
    return {name: name for name in people.names}


# The rows.


class _Chunk(NamedTuple):
    """Some rows of a file: those to take in, the rejects, and how many were passed over for the suppression list."""

    rows: list[InputRow]
    rejects: list[Rejected]
    suppressed: int

    @property
    def size(self) -> int:
        return len(self.rows) + len(self.rejects) + self.suppressed


async def _take_in(asker: Asker, bringing: Upload, people: PeopleFile | PeopleLines) -> Uploaded:
    """Bring a file's rows into the store as a batch; what goes wrong on the way leaves nothing of it."""
    world = asker.world
    batch_id = await world.write(begin_upload, bringing, world.stamp)
    rows, size, suppressed = people.read(), 0, 0
    shown: list[Rejected] = []
    try:
        while (chunk := await asyncio.to_thread(_next, rows, world, bringing.tenant_id)).size:
            await world.write(add_to_upload, batch_id, chunk.rows, chunk.rejects, world.stamp)
            size += chunk.size
            suppressed += chunk.suppressed
            shown += chunk.rejects[: _SHOWN_REJECTS - len(shown)]
            _refuse_while_stopping(world)
        prospects, rejected = await world.write(partial(_end, asker=asker, batch_id=batch_id, size=size))
    except BaseException:
        world.post(partial(withdraw, batch_id=batch_id))
        raise
    notes = [_over_http(note) for note in people.notes]
    name, columns = bringing.name, _columns(people)
    return Uploaded(batch_id, name, size, prospects, rejected, suppressed, shown, columns, notes)


def _end(connection: Connection, *, asker: Asker, batch_id: str, size: int) -> tuple[int, int]:
    record(connection, [asker.did(Action.CSV_UPLOADED, batch_id)])
    return end_upload(connection, batch_id, rows=size)


def _next(rows: Iterator[Row | Reject], world: World, tenant_id: str) -> _Chunk:
    """Read some rows, and tell them apart."""
    read = list(islice(rows, CHUNK))
    rejects = [_reject(row, tenant_id) for row in read if _is_reject(row, tenant_id)]
    usable = [row for row in read if isinstance(row, Row) and not _is_reject(row, tenant_id)]
    withheld = _withheld(world, usable, tenant_id)
    taken = [
        InputRow(row.number, tenant_id, row.person, row.external_id) for row in usable if row.number not in withheld
    ]
    return _Chunk(taken, rejects, len(withheld))


def _is_reject(row: Row | Reject, tenant_id: str) -> bool:
    return isinstance(row, Reject) or row.tenant not in ("", tenant_id)


def _reject(row: Row | Reject, tenant_id: str) -> Rejected:
    reason = row.reason if isinstance(row, Reject) else f"is another tenant's; this upload is {tenant_id}'s"
    return Rejected(row.number, row.line, reason)


def _withheld(world: World, rows: list[Row], tenant_id: str) -> set[int]:
    """Return the numbers of rows about people who are on the suppression list."""
    with world.store.read() as connection:
        world.suppressions.look(connection)
        if world.suppressions.is_empty:
            return set()
        shown: dict[int, tuple[str, Any]] = {row.number: (tenant_id, signs_of(row.person)) for row in rows}
        return world.suppressions.among(connection, shown)
