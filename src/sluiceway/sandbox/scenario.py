"""Read a scenario: what goes wrong, for whom, how often and when.

A scenario is a TOML file: a description, the pace and time-out a client may take over for the duration, the terms of
each account, and any number of `[[latency]]` and `[[fault]]` tables. `scenarios/bad-day.toml` uses most of them.

    ScenarioError   the file is not a scenario; the message names the key and what it may be. Mend the file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from math import exp, inf, log
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NoReturn

from sluiceway.sandbox.terms import ApolloTerms, ContactOutTerms, EdgarTerms, ExaTerms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROVIDERS = ("apollo", "contactout", "exa", "edgar", "claude")
STATUSES = (500, 502, 503, 504, 529)
_PAID = ("apollo", "contactout", "exa", "claude")

# which providers a kind of fault makes sense for
BENDS = {
    "canned": ("contactout",),
    "namesake": ("apollo", "contactout"),
    "revoked": _PAID,
    "no-scope": _PAID,
    "out-of-credits": _PAID,
    "ungrounded": ("claude",),
    "refusal": ("claude",),
    "throttled": ("edgar",),
}
BREAKS = ("reset-before", "reset-after", "truncated", "malformed", "not-utf8", "html", "huge", "time-out")
KINDS = ("rate-limited", "status", *BREAKS, *BENDS)
# the keys a kind takes beside those every fault takes
_OPTIONS = {
    "rate-limited": ("retry_after_s",),
    "status": ("status", "billed_chance"),
    "huge": ("megabytes",),
    "time-out": ("hold_s",),
}
_SHAPES = {"fixed": ("ms",), "uniform": ("low_ms", "high_ms"), "lognormal": ("median_ms", "p99_ms")}
_KEYS = ("name", "description", "pace", "timeout_s", "apollo", "contactout", "exa", "edgar", "latency", "fault")
_WINDOW = ("after_s", "until_s", "from_request", "until_request")
SHIPPED = Path(__file__).parent / "scenarios"


class ScenarioError(ValueError):
    """This is not a scenario; the message says which key is at fault and what it may be."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a rule applies: seconds since the start, and the provider's requests counted from 1, both ends included."""

    after_s: float = 0.0
    until_s: float = inf
    from_request: float = 1
    until_request: float = inf

    def holds(self, elapsed: float, ordinal: int) -> bool:
        """Say whether it applies now."""
        return self.after_s <= elapsed <= self.until_s and self.from_request <= ordinal <= self.until_request


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that may go wrong. `hold_s` None holds the answer for ever."""

    kind: str
    providers: tuple[str, ...]
    chance: float
    window: Window
    status: int = 500
    billed_chance: float = 0.5
    retry_after_s: int | None = None
    hold_s: float | None = None
    megabytes: int = 32


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes, in milliseconds."""

    shape: str
    providers: tuple[str, ...]
    window: Window
    low: float
    high: float

    def seconds(self, luck: float) -> float:
        """Turn a draw from 0 to 1 into a waiting time."""
        match self.shape:
            case "uniform":
                return (self.low + (self.high - self.low) * luck) / 1000
            case "lognormal":
                spread = log(self.high / self.low) / NormalDist().inv_cdf(0.99)
                return self.low * exp(spread * NormalDist().inv_cdf(min(max(luck, 1e-9), 1 - 1e-9))) / 1000
            case _:
                return self.low / 1000


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a scenario file says."""

    name: str
    description: str
    pace: dict[str, float]
    timeout_s: dict[str, float]
    apollo: ApolloTerms
    contactout: ContactOutTerms
    exa: ExaTerms
    edgar: EdgarTerms
    latencies: tuple[Latency, ...]
    faults: tuple[Fault, ...]


def shipped() -> list[str]:
    """List the scenarios that come with the sandbox."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load(name_or_path: str) -> Scenario:
    """Read a shipped scenario by its name, or any other by its path."""
    path = SHIPPED / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise ScenarioError(
            f"there is no scenario {name_or_path!r}: give a path to a TOML file, or one of {_listed(shipped())}"
        )
    return parse(path.read_text(encoding="utf-8"), name=path.stem)


def parse(text: str, name: str = "posted") -> Scenario:
    """Read a scenario from TOML."""
    try:
        table = _Table(tomllib.loads(text), f"scenario {name}")
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"scenario {name}: not TOML: {error}") from error
    scenario = Scenario(
        name=table.text("name", name),
        description=table.text("description", ""),
        pace=_rates(table.table("pace"), ("all", *PROVIDERS)),
        timeout_s=_rates(table.table("timeout_s"), ("all", *PROVIDERS)),
        apollo=_apollo(table.table("apollo")),
        contactout=_contactout(table.table("contactout")),
        exa=ExaTerms(_limit(table.table("exa"), ExaTerms().limit)),
        edgar=EdgarTerms(_limit(table.table("edgar"), EdgarTerms().limit)),
        latencies=tuple(_latency(each) for each in table.tables("latency")),
        faults=tuple(_fault(each) for each in table.tables("fault")),
    )
    table.finish(_KEYS)
    return scenario


