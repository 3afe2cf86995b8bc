"""The pages on which people sign in, by a link or with a password, and choose a password. They need no JavaScript.

A link is used up by the button on its page, not by opening it: mail scanners and chat previews open links too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sluiceway.api.browser import check_own_page, give_cookie, token_of
from sluiceway.api.caller import service_of
from sluiceway.api.pages import field, form, hidden, page, text, wrong
from sluiceway.api.problems import TooManyTries, Unauthorized, retry_after
from sluiceway.api.session import by_link, by_password, signed_out, user_of, with_password
from sluiceway.errors import BadInput, NotAllowed
from sluiceway.tenancy.caller import Principal, authenticate_session
from sluiceway.tenancy.passwords import SHORTEST
from sluiceway.tenancy.sessions import NewSession
from sluiceway.tenancy.users import User

router = APIRouter(prefix="/sign-in", include_in_schema=False, default_response_class=HTMLResponse)

_LARGEST: Final = 16_384
_MOST_FIELDS: Final = 10
_WELCOME: Final = "/sign-in/welcome"


async def filled_in(request: Request) -> Mapping[str, str]:
    """Return what a form of ours was filled in with. Raises `NotAllowed` for another site's."""
    check_own_page(request)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise HTTPException(413, "that is more than these forms hold")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise BadInput("that is no form of ours") from None


Filled = Annotated[Mapping[str, str], Depends(filled_in)]


# With a password.


@router.get("")
async def sign_in_page() -> Response:
    """Ask for e-mail and password."""
    return _sign_in_page()


def _sign_in_page(
    email: str = "", said: str = "", status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    fields = field("email", "E-mail", "username", "text", email), field("password", "Password", "current-password")
    hint = text("Forgot it, or never had one? Ask your administrator for a sign-in link.")
    return page("Sign in", wrong(said), form("/sign-in", "Sign in", *fields), hint, status=status, headers=headers)


@router.post("")
async def sign_in(filled: Filled, request: Request) -> Response:
    """Sign in with a password."""
    email = filled.get("email", "")
    try:
        begun = await by_password(request, email, filled.get("password", ""))
    except Unauthorized as error:
        return _sign_in_page(email, str(error), 401)
    except TooManyTries as error:
        return _sign_in_page(email, str(error), 429, retry_after(error.seconds))
    return give_cookie(request, RedirectResponse(_WELCOME, 303), begun)


# Being signed in.


@router.get("/welcome")
async def welcome(request: Request) -> Response:
    """Say who is signed in, and where to go on."""
    principal = await _signed_in(request)
    if principal is None:
        return RedirectResponse("/sign-in", 303)
    return _welcome(principal, await user_of(request, principal))


@router.post("/password")
async def choose_password(filled: Filled, request: Request) -> Response:
    """Keep the password that somebody chose."""
    principal = await _signed_in(request)
    if principal is None:
        return RedirectResponse("/sign-in", 303)
    _check_form(principal, filled)
    user, link = await user_of(request, principal), filled.get("link")
    try:
        begun = await with_password(request, user, filled.get("new", ""), old=filled.get("old", ""), link=link)
    except (BadInput, NotAllowed) as error:
        return _welcome(principal, user, link=link, said=str(error), status=422)
    except TooManyTries as error:
        return _welcome(principal, user, link=link, said=str(error), status=429, headers=retry_after(error.seconds))
    return give_cookie(request, RedirectResponse(_WELCOME, 303), begun)


@router.post("/out")
async def sign_out(filled: Filled, request: Request) -> Response:
    """Sign this browser out."""
    principal = await _signed_in(request)
    if principal is not None:
        _check_form(principal, filled)
    return await signed_out(request, RedirectResponse("/sign-in", 303))


async def _signed_in(request: Request, token: str | None = None) -> Principal | None:
    main, token = service_of(request).main, token or token_of(request)
    return await main.read(authenticate_session, token, main.now) if token else None


def _check_form(principal: Principal, filled: Mapping[str, str]) -> None:
    if principal.session is None or not principal.session.accepts(filled.get("csrf_token", "")):
        raise NotAllowed("this form is of a session that is over: open the page again")


def _welcome(
    principal: Principal,
    user: User,
    *,
    link: str | None = None,
    said: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Show who is signed in. `link` is what they have just come by: it stands in for the old password."""
    token = hidden("csrf_token", principal.session.csrf_token if principal.session else "")
    whose = f"in tenant {user.tenant_id}" if user.tenant_id else "and operate the platform"
    asks_old = user.has_password and not link
    fields = (
        token,
        hidden("link", link) if link else "",
        field("old", "Old password", "current-password") if asks_old else "",
        field("new", f"New password, of {SHORTEST} characters or more", "new-password"),
    )
    return page(
        "You are signed in",
        text(f"You are {user.email}, {user.role.replace('_', ' ')}, {whose}."),
        f"<h2>{'Choose another password' if user.has_password else 'Choose a password'}</h2>",
        wrong(said),
        form("/sign-in/password", "Keep this password", *fields),
        "<h2>Go on</h2>",
        '<p>The API is described at <a href="/api/openapi.json">/api/openapi.json</a>, and its answers begin below '
        "<code>/api/v1</code>. At the machine, <code>sluiceway --help</code> lists the commands.</p>",
        form("/sign-in/out", "Sign out", token),
        status=status,
        headers=headers,
    )


# By a link. Last, because a token may be any text.


@router.get("/{token}")
async def link_page(token: str) -> Response:
    """Show the button that uses a link up."""
    return page("Sign in", text("This link signs you in once."), form(f"/sign-in/{token}", "Sign in"))


@router.post("/{token}")
async def use_link(token: str, filled: Filled, request: Request) -> Response:
    """Use a link up, and begin the session it stands for."""
    begun = await by_link(request, token)
    if begun is None:
        return page(
            "This link does not hold",
            text("It was used already, is too old, or was replaced by a newer one. Ask for another."),
            '<p>With a password, you can <a href="/sign-in">sign in</a> without one.</p>',
            status=410,
        )
    return await _after_link(request, begun, token)


async def _after_link(request: Request, begun: NewSession, link: str) -> Response:
    principal = await _signed_in(request, begun.token)
    if principal is None:
        return RedirectResponse("/sign-in", 303)
    shown = _welcome(principal, await user_of(request, principal), link=link)
    return give_cookie(request, shown, begun)
