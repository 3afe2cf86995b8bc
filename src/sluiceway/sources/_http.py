"""The one door to the providers: exactly one request per call, and an error that says whether it left.

Built on aiohttp, whose client would on its own repeat a GET after a dropped keep-alive connection, follow redirects
and wait for ever; here each is switched off or bounded, because every request must have its row in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Self

import aiohttp
from yarl import URL

from sluiceway.crash import armed, crash_point
from sluiceway.errors import CallTimedOut, LostAnswer, NotSent, ProviderChanged
from sluiceway.sources._contract import Request, Response, Source

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer's body, decompressed, that are read; SEC's ticker map is the largest that we know, at 0.8 MB."""

_CONNECT_S = 10.0
_KEEPALIVE_S = 15.0
_KEPT_HEADERS = ("content-type", "etag", "retry-after", "request-id", "x-request-id")
"""What readers use, beside what their source names for its meters; the rest is not worth carrying."""


class Door:
    """Send requests to providers. An async context manager; entered once per process."""

    def __init__(self, *, body_limit: int = BODY_LIMIT) -> None:
        self._body_limit = body_limit
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trace_configs=[_crash_when_sent()] if armed() else None,
        )
        # A GET whose kept-alive connection turned out to be dead would be sent again behind our back, and the
        # public interface has no switch for it; tests/sources/test_http.py fails if this one stops working.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, source: Source, request: Request, base_url: str, timeout_s: float) -> Response:
        """Send one request and return its complete answer, whatever its status.

        Raises `NotSent` when it provably never left, `CallTimedOut` after `timeout_s` seconds, `LostAnswer` when the
        connection ended before the answer was complete, and `ProviderChanged` when the body is over the limit.
        """
        if self._session is None:
            raise NotSent("the HTTP client is not open")
        try:
            async with self._session.request(
                request.method,
                request_url(base_url, request),
                data=request.body,
                headers=request_headers(source, request),
                allow_redirects=False,
                timeout=_timeout(timeout_s),
            ) as answer:
                content = await self._body(answer)
                return Response(answer.status, _kept(answer.headers, source), content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotSent(f"cannot connect: {_reason(error)}") from error
        except TimeoutError as error:
            raise CallTimedOut(f"no complete answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise LostAnswer(f"the connection ended before the answer was complete: {_reason(error)}") from error

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        announced = answer.content_length
        if announced is not None and announced <= self._body_limit and "content-encoding" not in answer.headers:
            return await answer.read()
        pieces, size = [], 0
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > self._body_limit:
                answer.close()
                raise ProviderChanged(f"HTTP {answer.status}: the answer is over {self._body_limit:,} bytes; refused")
        return b"".join(pieces)


def request_url(base_url: str, request: Request) -> URL:
    """Return the whole address a request goes to."""
    address = _address(base_url + request.path)
    return address.with_query(request.query) if request.query else address


@lru_cache(maxsize=256)
def _address(text: str) -> URL:
    return URL(text, encoded=True)


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, connect=min(_CONNECT_S, seconds))


def request_headers(source: Source, request: Request) -> dict[str, str]:
    """Return the headers a request carries, its credential among them."""
    headers = {**source.headers(), **request.headers}
    if request.body is not None and "content-type" not in headers:
        headers["content-type"] = "application/json"
    return headers


def _kept(headers: Mapping[str, str], source: Source) -> dict[str, str]:
    return {name: headers[name] for name in (*_KEPT_HEADERS, *source.meter_headers) if name in headers}


def _reason(error: BaseException) -> str:
    """Describe a client error without its URL, whose query may carry the person."""
    cause = getattr(error, "os_error", None) or error
    return str(cause) or type(error).__name__


def _crash_when_sent() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def sent(session: object, context: SimpleNamespace, params: object) -> None:
        # A moment later the bytes are in the kernel's hands, so the provider gets them even if we die here.
        asyncio.get_running_loop().call_later(0.001, crash_point, "call.sent")

    trace.on_request_headers_sent.append(sent)
    return trace
