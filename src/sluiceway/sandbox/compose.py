"""Write what a language model might have written, out of nothing but what it was given.

The prompt is searched for JSON; its leaves are the facts. Everything composed is a fact repeated, so that a client
which checks figures against its own input finds every one of them there. The shape is whatever schema was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_SENTENCE_END = re.compile(r"(?<=[.!?”])\s+")
_FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONEY_KEYS = re.compile(r"revenue|funding|worth|value|price|amount|salary|shares|proceeds|total|usd", re.IGNORECASE)
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 10**3}
_SCALED = re.compile(r"([\d,]+(?:\.\d+)?)\s*(billion|million|thousand)?", re.IGNORECASE)
_MAX_SIGNALS = 4
_NAME_KEYS = ("full_name", "name")
_TITLE_KEYS = ("job_title", "title", "headline")
_SOURCES = ("apollo", "contactout", "exa", "edgar")
_EMPLOYER_KEYS = ("company", "company_name", "organization_name", "employer", "organization")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of the input and the keys that lead to it."""

    path: tuple[str, ...]
    value: str | int | float

    @property
    def key(self) -> str:
        """The innermost key with a name."""
        return next((part for part in reversed(self.path) if not part.isdigit() and part != "value"), "")


@dataclass(frozen=True, slots=True)
class Signal:
    """Something in the input that has a figure in it: the words, the number, and where it was found."""

    text: str
    amount: float
    path: tuple[str, ...]


