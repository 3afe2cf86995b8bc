"""The tests themselves: nothing they do reaches another machine."""

from __future__ import annotations

import socket

import pytest

from sluiceway.errors import NotSent
from sluiceway.sources import choose
from sluiceway.sources._contract import Request
from sluiceway.sources._http import Door


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_no_test_connects_to_another_machine(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as connecting, pytest.raises(RuntimeError, match="a test tried to connect to"):
        connecting.connect(address)


async def test_a_request_to_a_real_provider_provably_never_leaves() -> None:
    source = choose(["apollo"])["apollo"]("a-key")
    async with Door() as door:
        with pytest.raises(NotSent, match="cannot connect"):
            await door.send(source, Request("match", "POST", "/people/match"), source.hosts[""], 5.0)
