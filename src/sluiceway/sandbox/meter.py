"""Count what the providers would put on the bill.

This is the referee: the ledger is compared with it, so it shares no code and no price with anything else in Sluiceway,
the rest of the sandbox included. It reads the answers the sandbox decided to give, by rules and prices written out here
a second time. A request is booked when its answer is decided and before the first byte of it is written: a client that
hangs up, times out or is cut off has spent the money all the same.

Credits are integer milli-credits (one credit is 1000), money is integer micro-dollars, rounded up per request.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

CREDIT = 1000
APOLLO_CREDIT_USD = 26_000
CONTACTOUT_USD = {"search": 20_000, "email": 150_000, "phone": 250_000}
PERSONAL_EMAIL_USD = 250_000  # for the e-mail credit, when a personal address is among what came back
LONG_PROMPT = 100_000
# micro-dollars per million tokens: in, out
CLAUDE_USD = {
    "claude-haiku-5-5": (100_000, 500_000),
    "claude-haiku-5-5 long": (500_000, 2_500_000),
    "claude-haiku-4-5": (1_000_000, 5_000_000),
    "claude-sonnet-5": (2_000_000, 10_000_000),
    "claude-opus-5-5": (4_000_000, 20_000_000),
    "claude-opus": (5_000_000, 25_000_000),
    "claude-fable": (10_000_000, 50_000_000),
}
_STARTS_WITH_PERSON = re.compile(rb'\s*\{\s*"person"\s*:\s*\{')
PAID = ("apollo", "contactout", "exa", "claude")
PROVIDERS = ("apollo", "contactout", "exa", "edgar", "claude")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client sent, as far as it decides whether two requests are the same one."""

    method: str
    path: str
    query: str
    body: bytes
    credential: str


@dataclass(slots=True)
class Cost:
    """What one request costs; `counted` says whether the provider counts it at all."""

    counted: bool = False
    usd_micros: int = 0
    credits: int = 0
    pools: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """One provider's column of the meter."""

    requests: int = 0
    answered: int = 0
    billed: int = 0
    credits: int = 0
    usd_micros: int = 0
    repeated_requests: int = 0
    repeated_billed: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)


class DigestSet:
    """Remember millions of requests in about nine bytes each."""

    _SHELVES = 4096

    def __init__(self) -> None:
        self._shelves = [array("Q") for _ in range(self._SHELVES)]

    def __contains__(self, digest: int) -> bool:
        shelf = self._shelves[digest % self._SHELVES]
        at = bisect_left(shelf, digest)
        return at < len(shelf) and shelf[at] == digest

    def add(self, digest: int) -> None:
        """Remember one digest; a second time changes nothing."""
        shelf = self._shelves[digest % self._SHELVES]
        at = bisect_left(shelf, digest)
        if at == len(shelf) or shelf[at] != digest:
            shelf.insert(at, digest)


class Meter:
    """The bill of all five providers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again at zero, and forget which requests were already billed."""
        self._tallies = {provider: Tally() for provider in PROVIDERS}
        self._billed_before = DigestSet()

    def received(self, provider: str) -> None:
        """Count a request whose head has arrived."""
        self._tallies[provider].requests += 1

    def decided(
        self,
        provider: str,
        asked: Asked,
        *,
        did: tuple[int, bytes] | None,
        wrote: int | None,
        billed: bool | None = None,
    ) -> None:
        """Book a request by what the provider did for it and what it is about to write.

        `did` is the status and body the provider worked out, None if it never began. `wrote` is the status of the
        whole answer that is to be written, None if the client gets nothing or a part. `billed` False forgives it.
        """
        cost = Cost() if did is None or billed is False else cost_of(provider, asked, *did)
        self._book(provider, asked, cost, wrote)

    def told(self, provider: str, asked: Asked, *, wrote: int | None, cost: Cost) -> None:
        """Book a request at a cost somebody else has set."""
        self._book(provider, asked, cost, wrote)

    def reading(self) -> dict[str, Any]:
        """Show the meter."""
        providers = {name: _column(tally, name) for name, tally in self._tallies.items()}
        return {
            "providers": providers,
            "repeated_requests": sum(tally.repeated_requests for tally in self._tallies.values()),
            "repeated_billed": sum(tally.repeated_billed for tally in self._tallies.values()),
        }

    def _book(self, provider: str, asked: Asked, cost: Cost, wrote: int | None) -> None:
        tally = self._tallies[provider]
        if wrote is not None:
            tally.answered += 1
            tally.by_status[str(wrote)] = tally.by_status.get(str(wrote), 0) + 1
        tally.billed += cost.counted
        tally.credits += cost.credits
        tally.usd_micros += cost.usd_micros
        for pool, amount in cost.pools.items():
            tally.pools[pool] = tally.pools.get(pool, 0) + amount
        if provider in PAID:
            self._compare(tally, digest_of(provider, asked), cost.counted)

    def _compare(self, tally: Tally, digest: int, counted: bool) -> None:
        if digest in self._billed_before:
            tally.repeated_requests += 1
            tally.repeated_billed += counted
        elif counted:
            self._billed_before.add(digest)