class Facts:
    """What a prompt says, ready to be repeated."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.leaves = list(_leaves(_json_in(prompt), ()))
        # a title beside a URL is a page's title, a name inside an employer is not the prospect's
        pages = {leaf.path[:-1] for leaf in self.leaves if leaf.path[-1:] == ("url",)}
        self._own = [leaf for leaf in self.leaves if leaf.path[:-1] not in pages and not _is_employers(leaf)]
        self.name = self._first(_NAME_KEYS) or self._joined_name() or "This prospect"
        self.title = self._first(_TITLE_KEYS)
        self.employer = self._first(_EMPLOYER_KEYS) or self._nested_employer()
        self.signals = list(islice(self._signals(), _MAX_SIGNALS))

    def summary(self) -> str:
        """Write two or three sentences about the prospect."""
        if self.title and self.employer:
            first = f"{self.name} is {self.title} at {self.employer}."
        elif self.title or self.employer:
            first = f"{self.name} is listed with {self.title or self.employer}."
        else:
            first = f"{self.name} is the subject of the findings given."
        rest = [signal.text for signal in self.signals[:2]] or ["The findings hold no figures."]
        return " ".join([first, *rest])

    def invented(self) -> str:
        """Write a sentence with a figure that is nowhere in the prompt."""
        number = next(number for number in range(731, 1731, 37) if str(number) not in self.prompt)
        return f"The fortune behind it is put at ${number} million."

    def _first(self, keys: tuple[str, ...]) -> str:
        for key in keys:
            for leaf in self._own:
                if leaf.key == key and isinstance(leaf.value, str) and 1 < len(leaf.value) < 120:
                    return leaf.value
        return ""

    def _joined_name(self) -> str:
        return f"{self._first(('first_name',))} {self._first(('last_name',))}".strip()

    def _nested_employer(self) -> str:
        found = (leaf for leaf in self.leaves if leaf.path[-1:] == ("name",) and leaf.path[-2:-1])
        return next((str(leaf.value) for leaf in found if leaf.path[-2] in _EMPLOYER_KEYS), "")

    def _signals(self) -> Iterator[Signal]:
        for leaf in self.leaves:
            if isinstance(leaf.value, str):
                yield from _sentences(leaf.value, leaf.path)
            elif _MONEY_KEYS.search(leaf.key):
                words = leaf.key.replace("_", " ")
                yield Signal(f"On record: {words} {_written(leaf.value)}.", float(leaf.value), leaf.path)


def _is_employers(leaf: Leaf) -> bool:
    return len(leaf.path) > 1 and leaf.path[-2] in _EMPLOYER_KEYS and leaf.path[-1] != "value"


def _sentences(text: str, path: tuple[str, ...]) -> Iterator[Signal]:
    for sentence in _SENTENCE_END.split(text):
        # a sentence without its end may have been cut in the middle of a number
        if "$" in sentence and sentence.endswith((".", "!", "?")) and (amount := _amount(sentence)) is not None:
            yield Signal(sentence, amount, path)


def _amount(sentence: str) -> float | None:
    found = _SCALED.search(sentence.partition("$")[2])
    if found is None or not _FIGURE.fullmatch(found[1].rstrip(",")):
        return None
    number = float(found[1].replace(",", ""))
    return number * _SCALES.get((found[2] or "").lower(), 1)


def _written(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _json_in(prompt: str) -> Any:
    """Find the widest piece of JSON in a text, or take the text itself."""
    for opening, closing in ("{}", "[]"):
        start, end = prompt.find(opening), prompt.rfind(closing)
        if 0 <= start < end:
            try:
                return msgspec.json.decode(prompt[start : end + 1])
            except msgspec.DecodeError:
                continue
    return {"text": prompt}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[Leaf]:
    match value:
        case {"value": inner, "field": str(key)}:
            yield from _leaves(inner, (*path, key))
        case dict():
            for key, inner in value.items():
                yield from _leaves(inner, (*path, str(key)))
        case list():
            for index, inner in enumerate(value):
                yield from _leaves(inner, (*path, str(index)))
        case bool() | None:
            return
        case str() | int() | float():
            yield Leaf(path, value)


def fill(schema: dict[str, Any], facts: Facts, ungrounded: bool = False) -> Any:
    """Compose a value that fits a JSON schema."""
    return _Filler(schema, facts, ungrounded).value(schema, "", None)


class _Filler:
    """Walks a schema and puts facts into it, guided by the names of its properties."""

    def __init__(self, root: dict[str, Any], facts: Facts, ungrounded: bool) -> None:
        self._root = root
        self._facts = facts
        self._extra = f" {facts.invented()}" if ungrounded else ""

    def value(self, schema: dict[str, Any], key: str, signal: Signal | None) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return self._choice(choices, signal)
        match _type_of(schema):
            case "object":
                properties = schema.get("properties", {})
                return {name: self.value(inner, name, signal) for name, inner in properties.items()}
            case "array":
                return self._list(schema, key, signal)
            case "number" | "integer" as kind:
                return self._number(schema, key, signal, whole=kind == "integer")
            case "boolean":
                return bool(self._facts.signals)
            case "null":
                return None
            case _:
                return self._text(key, signal, nullable=_is_nullable(schema))

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while isinstance(reference := schema.get("$ref"), str):
            found: Any = self._root
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        options = schema.get("anyOf") or schema.get("oneOf")
        if not options:
            return schema
        chosen = next((each for each in options if each.get("type") != "null"), options[0])
        nullable = len(options) > 1 and any(each.get("type") == "null" for each in options)
        return {**self._resolved(chosen), "nullable": nullable}

    def _choice(self, choices: list[Any], signal: Signal | None) -> Any:
        """Take the choice the signal's words speak for, else the first."""
        words = "" if signal is None else f"{signal.text} {' '.join(signal.path)}".lower()
        return next((each for each in choices if str(each).lower() in words and each), choices[0])

    def _list(self, schema: dict[str, Any], key: str, signal: Signal | None) -> list[Any]:
        items = schema.get("items", {"type": "string"})
        if signal is not None:
            return [self.value(items, key, signal)]
        wanted = self._facts.signals[: schema.get("maxItems", _MAX_SIGNALS)]
        return [self.value(items, key, each) for each in wanted]

    def _number(self, schema: dict[str, Any], key: str, signal: Signal | None, *, whole: bool) -> float | int | None:
        if re.search(r"confidence|score|fit|probability", key, re.IGNORECASE):
            return schema.get("minimum", 1) if whole else 0.8
        amount = signal.amount if signal else None
        if amount is None:
            return None if _is_nullable(schema) else 0
        return int(amount) if whole or amount.is_integer() else amount

    def _text(self, key: str, signal: Signal | None, *, nullable: bool) -> str | None:
        if signal is None:
            return self._facts.summary() + self._extra
        lowered = key.lower()
        if "date" in lowered or lowered in ("when", "at"):
            found = _DATE.search(signal.text)
            return found[0] if found else None if nullable else ""
        if lowered in ("url", "link"):
            return self._near(signal, "url") or (None if nullable else "")
        if "source" in lowered or lowered in ("basis", "provider"):
            return next((part for part in signal.path if part in _SOURCES), signal.path[0])
        if lowered in ("currency", "unit"):
            return "USD"
        return signal.text

    def _near(self, signal: Signal, key: str) -> str:
        """Find a neighbour of the place a signal was found at."""
        path = (*signal.path[:-1], key)
        return next((str(leaf.value) for leaf in self._facts.leaves if leaf.path == path), "")


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(next((each for each in kind if each != "null"), "null")) if isinstance(kind, list) else str(kind)


def _is_nullable(schema: dict[str, Any]) -> bool:
    return bool(schema.get("nullable")) or (isinstance(schema.get("type"), list) and "null" in schema["type"])
