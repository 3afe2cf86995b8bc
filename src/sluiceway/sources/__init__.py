"""The providers we ask, one file each, found by entry point so that anyone can add one."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from sluiceway.errors import BadInput
from sluiceway.sources._contract import (
    METER,
    SEARCH,
    Credential,
    EmployeeRange,
    FoundPage,
    FoundPerson,
    MeterReading,
    Price,
    Reading,
    Request,
    Response,
    Retry,
    Search,
    Skip,
    Source,
    Subject,
    body,
    decoded,
    first_text,
    number,
    quantity,
    record,
    refused,
    reset_after,
    text,
    trouble,
    unreadable,
)

ENTRY_POINTS = "sluiceway.sources"
_BUILT_IN = ("apollo", "contactout", "exa", "edgar", "claude")


@lru_cache(maxsize=1)
def _points() -> dict[str, EntryPoint]:
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    order = [*_BUILT_IN, *sorted(found.keys() - set(_BUILT_IN))]
    return {name: found[name] for name in order if name in found}


def all_sources() -> dict[str, type[Source]]:
    """Return every installed source by name: ours first, in the order they are asked, then third parties'."""
    return choose(None)


def choose(names: list[str] | None) -> dict[str, type[Source]]:
    """Return the named sources, or all of them.

    Raises `BadInput` for a name that no installed source has, and for a source that cannot be loaded.
    """
    points = _points()
    if unknown := [name for name in names or () if name not in points]:
        raise BadInput(f"no source is called {unknown[0]!r}; there are {', '.join(points)}")
    return {name: _load(name) for name in points if names is None or name in names}


@lru_cache
def _load(name: str) -> type[Source]:
    point = _points()[name]
    try:
        source = point.load()
    except Exception as error:  # a third party's module may fail in any way while it is imported
        raise BadInput(f"the source {name!r} ({point.value}) cannot be loaded: {error!r}") from error
    if not (isinstance(source, type) and issubclass(source, Source)):
        raise BadInput(f"the entry point {name!r} ({point.value}) is not a subclass of sluiceway.sources.Source")
    if source.name != name:
        raise BadInput(f"the source {point.value} is named {source.name!r} but its entry point says {name!r}")
    return source


__all__ = [
    "METER",
    "SEARCH",
    "Credential",
    "EmployeeRange",
    "FoundPage",
    "FoundPerson",
    "MeterReading",
    "Price",
    "Reading",
    "Request",
    "Response",
    "Retry",
    "Search",
    "Skip",
    "Source",
    "Subject",
    "all_sources",
    "body",
    "choose",
    "decoded",
    "first_text",
    "number",
    "quantity",
    "record",
    "refused",
    "reset_after",
    "text",
    "trouble",
    "unreadable",
]
