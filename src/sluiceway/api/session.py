"""Signing in and out, one's own password, and who one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.responses import Response

from sluiceway import activity
from sluiceway.activity import Action, Event
from sluiceway.api.answers import Json, answers
from sluiceway.api.browser import address_of, check_own_page, give_cookie, take_cookie, token_of
from sluiceway.api.caller import principal_of, service_of
from sluiceway.api.problems import TooManyTries, Unauthorized
from sluiceway.errors import NotAllowed, NotThere
from sluiceway.outcome import timestamp
from sluiceway.tenancy.caller import Principal, authenticate_session
from sluiceway.tenancy.passwords import check, hashed
from sluiceway.tenancy.roles import ALLOWED, Permission, Role
from sluiceway.tenancy.sessions import NewSession, end_session
from sluiceway.tenancy.sign_in import (
    Claim,
    Wait,
    came_by_link,
    change_password,
    claim,
    forgive,
    let_in,
    let_in_by_link,
    renewed_hash,
)
from sluiceway.tenancy.users import User, user_by_id

router = APIRouter(prefix="/session", tags=["session"])

T = TypeVar("T")

Asking = Annotated[Principal, Depends(principal_of)]

WRONG: Final = "this e-mail and password do not go together"
"""Whoever it is: what is said must not tell which of the two is wrong."""

_hashing: Final = ThreadPoolExecutor(2, thread_name_prefix="sluiceway-passwords")
"""Each password takes 64 MiB while it is looked at, so a crowd of them waits here and holds up nothing else."""


class SignIn(BaseModel):
    """Who says to be whom."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"email": "ines@acme.example", "password": "seven grey herons"}]},
    )

    email: str = Field(max_length=320)
    password: str = Field(max_length=1000)