def _column(tally: Tally, provider: str) -> dict[str, Any]:
    column: dict[str, Any] = {
        "requests": tally.requests,
        "answered": tally.answered,
        "billed": tally.billed,
        "credits": tally.credits,
        "usd_micros": tally.usd_micros,
        "repeated_requests": tally.repeated_requests,
        "repeated_billed": tally.repeated_billed,
        "by_status": dict(sorted(tally.by_status.items())),
    }
    if provider == "contactout":
        column["pools"] = {pool: tally.pools.get(pool, 0) for pool in CONTACTOUT_USD}
    return column


def digest_of(provider: str, asked: Asked) -> int:
    """Reduce a request to eight bytes, the same for the same parameters in any order."""
    query = "&".join(sorted(asked.query.split("&")))
    said = "\0".join((provider, asked.credential, asked.method, asked.path, query))
    digest = blake2b(said.encode(), digest_size=8)
    digest.update(_canonical(asked.body))
    return int.from_bytes(digest.digest(), "big")


def _canonical(body: bytes) -> bytes:
    if not body:
        return b""
    try:
        return json.dumps(json.loads(body), sort_keys=True).encode()
    except ValueError:
        return body


def cost_of(provider: str, asked: Asked, status: int, body: bytes) -> Cost:
    """Say what a provider charges for the answer it worked out."""
    if status != 200:
        return Cost()
    match provider:
        case "apollo":
            return _apollo(asked.path, body)
        case "contactout":
            return _contactout(asked.path, body)
        case "exa":
            return _exa(body)
        case "claude":
            return _claude(asked.path, body)
        case _:
            return Cost(counted=True)


def _apollo(path: str, body: bytes) -> Cost:
    if path.endswith("/people/match"):
        # by far the most frequent answer: seen at its first bytes it need not be read to the end
        amount = CREDIT if _STARTS_WITH_PERSON.match(body) or json.loads(body).get("person") else 0
    elif path.endswith("/people/bulk_match"):
        amount = round(json.loads(body)["credits_consumed"] * CREDIT)
    else:
        amount = 0
    return Cost(counted=amount > 0, credits=amount, usd_micros=amount * APOLLO_CREDIT_USD // CREDIT)


def _contactout(path: str, body: bytes) -> Cost:
    profile = json.loads(body).get("profile")
    if not profile or "example-person" in profile["url"]:  # the canned sample costs nothing
        return Cost()
    pools = {"search": CREDIT} if path.endswith("/people/enrich") else {}
    if profile["email"] or profile["work_email"] or profile["personal_email"]:
        pools["email"] = CREDIT
    if profile["phone"]:
        pools["phone"] = CREDIT
    prices = {**CONTACTOUT_USD, "email": PERSONAL_EMAIL_USD} if profile["personal_email"] else CONTACTOUT_USD
    usd = sum(prices[pool] * amount // CREDIT for pool, amount in pools.items())
    return Cost(counted=bool(pools), credits=sum(pools.values()), usd_micros=usd, pools=pools)


def _exa(body: bytes) -> Cost:
    return Cost(counted=True, usd_micros=round(json.loads(body)["costDollars"]["total"] * 1_000_000))


def _claude(path: str, body: bytes) -> Cost:
    if not path.endswith("/messages"):
        return Cost()
    message = json.loads(body)
    usage = message["usage"]
    into = usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    price_in, price_out = _claude_price(message["model"], into)
    usd = into * price_in + usage["output_tokens"] * price_out
    return Cost(counted=True, usd_micros=-(-usd // 1_000_000))


def _claude_price(model: str, into: int) -> tuple[int, int]:
    if model == "claude-haiku-5-5" and into > LONG_PROMPT:
        return CLAUDE_USD["claude-haiku-5-5 long"]
    return next((price for name, price in CLAUDE_USD.items() if model.startswith(name)), CLAUDE_USD["claude-opus"])
