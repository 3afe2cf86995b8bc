"""How large a request may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Served

from sluiceway.api.bodies import LARGEST


def in_pieces() -> Iterator[bytes]:
    """A body that does not say how large it is."""
    for _ in range(LARGEST // 100_000 + 1):
        yield b" " * 100_000


@pytest.mark.parametrize("path", ["/session", "/batches", "/prospects/bulk"])
def test_what_is_too_large_is_refused_whether_it_says_so_or_not(served: Served, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b" " * (LARGEST + 1), in_pieces()):
        answer = served.ask("POST", path, data=body, headers=headers)
        assert answer.status_code == 413, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "2 MB at most" in answer.json()["detail"]


def test_what_is_just_small_enough_is_read(served: Served) -> None:
    body = b'{"filter": {}, "dry_run": true}'.ljust(LARGEST)
    headers = {"Content-Type": "application/json"}
    assert served.ask("POST", "/batches", data=body, headers=headers).status_code == 200
