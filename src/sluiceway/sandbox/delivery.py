"""Bring an answer to the client, or fail to in one of the ways networks fail.

aiohttp's low-level server asks an answer for three things only (`prepare`, `write_eof`, `keep_alive`), so ours write
their bytes straight to the connection. That is what lets one core answer thousands of requests in a second, and what
lets an answer break off in the middle, which no well-meaning response class would do.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aiohttp import web

    from sluiceway.sandbox.wire import Answer

How = Literal["whole", "half", "reset", "held for ever", "huge"]
# Windows and POSIX disagree about the width of this structure's two numbers
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
_CHUNK = b"x" * 65_536


@dataclass(slots=True)
class Delivery:
    """An answer, how much of it arrives, and after how long."""

    answer: Answer
    how: How = "whole"
    delay_s: float = 0.0
    megabytes: int = 0
    keep_alive: bool = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write whatever is to arrive."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self.keep_alive = request.keep_alive and self.how in ("whole", "huge")
        match self.how:
            case "whole":
                head = self.answer.head(len(self.answer.body), keep_alive=self.keep_alive)
                transport.write(head + self.answer.body)
            case "half":
                body = self.answer.body
                transport.write(self.answer.head(len(body)) + body[: len(body) // 2])
            case "huge":
                await self._flood(transport)
            case "held for ever":
                await asyncio.Event().wait()  # until the client hangs up, which cancels us
            case "reset":
                _reset(transport)
                raise ConnectionResetError("reset on purpose")

    async def write_eof(self) -> None:
        """Finish; everything was written before."""

    async def _flood(self, transport: asyncio.Transport) -> None:
        """Send far more than anyone asked for, without saying beforehand how much."""
        head = self.answer.head(0, keep_alive=self.keep_alive)
        transport.write(head.replace(b"content-length: 0", b"transfer-encoding: chunked") + _chunk(b'{"padding":"'))
        for _ in range(self.megabytes * (1 << 20) // len(_CHUNK)):
            await _drained(transport)
            transport.write(_chunk(_CHUNK))
        transport.write(_chunk(b'"}') + _chunk(b""))


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part)


async def _drained(transport: asyncio.Transport) -> None:
    while transport.get_write_buffer_size() > len(_CHUNK):
        if transport.is_closing():
            raise ConnectionResetError("the client has had enough")
        await asyncio.sleep(0.001)


def _reset(transport: asyncio.Transport) -> None:
    """Close so that the client sees a reset and not a polite end."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