class PasswordAsked(BaseModel):
    """Another password of one's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"old": "seven grey herons", "new": "nine quiet harbours"}]},
    )

    old: str | None = Field(None, max_length=1000, description="The one so far; who has none yet leaves it out.")
    new: str = Field(max_length=1000, description="12 to 256 characters.")


class Who(msgspec.Struct, frozen=True):
    """Who is asking, and what they may do. A change asked for with the cookie brings `csrf_token` in `X-CSRF-Token`.

    With an API key there is no session: its fields are `null`. `sandbox_only`: came with a test key.
    """

    user_id: str
    email: str
    role: Role
    tenant_id: str | None
    permissions: list[Permission]
    has_password: bool
    sandbox_only: bool
    key_id: str | None
    csrf_token: str | None
    session_ends_at: str | None


def shown(principal: Principal, user: User) -> Who:
    """Return what somebody is told of themselves."""
    session = principal.session
    return Who(
        user_id=user.id,
        email=user.email,
        role=user.role,
        tenant_id=user.tenant_id,
        permissions=[permission for permission, roles in ALLOWED.items() if user.role in roles],
        has_password=user.has_password,
        sandbox_only=principal.sandbox_only,
        key_id=principal.key_id,
        csrf_token=session.csrf_token if session else None,
        session_ends_at=session.expires_at if session else None,
    )


@router.post(
    "",
    name="sign_in",
    **answers(Who, 201, problems=[429], description="Signed in; the answer sets the session's cookie."),
)
async def begin(asked: SignIn, request: Request) -> Response:
    """Sign a browser in with e-mail and password. It ends the session the browser had."""
    check_own_page(request)
    begun = await by_password(request, asked.email, asked.password)
    return give_cookie(request, Json(await _just_begun(request, begun), 201), begun)


@router.get("", name="read_session", **answers(Who))
async def read(request: Request, principal: Asking) -> Json:
    """Say who is asking, with a key or a session, and what they may do."""
    return Json(shown(principal, await user_of(request, principal)))


@router.delete("", name="sign_out", **answers(None, 204, description="Signed out."))
async def end(request: Request, principal: Asking) -> Response:
    """Sign this browser out."""
    _check_session(principal)
    return await signed_out(request, Response(status_code=204))


@router.put("/password", **answers(Who, problems=[429], description="Kept; the answer sets a new session's cookie."))
async def choose_password(asked: PasswordAsked, request: Request, principal: Asking) -> Response:
    """Choose another password. All other sessions of the user end, and this one goes on with a new cookie and token."""
    _check_session(principal)
    user = await user_of(request, principal)
    begun = await with_password(request, user, asked.new, old=asked.old or "")
    return give_cookie(request, Json(await _just_begun(request, begun)), begun)


def _check_session(principal: Principal) -> None:
    if principal.session is None:
        raise NotAllowed("this is for a browser that has signed in; an API key has no session")


async def user_of(request: Request, principal: Principal) -> User:
    """Return the user who is asking."""
    found = await service_of(request).main.read(user_by_id, principal.user_id)
    if found is None:
        raise NotThere("this user is gone")
    return found


async def _just_begun(request: Request, begun: NewSession) -> Who:
    main = service_of(request).main
    principal = await main.read(authenticate_session, begun.token, main.now)
    if principal is None:
        raise Unauthorized(WRONG)
    return shown(principal, await user_of(request, principal))


# What the pages in `signing_in.py` do as well.


async def by_password(request: Request, email: str, password: str) -> NewSession:
    """Begin a session with a password. Raises `Unauthorized` in one and the same words, and `TooManyTries`."""
    proven = await _proven(request, email, password)
    if proven is None:
        raise Unauthorized(WRONG)
    renewed = await _hashed(lambda: renewed_hash(proven, password))
    main, former = service_of(request).main, token_of(request)
    begin = _recorded(lambda connection: let_in(connection, proven, main.now, former=former, renewed=renewed), main.now)
    begun = await main.write(begin)
    if begun is None:
        raise Unauthorized(WRONG)
    return begun


async def by_link(request: Request, token: str) -> NewSession | None:
    """Begin the session a link stands for, which uses it up; `None` when it does not hold."""
    main, former = service_of(request).main, token_of(request)
    begin = _recorded(lambda connection: let_in_by_link(connection, token, main.now, former=former), main.now)
    return await main.write(begin)


async def with_password(
    request: Request, user: User, new: str, *, old: str = "", link: str | None = None
) -> NewSession:
    """Keep another password of a signed-in user, and return the one session that goes on.

    The old one is asked for, unless there is none or the user has just come by a link. Raises `BadInput` for a new one
    that is easy to guess, `NotAllowed` for a wrong old one, and `TooManyTries`.
    """
    main = service_of(request).main
    check(new, user.email)
    by_a_link = link is not None and await main.read(came_by_link, link, user.id, main.now)
    proven = None
    if user.has_password and not by_a_link:
        proven = await _proven(request, user.email, old)
        if proven is None:
            raise NotAllowed("the old password is another one")
    kept = await _hashed(lambda: hashed(new, user.email))

    def change(connection: Connection) -> NewSession:
        if proven is not None:
            forgive(connection, proven)
        return change_password(connection, user, kept, main.now)

    return await main.write(change)


async def signed_out(request: Request, response: Response) -> Response:
    """End the browser's session, and let it forget the cookie."""
    if token := token_of(request):
        await service_of(request).main.write(end_session, token)
    return take_cookie(request, response)


async def _proven(request: Request, email: str, password: str) -> Claim | None:
    """Hear a claim and look at its password, beside all transactions; `None` for a wrong one."""
    main = service_of(request).main
    heard = await main.write(claim, email, address_of(request), main.now)
    if isinstance(heard, Wait):
        raise TooManyTries(heard.seconds)
    return heard if await _hashed(lambda: heard.is_proven_by(password)) else None


async def _hashed(work: Callable[[], T]) -> T:
    """Do what takes fifty milliseconds of a processor on purpose."""
    return await asyncio.get_running_loop().run_in_executor(_hashing, work)


def _recorded(
    begin: Callable[[Connection], NewSession | None], now: datetime
) -> Callable[[Connection], NewSession | None]:
    """Return what begins a session and records the login, in one transaction."""

    def both(connection: Connection) -> NewSession | None:
        begun = begin(connection)
        user = user_by_id(connection, begun.session.user_id) if begun else None
        if user is not None:
            activity.record(connection, [Event(Action.LOGIN, user.tenant_id or "", user.id, timestamp(now))])
        return begun

    return both
