"""API keys: one's own, and for who manages users, those of the tenant's users."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, FromClause, Select, select

from sluiceway import activity
from sluiceway.activity import Action
from sluiceway.api import users as of_users
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_manages
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.errors import Conflict, NotThere
from sluiceway.store.schema import api_keys
from sluiceway.tenancy.keys import ApiKey, IssuedKey, KeyKind, issue_key, revoke_key
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.users import User, user_by_id

router = APIRouter(prefix="/keys", tags=["keys"])

Holder = Annotated[Asker, who_manages(Permission.OWN_KEYS)]
Everyone = Annotated[bool, Query(description="Those of all users, for who manages them.")]


class KeyAsked(BaseModel):
    """A key for a program that acts for a user."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "the CRM", "kind": "live"}]})

    name: str = Field("", max_length=200, description="What it is for.")
    kind: KeyKind = Field(KeyKind.LIVE, description="`test` reaches only the sandbox.")
    user_id: str | None = Field(None, max_length=100, description="For whom, by who manages users. Default: oneself.")


def _query(keys: FromClause) -> Select[tuple[object, ...]]:
    return select(*(keys.c[name] for name in ApiKey.__struct_fields__))


def page_of(connection: Connection, asker: Asker, before: str | None, limit: int, *, everyone: bool) -> Page[ApiKey]:
    """Return keys, newest first; revoked ones are among them."""
    k = asker.scope.of(api_keys)
    query = _query(k).order_by(k.c.id.desc()).limit(limit + 1)
    query = query if everyone else query.where(k.c.user_id == asker.principal.user_id)
    rows = connection.execute(query.where(k.c.id < before) if before else query).mappings()
    found = [msgspec.convert(row, ApiKey) for row in rows]
    return Page(found[:limit], cursor(found[limit - 1].id) if len(found) > limit else None)


@router.get("", **answers(Page[ApiKey]))
async def list_keys(
    asker: Holder, everyone: Everyone = False, limit: Limit = 50, cursor_text: CursorText = None
) -> Json:
    """List API keys, newest first, by their first characters: the keys themselves are kept nowhere."""
    if everyone:
        asker.principal.must(Permission.MANAGE_USERS)
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, asker, start[0] if start else None, limit, everyone=everyone))


@router.post(
    "",
    name="make_key",
    **answers(IssuedKey, 201, problems=[404, 409], description="Made. `text` is the key; it is shown only here."),
)
async def make(asked: KeyAsked, asker: Holder) -> Json:
    """Make an API key. It may do what its user may, and is shown once."""

    def issue(connection: Connection) -> IssuedKey:
        user = _user(connection, asker, asked.user_id)
        by, now = asker.principal.actor, asker.world.now
        issued = issue_key(connection, user, asked.kind, asked.name, by=by, now=now)
        _record(connection, asker, Action.KEY_CREATED, issued.key)
        return issued

    return Json(await asker.world.write(issue), 201)


@router.delete("/{key_id}", name="revoke_key", **answers(ApiKey, problems=[404], description="Revoked."))
async def revoke(key_id: str, asker: Holder) -> Json:
    """Revoke an API key, named by its id, from the next request on. What it did stays known by its id."""

    def end(connection: Connection) -> ApiKey:
        if _found(connection, asker, key_id).revoked_at is None:
            revoked = revoke_key(connection, key_id, by=asker.principal.actor, now=asker.world.now)
            _record(connection, asker, Action.KEY_REVOKED, revoked)
        return _found(connection, asker, key_id)

    return Json(await asker.world.write(end))


def _found(connection: Connection, asker: Asker, key_id: str) -> ApiKey:
    """Return a key; raises `NotThere` for one that is not the asker's to know of."""
    k = asker.scope.of(api_keys)
    row = connection.execute(_query(k).where(k.c.id == key_id)).mappings().first()
    held = msgspec.convert(row, ApiKey) if row else None
    p = asker.principal
    if held is None or not (held.user_id == p.user_id or p.may(Permission.MANAGE_USERS)):
        raise NotThere(f"there is no API key {key_id!r}")
    return held


def _user(connection: Connection, asker: Asker, user_id: str | None) -> User:
    """Return for whom a key is made: oneself, or for who manages users, one of them."""
    if user_id in (None, asker.principal.user_id):
        user = user_by_id(connection, asker.principal.user_id)
    else:
        asker.principal.must(Permission.MANAGE_USERS)
        user = of_users.found(connection, user_id or "", asker.scope)
    if user is None or user.disabled_at:
        raise Conflict("that user is disabled: enable the user first")
    return user


def _record(connection: Connection, asker: Asker, action: Action, key: ApiKey) -> None:
    activity.record(connection, [asker.did(action, key.id, key.tenant_id or "")])
