"""The suppression list: people who must not be asked about, for one tenant, or (super admins) for everybody.

Values come in bodies and never in addresses, which end up in logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.errors import BadInput, NotThere
from sluiceway.rights.listed import Listed, Refused, read_list
from sluiceway.rights.suppression import EVERYWHERE, Found, counts
from sluiceway.sign import Sign, named, read_sign, shown_with
from sluiceway.tenancy import audit
from sluiceway.tenancy.roles import Permission

router = APIRouter(prefix="/suppressions", tags=["suppressions"])

Keeper = Annotated[Asker, who_may(Permission.MANAGE_SUPPRESSIONS)]

MOST_AT_ONCE: Final = 500
LARGEST_LIST: Final = 20_000_000
"""Bytes of a list that is imported: half a million addresses."""

_MOST_REJECTS: Final = 1_000
_TEXTS: Final = ("text/csv", "text/plain")
_ADDED_AT_ONCE: Final = 200
"""Lines per transaction: a few milliseconds, in which no call can begin."""

Text = Annotated[str, Field(max_length=1_000)]


# What is asked for.


class NamedPerson(BaseModel):
    """Somebody of whom there is only a name, with the company or its domain."""

    model_config = ConfigDict(extra="forbid")

    name: Text
    company: Text


class SignsAsked(BaseModel):
    """People, by what they can be recognised by. A domain stands for everybody there."""

    values: list[Text] = Field(
        [], max_length=MOST_AT_ONCE, description="E-mail addresses, addresses of LinkedIn profiles, domains."
    )
    people: list[NamedPerson] = Field([], max_length=MOST_AT_ONCE, description="Names, each with a company.")

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "values": ["ines@harbourline.example", "https://www.linkedin.com/in/ines-okafor", "quell.example"],
                    "people": [{"name": "Tomas Rell", "company": "Quell Holdings"}],
                }
            ]
        },
    )

    def signs(self) -> set[Sign]:
        """Return the signs; raises `BadInput` for one that cannot be read, and where there is none."""
        signs = {read_sign(value) for value in self.values} | {named(each.name, each.company) for each in self.people}
        if not signs:
            raise BadInput("name somebody: by `values` (e-mail, LinkedIn profile, domain) or by `people`")
        return signs


Reason = Annotated[str | None, Field(max_length=200, description="Why, in words that name nobody.")]


class AddAsked(SignsAsked):
    """People to put on the list."""

    reason: Reason = None


# What is answered.


class Counted(msgspec.Struct, frozen=True):
    """How many signs of one kind (`email`, `linkedin`, `domain`, `name`) a list has."""

    kind: str
    count: int


class ShownList(msgspec.Struct, frozen=True):
    """What a list has. It holds keyed hashes, so who is on it cannot be read back.

    `tenant_id` is `*` for the list that holds for everybody.
    """

    tenant_id: str
    counts: list[Counted]


class Added(msgspec.Struct, frozen=True):
    """How many signs were put on a list, and how many were on it already."""

    tenant_id: str
    added: int
    already: int


class Imported(msgspec.Struct, frozen=True):
    """What became of a list: `rejected` lines could not be used, of which the first 1,000 are `rejects`."""

    tenant_id: str
    added: int
    already: int
    rejected: int
    rejects: list[Refused]


class Removed(msgspec.Struct, frozen=True):
    """How many signs were taken off a list."""

    tenant_id: str
    removed: int


class SuppressedBy(msgspec.Struct, frozen=True):
    """Where somebody is on a list: by which kind of sign, since when, and why.

    Why and by whom they are on the list for everybody (`*`) is only a super admin's to know.
    """

    tenant_id: str
    kind: str
    since: str
    reason: str | None
    added_by: str | None


class Checked(msgspec.Struct, frozen=True):
    """Whether somebody is on a list that holds for the tenant: its own, or the one for everybody."""

    suppressed: bool
    entries: list[SuppressedBy]


# Asking.


def whose(asker: Asker) -> str:
    """Return whose list is meant: a tenant's, or everybody's where a super admin names no tenant."""
    return asker.scope.tenant_id or EVERYWHERE


@router.get("", name="count_suppressions", **answers(ShownList))
async def read(asker: Keeper) -> Json:
    """Count what is on the list."""
    found = await asker.world.read(counts, whose(asker))
    return Json(ShownList(whose(asker), [Counted(each.kind, each.count) for each in found]))


@router.post("", name="add_suppressions", **answers(Added, problems=[400]))
async def add(asked: AddAsked, asker: Keeper) -> Json:
    """Put people on the list: nobody is asked about them from the next call on.

    What is held about them already stays until they are deleted, but is shown to nobody and in no export.
    """
    signs = asked.signs()
    added = await asker.world.write(_add, signs, asked.reason, asker, audited=True)
    return Json(Added(whose(asker), added, len(signs) - added))


def _add(connection: Connection, signs: set[Sign], reason: str | None, asker: Asker, *, audited: bool) -> int:
    at, by = asker.world.stamp, asker.principal.actor
    added = asker.world.suppressions.add(connection, whose(asker), signs, at=at, by=by, reason=reason)
    if audited:
        _audit(connection, "suppression.add", f"{added} added", asker)
    return added


def _audit(connection: Connection, action: str, detail: str, asker: Asker) -> None:
    target, tenant_id = f"suppressions:{whose(asker)}", asker.scope.tenant_id
    by, now = asker.principal.actor, asker.world.now
    audit.record(connection, action, target, by=by, now=now, tenant_id=tenant_id, detail=detail)


@router.post("/remove", name="remove_suppressions", **answers(Removed, problems=[400, 404]))
async def remove(asked: SignsAsked, asker: Keeper) -> Json:
    """Take people off the list, by the values they were put on it with. 404 where none of these is on it."""
    return Json(Removed(whose(asker), await asker.world.write(_remove, asked.signs(), asker)))


def _remove(connection: Connection, signs: set[Sign], asker: Asker) -> int:
    removed = asker.world.suppressions.remove(connection, whose(asker), signs)
    if not removed:
        raise NotThere("none of this is on that list; /suppressions/check says on which it is")
    _audit(connection, "suppression.remove", f"{removed} removed", asker)
    return removed


@router.post("/check", name="check_suppressions", **answers(Checked, problems=[400]))
async def check(asked: SignsAsked, asker: Keeper) -> Json:
    """Say whether somebody is on the list, since when and why: by any of the signs that are given.

    An e-mail is also found by its domain. Other tenants' lists are not looked at, unless a super admin names no tenant.
    """
    entries = await asker.world.read(_find, shown_with(asked.signs()), asker)
    return Json(Checked(bool(entries), entries))


def _find(connection: Connection, signs: set[Sign], asker: Asker) -> list[SuppressedBy]:
    found = [each for sign in sorted(signs) for each in asker.world.suppressions.find(connection, sign)]
    operator = asker.principal.may(Permission.OPERATE)
    mine = {asker.scope.tenant_id, EVERYWHERE}
    return [_shown(each, operator) for each in found if asker.scope.tenant_id is None or each.tenant_id in mine]


def _shown(found: Found, operator: bool) -> SuppressedBy:
    tells = operator or found.tenant_id != EVERYWHERE
    reason, added_by = (found.reason, found.added_by) if tells else (None, None)
    return SuppressedBy(found.tenant_id, found.kind, found.created_at, reason, added_by)


# Lists.

_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string"}, "example": "email,reason\nines@harbourline.example,asked us\n"}
            for kind in _TEXTS
        },
    }
}


@router.post("/import", name="import_suppressions", openapi_extra=_BODY, **answers(Imported, problems=[413, 415]))
async def import_list(
    request: Request,
    asker: Keeper,
    reason: Annotated[str | None, Query(max_length=200, description="Why, in words that name nobody.")] = None,
) -> Json:
    """Put everybody in a list on the list: one value a line, or a CSV that names its columns.

    The columns are email, linkedin_url, domain, and name (or first_name and last_name) with company; others are passed
    over. Lines that cannot be used are named, and the others go on. The same list again changes nothing.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TEXTS:
        raise HTTPException(415, "send the list as text/csv")
    async with _received(request) as path:
        return Json(await _import(path, reason, asker))


