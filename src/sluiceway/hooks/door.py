"""The door to receivers: one signed request, to an address that may be called, and what came back.

Nothing is learnt from an answer but its status: redirects are not followed, and hardly anything of a body is read.
"""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sluiceway.errors import BadInput
from sluiceway.hooks.address import Allowed, address_in, checked_url
from sluiceway.hooks.letter import Letter, Reply
from sluiceway.hooks.signature import DELIVERY, EVENT, SIGNATURE, signature

WITHIN_S: Final = 10.0
"""Seconds a receiver has to answer."""

_READ_AT_MOST: Final = 64 * 1024
_AGENT: Final = "Sluiceway"

_LOOKING_UP: Final = ThreadPoolExecutor(64, thread_name_prefix="sluiceway-look-up")
"""Threads of their own: a name whose server does not answer holds one for half a minute, and others have to go on."""


async def send(letter: Letter, allowed: Allowed, *, within_s: float = WITHIN_S) -> Reply:
    """Send a letter once; never raises for anything that a receiver, or the way there, does."""
    try:
        async with asyncio.timeout(within_s):
            url = await checked(letter.url, allowed)
            return await _post(url, letter, allowed)
    except BadInput as error:
        return Reply(None, str(error))
    except TimeoutError:
        return Reply(None, f"no answer within {within_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Reply(None, f"no answer: {_reason(error)}")


async def checked(text: str, allowed: Allowed) -> URL:
    """Return an address that may be called. Raises `BadInput` for one that may not."""
    return await asyncio.get_running_loop().run_in_executor(_LOOKING_UP, checked_url, text, allowed)


class _Resolver(AbstractResolver):
    """Looks names up for connections, without keeping the threads that everything else needs."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        looking = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_LOOKING_UP, looking)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _post(url: URL, letter: Letter, allowed: Allowed) -> Reply:
    refused: list[str] = []
    connector = aiohttp.TCPConnector(
        force_close=True,
        use_dns_cache=False,
        resolver=_Resolver(),
        socket_factory=partial(_socket, allowed.host(url), allowed, refused),
    )
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        try:
            async with session.post(url, data=letter.body, headers=_headers(letter), allow_redirects=False) as answer:
                await answer.content.read(_READ_AT_MOST)
                return _reply(answer.status)
        except aiohttp.ClientConnectorError:
            if refused:
                return Reply(None, f"{url.host} leads to {refused[0]}, which may not be called")
            raise


def _socket(
    by_name: bool,
    allowed: Allowed,
    refused: list[str],
    info: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]],
) -> socket.socket:
    """Make the socket for a connection; here the address is known that it is really made to."""
    address = address_in(info)
    if not by_name and not allowed.address(address):
        refused.append(str(address))
        raise OSError(f"{address} may not be called")
    return socket.socket(info[0], info[1], info[2])


def _headers(letter: Letter) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        DELIVERY: letter.delivery_id,
        EVENT: letter.event,
        SIGNATURE: signature(letter.secret, int(time.time()), letter.body),
    }


def _reply(status: int) -> Reply:
    if 200 <= status < 300:
        return Reply(status)
    moved = " (redirects are not followed)" if 300 <= status < 400 else ""
    return Reply(status, f"HTTP {status}{moved}")


def _reason(error: BaseException) -> str:
    """Describe an error without the address, which may be a secret."""
    cause = getattr(error, "os_error", None)
    return (cause and cause.strerror) or type(error).__name__
