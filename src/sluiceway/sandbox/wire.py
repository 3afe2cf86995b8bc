"""One request and one answer, as the imitated providers see them: plain values with no server behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote_plus

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Bend = Literal[
    "bad-key", "revoked", "no-scope", "out-of-credits", "canned", "namesake", "ungrounded", "refusal", "throttled"
]
Headers = tuple[tuple[str, str], ...]

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site Overloaded"}


@dataclass(slots=True)
class Ask:
    """What a client sent; `path` is what follows the provider's prefix."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes = b""
    number: int = 0
    _query: dict[str, str] | None = field(default=None, repr=False)

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the last of each name."""
        if self._query is None:
            pairs = (pair.partition("=") for pair in self.query_string.split("&") if pair)
            self._query = {_unquoted(name): _unquoted(value) for name, _, value in pairs}
        return self._query

    def json(self) -> Any:
        """Read the body as JSON; None if there is none or it cannot be read."""
        if not self.body:
            return None
        try:
            return _decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider decided to say."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Headers = ()

    def head(self, length: int, *, keep_alive: bool = True) -> bytes:
        """Write the status line and the headers for a body of this length."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if self.status != HTTPStatus.NOT_MODIFIED:  # which has no body to describe
            lines += (f"content-type: {self.content_type}", f"content-length: {length}")
        if not keep_alive:
            lines.append("connection: close")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


class Provider(Protocol):
    """What the server needs of an imitated provider."""

    name: str

    def credential(self, ask: Ask) -> str:
        """Say which key the request carries, "" for none."""

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer, bent in one way or straight."""

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a 429 or a 5xx as this provider does."""


def _unquoted(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def json_answer(status: int, content: object, headers: Headers = ()) -> Answer:
    """Answer with JSON."""
    return Answer(status, encode(content), "application/json; charset=utf-8", headers)


def judge_key(key: str) -> Bend | None:
    """Read off a key what should happen to whoever uses it; None if nothing.

    Keys are invented, so their text says what they are for: `sandbox-revoked`, `sandbox-out-of-credits` and so on.
    """
    if not key or "mistyped" in key or "wrong" in key:
        return "bad-key"
    for bend in _KEY_WORDS:
        if bend in key:
            return bend
    return None


_KEY_WORDS: tuple[Bend, ...] = ("revoked", "out-of-credits", "no-scope", "canned")
