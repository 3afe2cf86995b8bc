"""The door: exactly one request per call, and an error that says whether it left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sluiceway.errors import CallTimedOut, LostAnswer, NotSent, ProviderChanged
from sluiceway.sources import Request
from sluiceway.sources._http import Door, request_url
from sluiceway.sources.apollo import Apollo

APOLLO = Apollo("a-key")
GET = Request("documents", "GET", "/documents/1")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def provider(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen on loopback, keep every request's head, and have the n-th (from 1) answered by `answer`."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await answer(len(heads), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_a_get_on_a_connection_that_died_is_not_sent_again_behind_our_back() -> None:
    async def answer(count: int, writer: asyncio.StreamWriter) -> None:
        if count == 1:
            writer.write(OK)
        else:
            writer.transport.abort()

    async with provider(answer) as (url, heads), Door() as door:
        assert (await door.send(APOLLO, GET, url, 5)).body == b"ok"
        with pytest.raises(LostAnswer):
            await door.send(APOLLO, GET, url, 5)
        assert len(heads) == 2


async def test_a_redirect_is_an_answer_and_not_another_request() -> None:
    async def answer(_count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    async with provider(answer) as (url, heads), Door() as door:
        assert (await door.send(APOLLO, GET, url, 5)).status == 302
        assert len(heads) == 1


async def test_a_refused_connection_provably_sent_nothing() -> None:
    async def answer(_count: int, _writer: asyncio.StreamWriter) -> None:
        pass

    async with provider(answer) as (url, _heads):
        pass
    async with Door() as door:
        with pytest.raises(NotSent, match="cannot connect"):
            await door.send(APOLLO, GET, url, 5)


async def test_a_name_that_nobody_knows_provably_sent_nothing() -> None:
    async with Door() as door:
        with pytest.raises(NotSent):
            await door.send(APOLLO, GET, "http://nobody.invalid", 5)


async def test_an_answer_that_does_not_come_in_time_may_have_been_billed() -> None:
    async def answer(_count: int, _writer: asyncio.StreamWriter) -> None:
        pass

    async with provider(answer) as (url, heads), Door() as door:
        with pytest.raises(CallTimedOut):
            await door.send(APOLLO, GET, url, 0.1)
        assert len(heads) == 1


@pytest.mark.parametrize(
    "cut",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf", b"nonsense\r\n\r\n"],
)
async def test_an_answer_that_breaks_off_may_have_been_billed(cut: bytes) -> None:
    async def answer(_count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(cut)
        writer.close()

    async with provider(answer) as (url, heads), Door() as door:
        with pytest.raises(LostAnswer):
            await door.send(APOLLO, GET, url, 5)
        assert len(heads) == 1


@pytest.mark.parametrize("head", [b"content-length: 5000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n1388\r\n"])
async def test_a_body_over_the_limit_is_refused_and_never_held_whole(head: bytes) -> None:
    async def answer(_count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 5000)

    async with provider(answer) as (url, _heads), Door(body_limit=1000) as door:
        with pytest.raises(ProviderChanged, match="over 1,000 bytes"):
            await door.send(APOLLO, GET, url, 5)


def test_parameters_are_encoded_so_that_the_provider_reads_what_was_meant() -> None:
    request = Request("people/match", "POST", "/people/match", (("name", "Ann & Bob +1"), ("email", "a+b@c.example")))
    query = request_url("http://x.example", request).query
    assert dict(query) == {"name": "Ann & Bob +1", "email": "a+b@c.example"}
