"""The providers we ask, one file each, found by entry point so that anyone can add one."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from sluiceway.errors import BadInput
from sluiceway.sources._contract import Source

ENTRY_POINTS = "sluiceway.sources"
_BUILT_IN = ("apollo", "contactout", "exa", "edgar", "claude")


@lru_cache(maxsize=1)
def all_sources() -> dict[str, type[Source]]:
    """Return every installed source by name: ours first, in the order they are asked, then third parties'."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    order = [*_BUILT_IN, *sorted(found.keys() - set(_BUILT_IN))]
    return {name: _load(found[name]) for name in order if name in found}


def _load(point: EntryPoint) -> type[Source]:
    source = point.load()
    if not (isinstance(source, type) and issubclass(source, Source)):
        raise BadInput(f"the entry point {point.name!r} ({point.value}) is not a subclass of sluiceway.sources.Source")
    if source.name != point.name:
        raise BadInput(f"the source {point.value} is named {source.name!r} but its entry point says {point.name!r}")
    return source


def choose(names: list[str] | None) -> dict[str, type[Source]]:
    """Return the named sources, or all; raises `BadInput` for a name that no installed source has."""
    known = all_sources()
    if names is None:
        return known
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"no source is called {unknown[0]!r}; there are {', '.join(known)}")
    return {name: known[name] for name in known if name in names}


__all__ = ["Source", "all_sources", "choose"]