@asynccontextmanager
async def _received(request: Request) -> AsyncIterator[Path]:
    """Keep a request's body in a file, for as long as it is read."""
    with TemporaryDirectory(prefix="sluiceway-") as folder:
        path, size = Path(folder) / "list.csv", 0
        with path.open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > LARGEST_LIST:
                    raise HTTPException(413, f"a list may have {LARGEST_LIST // 1_000_000} MB; send it in parts")
                file.write(piece)
        yield path


async def _import(path: Path, reason: str | None, asker: Asker) -> Imported:
    lines = read_list(path)
    found = added = rejected = 0
    rejects: list[Refused] = []
    while chunk := await asyncio.to_thread(_next_of, lines):
        refused = [line for line in chunk if isinstance(line, Refused)]
        rejected += len(refused)
        rejects += refused[: _MOST_REJECTS - len(rejects)]
        signs = {sign for line in chunk if isinstance(line, Listed) for sign in line.signs}
        found += len(signs)
        added += await asker.world.write(_add, signs, reason, asker, audited=False) if signs else 0
    await asker.world.write(_audit, "suppression.import", f"{added} added", asker)
    return Imported(whose(asker), added, found - added, rejected, rejects)


def _next_of(lines: Iterator[Any]) -> Sequence[Listed | Refused]:
    return list(islice(lines, _ADDED_AT_ONCE))
