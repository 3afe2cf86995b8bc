"""Who may import whom: one direction, from the words to the commands. Checked by reading every import there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import sluiceway

SRC = Path(sluiceway.__file__).parent

WORDS = {"errors", "outcome", "prospect", "discreet", "settings", "identifier", "process", "crash"}
FILES = {"people_file", "enriched_file"}
LEDGER = WORDS | {"store", "rollups"}
PIPELINE = LEDGER | {"sources", "usage", "tenancy", "pipeline"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    **dict.fromkeys(FILES, WORDS | FILES),
    "sandbox": WORDS | {"sandbox"},
    "store": WORDS | {"store"},
    "sources": WORDS | {"sources"},
    "rollups": LEDGER,
    "usage": LEDGER | {"usage"},
    "tenancy": WORDS | {"store", "tenancy"},
    "pipeline": PIPELINE,
    "app": PIPELINE | {"app"},
    "file_enrichment": PIPELINE | FILES | {"app"},
    "cli": PIPELINE | FILES | {"app", "file_enrichment", "sandbox", "cli"},
    "__main__": {"cli"},
    "__init__": {"usage"},  # the one thing the package itself offers: `track_api_usage`, which is light on purpose
}

MODULES = sorted(SRC.rglob("*.py"))
THE_ONE_DOOR = SRC / "sources" / "_http.py"
THE_ONE_ENGINE = SRC / "store" / "engine.py"
CLIENTS = {"aiohttp", "httpx", "requests", "urllib3", "http"}
DATABASES = {"sqlalchemy", "alembic", "sqlite3", "psycopg"}
ONE_DATABASES_OWN = re.compile(
    r"\b(PRAGMA|json_patch|json_extract|json_each|sqlite_master|sqlite_schema|wal_checkpoint|busy_timeout|julianday"
    r"|strftime|BEGIN IMMEDIATE|INSERT OR|sqlite3|jsonb|clock_timestamp|pg_advisory\w*)\b"
)


def room_of(path: Path) -> str:
    """The room a module is in: the first part of its path, without the ending."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, level=0, names=names) if module:
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom():
                pytest.fail(f"{path} imports relatively; name the whole module")


def rooms_imported(path: Path) -> set[str]:
    """The rooms of ours that a module imports from."""
    ours = (name.split(".") for name in imports_of(path) if name.split(".")[0] == "sluiceway")
    return {parts[1] if len(parts) > 1 else "__init__" for parts in ours}


def outsiders_imported(path: Path) -> set[str]:
    """The other packages a module imports."""
    return {name.split(".")[0] for name in imports_of(path)} - {"sluiceway"}


def shown(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def with_something(found: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """What was found, where anything was."""
    return {where: sorted(what) for where, what in found.items() if what}


def test_every_module_is_in_a_room_of_the_table() -> None:
    assert {room_of(path) for path in MODULES} == MAY_IMPORT.keys()


def test_a_room_imports_only_what_the_table_allows() -> None:
    too_much = {shown(path): rooms_imported(path) - MAY_IMPORT[room_of(path)] for path in MODULES}
    assert with_something(too_much) == {}


def test_the_table_has_no_circles() -> None:
    done: set[str] = set()
    while left := MAY_IMPORT.keys() - done:
        free = {room for room in left if MAY_IMPORT[room] - {room} <= done}
        free |= WORDS if left >= WORDS and all(MAY_IMPORT[word] <= WORDS for word in WORDS) else set()
        free |= FILES if left >= FILES and all(MAY_IMPORT[room] - FILES <= done for room in FILES) else set()
        assert free, f"these import each other in a circle: {sorted(left)}"
        done |= free


def test_only_the_one_door_and_the_sandbox_have_an_http_client() -> None:
    others = [path for path in MODULES if path != THE_ONE_DOOR and room_of(path) != "sandbox"]
    assert with_something({shown(path): outsiders_imported(path) & CLIENTS for path in others}) == {}


def test_the_one_door_has_the_http_client() -> None:
    assert "aiohttp" in outsiders_imported(THE_ONE_DOOR)


def test_only_the_counters_talk_to_redis() -> None:
    speakers = [path for path in MODULES if "redis" in outsiders_imported(path)]
    assert {room_of(path) for path in speakers} == {"usage"}


def test_words_sources_files_and_commands_know_nothing_of_the_database() -> None:
    ignorant = [path for path in MODULES if room_of(path) in WORDS | FILES | {"sources", "sandbox", "cli", "app"}]
    assert with_something({shown(path): outsiders_imported(path) & DATABASES for path in ignorant}) == {}


def test_what_only_one_database_has_is_in_the_engine() -> None:
    others = [path for path in MODULES if path != THE_ONE_ENGINE]
    said = {shown(path): ONE_DATABASES_OWN.findall(path.read_text(encoding="utf-8")) for path in others}
    assert with_something(said) == {}


def test_there_is_no_drawer_for_leftovers() -> None:
    drawers = {"utils", "helpers", "services", "managers", "common", "misc"}
    assert [shown(path) for path in MODULES if drawers & set(path.with_suffix("").relative_to(SRC).parts)] == []