class _Table:
    """One table of the file, which knows where it stands so that its complaints can say so."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self._content = content
        self._where = where

    def text(self, key: str, default: str) -> str:
        value = self._content.get(key, default)
        return value if isinstance(value, str) else self._wrong(key, value, "a text")

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        value = self._content.get(key, default)
        return str(value) if value in allowed else self._wrong(key, value, f"one of {_listed(allowed)}")

    def number(self, key: str, default: float, low: float = 0, high: float = inf) -> float:
        value = self._content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self._wrong(key, value, f"a number, {low:g} or more" + (f", up to {high:g}" if high < inf else ""))
        return float(value)

    def whole(self, key: str, default: int, low: int = 0) -> int:
        value = self._content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            self._wrong(key, value, f"a whole number, {low} or more")
        return int(value)

    def providers(self, allowed: Sequence[str]) -> tuple[str, ...]:
        value = self._content.get("provider", list(allowed))
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(name in allowed for name in names):
            self._wrong("provider", value, f"one or a list of {_listed(allowed)}")
        return tuple(names)

    def has(self, key: str) -> bool:
        return key in self._content

    def table(self, key: str) -> _Table:
        value = self._content.get(key, {})
        return _Table(value, f"{self._where}: {key}") if isinstance(value, dict) else self._wrong(key, value, "a table")

    def tables(self, key: str) -> list[_Table]:
        value = self._content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self._wrong(key, value, f"a list of tables, written [[{key}]]")
        return [_Table(each, f"{self._where}: {key} {index}") for index, each in enumerate(value, 1)]

    def finish(self, allowed: Iterable[str]) -> None:
        """Refuse keys nobody reads: a misspelt fault would otherwise just never happen."""
        allowed = list(allowed)
        for key in self._content:
            if key not in allowed:
                raise ScenarioError(f"{self._where}: there is no key {key!r}; allowed here: {_listed(allowed)}")

    def _wrong(self, key: str, value: object, allowed: str) -> NoReturn:
        raise ScenarioError(f"{self._where}: {key} is {value!r}, but must be {allowed}")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _rates(table: _Table, allowed: Sequence[str]) -> dict[str, float]:
    table.finish(allowed)
    return {key: table.number(key, 0) for key in allowed if table.has(key)}


def _apollo(table: _Table) -> ApolloTerms:
    usual = ApolloTerms()
    table.finish(("minute", "hour", "day", "credits"))
    return ApolloTerms(
        minute=table.whole("minute", usual.minute),
        hour=table.whole("hour", usual.hour),
        day=table.whole("day", usual.day),
        credits=table.whole("credits", usual.credits),
    )


def _contactout(table: _Table) -> ContactOutTerms:
    usual = ContactOutTerms()
    table.finish(("plan", "credits"))
    return ContactOutTerms(
        plan=table.choice("plan", ("post-paid", "pre-paid"), usual.plan), credits=table.whole("credits", usual.credits)
    )


def _limit(table: _Table, usual: int) -> int:
    table.finish(("limit",))
    return table.whole("limit", usual)


def _window(table: _Table) -> Window:
    return Window(
        after_s=table.number("after_s", 0),
        until_s=table.number("until_s", inf),
        from_request=table.number("from_request", 1, low=1),
        until_request=table.number("until_request", inf, low=1),
    )


def _latency(table: _Table) -> Latency:
    shape = table.choice("shape", tuple(_SHAPES))
    keys = _SHAPES[shape]
    table.finish(("shape", "provider", *_WINDOW, *keys))
    least = 0.001 if shape == "lognormal" else 0  # a logarithm needs something to work with
    low = table.number(keys[0], -1, low=least)
    return Latency(
        shape=shape,
        providers=table.providers(PROVIDERS),
        window=_window(table),
        low=low,
        high=table.number(keys[-1], -1, low=low),
    )


def _fault(table: _Table) -> Fault:
    kind = table.choice("kind", KINDS)
    table.finish(("kind", "provider", "chance", *_WINDOW, *_OPTIONS.get(kind, ())))
    status = table.whole("status", 500)
    if status not in STATUSES:
        table.choice("status", tuple(map(str, STATUSES)))
    return Fault(
        kind=kind,
        providers=table.providers(BENDS.get(kind, PROVIDERS)),
        chance=table.number("chance", 1, high=1),
        window=_window(table),
        status=status,
        billed_chance=table.number("billed_chance", 0.5, high=1),
        retry_after_s=table.whole("retry_after_s", 0) if table.has("retry_after_s") else None,
        hold_s=table.number("hold_s", 0) if table.has("hold_s") else None,
        megabytes=table.whole("megabytes", 32, low=1),
    )
