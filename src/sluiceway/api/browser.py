"""What a request tells of the browser or program behind it: its session's cookie, its address, which page sent it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from sluiceway.api.caller import COOKIE, service_of
from sluiceway.errors import NotAllowed
from sluiceway.settings import Settings
from sluiceway.tenancy.sessions import LONGEST, NewSession

_OWN: Final = frozenset({"same-origin", "none"})


def token_of(request: Request) -> str | None:
    """Return the token of the session that the browser has, if any."""
    return request.cookies.get(COOKIE)


def give_cookie(request: Request, response: Response, begun: NewSession) -> Response:
    """Let the browser keep a session. Over plain http only where that is how people reach us."""
    age_s = int(LONGEST.total_seconds())
    secure = is_https(_settings(request))
    response.set_cookie(COOKIE, begun.token, max_age=age_s, path="/", secure=secure, httponly=True, samesite="lax")
    return response


def take_cookie(request: Request, response: Response) -> Response:
    """Let the browser forget its session."""
    response.delete_cookie(COOKIE, path="/", secure=is_https(_settings(request)), httponly=True, samesite="lax")
    return response


def is_https(settings: Settings) -> bool:
    """Tell whether people reach us over https, whatever reaches this process."""
    return settings.public_url.lower().startswith("https://")


def check_own_page(request: Request) -> None:
    """Go on only with what one of our own pages sends, or no browser at all.

    Where nobody is signed in there is no token to ask for, and another site could sign somebody in as its own user
    (login CSRF). Browsers say where a request comes from, and no page can change what they say.
    """
    if not _is_ours(request):
        raise NotAllowed("that came from another site's page: sign in on a page of ours")


def _is_ours(request: Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in _OWN
    return origin is None or _is_our_origin(request, origin)


def _is_our_origin(request: Request, origin: str) -> bool:
    said, public = urlsplit(origin), urlsplit(_settings(request).public_url)
    return said.netloc == request.headers.get("host") or (said.scheme, said.netloc) == (public.scheme, public.netloc)


def address_of(request: Request) -> str:
    """Return from where somebody asks: the socket's peer, or for whom a proxy of ours says it forwards."""
    peer = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    believed = _is_address(forwarded) and _is_among(peer, _settings(request).trusted_proxies)
    return forwarded if believed else peer


def _is_among(peer: str, proxies: tuple[str, ...]) -> bool:
    return _is_address(peer) and any(ip_address(peer) in ip_network(each) for each in proxies)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _settings(request: Request) -> Settings:
    return service_of(request).main.settings
