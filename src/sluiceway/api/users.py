"""Users: who may sign in, as what; letting them in and keeping them out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from sluiceway import activity
from sluiceway.activity import Action
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_manages
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.errors import Conflict, NotAllowed, NotThere
from sluiceway.outcome import timestamp
from sluiceway.store.schema import users
from sluiceway.tenancy.roles import Permission, Role
from sluiceway.tenancy.scope import Scope
from sluiceway.tenancy.sign_in import LINK_HOLDS, link_url, make_link
from sluiceway.tenancy.users import User, add_user, disable_user, enable_user, set_role, user_from

router = APIRouter(prefix="/users", tags=["users"])

Manager = Annotated[Asker, who_manages(Permission.MANAGE_USERS)]

TenantId = Annotated[str | None, Field(max_length=200, description="Only a super admin names another tenant.")]


class UserAsked(BaseModel):
    """Somebody who may sign in from now on."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "tomas@acme.example", "role": "agent"}]}
    )

    email: str = Field(max_length=320)
    role: Role = Role.AGENT


class RoleAsked(BaseModel):
    """What a user is from now on, and where: by default, in the tenant they are in."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "assistant"}]})

    role: Role
    tenant_id: TenantId = None


class SignInLink(msgspec.Struct, frozen=True):
    """A link that signs a user in once. Whoever has it is the user: pass it on with care."""

    email: str
    url: str
    expires_at: str


def found(connection: Connection, user_id: str, scope: Scope) -> User:
    """Return a user; raises `NotThere` for one that is nobody, or another tenant's."""
    u = scope.of(users)
    row = connection.execute(select(u).where(u.c.id == user_id)).first()
    if row is None:
        raise NotThere(f"there is no user {user_id!r}")
    return user_from(row)


def page_of(connection: Connection, last: str, limit: int, *, scope: Scope) -> Page[User]:
    """Return users by e-mail."""
    u = scope.of(users)
    query = select(u).where(u.c.email > last).order_by(u.c.email).limit(limit + 1)
    rows = [user_from(row) for row in connection.execute(query)]
    return Page(rows[:limit], cursor(rows[limit - 1].email) if len(rows) > limit else None)


@router.get("", **answers(Page[User]))
async def list_users(asker: Manager, limit: Limit = 50, cursor_text: CursorText = None) -> Json:
    """List users by e-mail: the tenant's, or for a super admin who names none, all."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, start[0] if start else "", limit, scope=asker.scope))


@router.post("", name="add_user", **answers(User, 201, description="Made."))
async def add(asked: UserAsked, asker: Manager) -> Json:
    """Make a user, who has no password yet: a sign-in link is the way in.

    An e-mail is one user's on the whole platform, so one that is taken is refused, whoever has it.
    """
    _check_may_make(asker, asked.role)
    tenant_id = asker.scope.tenant_id if asked.role is Role.SUPER_ADMIN else asker.tenant_id

    def make(connection: Connection) -> User:
        made = add_user(connection, asked.email, asked.role, tenant_id, **_by(asker))
        return _changed(connection, asker, made)

    return Json(await asker.world.write(make), 201)


@router.put("/{user_id}/role", name="change_user_role", **answers(User, problems=[404, 409]))
async def change_role(user_id: str, asked: RoleAsked, asker: Manager) -> Json:
    """Make a user something else. Their sessions end; in another tenant, their API keys are revoked too."""
    _check_may_make(asker, asked.role)
    if asker.principal.tenant_id is not None and asked.tenant_id not in (None, asker.principal.tenant_id):
        raise NotAllowed("that tenant is not yours")

    def change(connection: Connection) -> User:
        user = found(connection, user_id, asker.scope)
        stays = None if asked.role is Role.SUPER_ADMIN else user.tenant_id
        tenant_id = asked.tenant_id if asked.tenant_id is not None else stays
        return _changed(connection, asker, set_role(connection, user, asked.role, tenant_id, **_by(asker)))

    return Json(await asker.world.write(change))


@router.post("/{user_id}/disable", name="disable_user", **answers(User, problems=[404, 409]))
async def disable(user_id: str, asker: Manager) -> Json:
    """Keep a user out: sessions and links end at once, and API keys do not work while it lasts."""

    def change(connection: Connection) -> User:
        user = found(connection, user_id, asker.scope)
        return _changed(connection, asker, disable_user(connection, user, **_by(asker)))

    return Json(await asker.world.write(change))


@router.post("/{user_id}/enable", name="enable_user", **answers(User, problems=[404]))
async def enable(user_id: str, asker: Manager) -> Json:
    """Let a user in again."""

    def change(connection: Connection) -> User:
        user = found(connection, user_id, asker.scope)
        return _changed(connection, asker, enable_user(connection, user, **_by(asker)))

    return Json(await asker.world.write(change))


@router.post(
    "/{user_id}/sign-in-link",
    name="make_sign_in_link",
    **answers(SignInLink, 201, problems=[404, 409], description="Made."),
)
async def sign_in_link(user_id: str, asker: Manager) -> Json:
    """Make a link that signs a user in once, within an hour. An earlier link of the user is void."""

    def make(connection: Connection) -> SignInLink:
        user, now = found(connection, user_id, asker.scope), asker.world.now
        if user.disabled_at:
            raise Conflict(f"{user.email} is disabled: enable the user first")
        token = make_link(connection, user, by=asker.principal.actor, now=now)
        return SignInLink(user.email, link_url(asker.world.settings.public_url, token), timestamp(now + LINK_HOLDS))

    return Json(await asker.world.write(make), 201)


def _check_may_make(asker: Asker, role: Role) -> None:
    """Only who operates the platform makes others who do."""
    if role is Role.SUPER_ADMIN:
        asker.principal.must(Permission.MANAGE_TENANTS)


def _by(asker: Asker) -> dict[str, Any]:
    return {"by": asker.principal.actor, "now": asker.world.now}


def _changed(connection: Connection, asker: Asker, user: User) -> User:
    activity.record(connection, [asker.did(Action.USER_CHANGED, user.id, user.tenant_id or "")])
    return user
