"""Who may import whom: one direction, from the words to the commands. Checked by reading every import there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import sluiceway
from sluiceway.tenancy.scope import OWNED

SRC = Path(sluiceway.__file__).parent

WORDS = {"errors", "outcome", "prospect", "discreet", "settings", "identifier", "process", "crash", "sign", "logs"}
FILES = {"people_row", "people_file", "people_lines", "enriched_file"}
LEDGER = WORDS | {"store", "rollups"}
PIPELINE = LEDGER | {"activity", "rights", "sources", "hooks", "usage", "tenancy", "pipeline"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    **dict.fromkeys(FILES, WORDS | FILES),
    "sandbox": WORDS | {"sandbox"},
    "store": WORDS | {"store"},
    "sources": WORDS | {"sources"},
    "rollups": LEDGER,
    "activity": LEDGER | {"activity"},
    "rights": LEDGER | {"activity", "rights"},
    "tenancy": WORDS | {"store", "tenancy"},
    "hooks": WORDS | {"store", "tenancy", "rights", "hooks"},
    "usage": LEDGER | {"activity", "rights", "hooks", "usage"},
    "alerts": LEDGER | {"hooks", "usage", "alerts"},
    "admin": LEDGER | {"activity", "usage", "tenancy", "admin"},
    "pipeline": PIPELINE,
    "app": PIPELINE | {"app"},
    "file_enrichment": PIPELINE | FILES | {"app"},
    "api": PIPELINE | FILES | {"admin", "api"},
    "serving": PIPELINE | {"app", "api", "alerts"},
    "cli": PIPELINE | FILES | {"app", "admin", "alerts", "file_enrichment", "serving", "sandbox", "cli"},
    "__main__": {"cli"},
    "__init__": {"usage"},  # the one thing the package itself offers: `track_api_usage`, which is light on purpose
}

MODULES = sorted(SRC.rglob("*.py"))
DOORS = {SRC / "sources" / "_http.py", SRC / "hooks" / "door.py"}
"""Where requests leave: to the providers, each with its row in the ledger; and to whom tenants and operators name."""
THE_ONE_ENGINE = SRC / "store" / "engine.py"
CLIENTS = {"aiohttp", "httpx", "requests", "urllib3", "http"}
DATABASES = {"sqlalchemy", "alembic", "sqlite3", "psycopg"}
ONE_DATABASES_OWN = re.compile(
    r"\b(PRAGMA|json_patch|json_extract|json_each|sqlite_master|sqlite_schema|wal_checkpoint|busy_timeout|julianday"
    r"|strftime|BEGIN IMMEDIATE|INSERT OR|sqlite3|jsonb|clock_timestamp|pg_advisory\w*)\b"
)

ANSWERS_CALLERS = {"api", "console", "admin"}
"""Rooms that show rows to whoever asks: they take what tenants own from `Scope.of(table)` and from nowhere else."""
SCHEMA = "sluiceway.store.schema"
OWNED_IN_SQL = re.compile(rf"(?i)\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:{'|'.join(sorted(OWNED))})\b")


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


def test_only_the_two_doors_and_the_sandbox_have_an_http_client() -> None:
    others = [path for path in MODULES if path not in DOORS and room_of(path) != "sandbox"]
    assert with_something({shown(path): outsiders_imported(path) & CLIENTS for path in others}) == {}


def test_the_two_doors_have_the_http_client() -> None:
    assert all("aiohttp" in outsiders_imported(door) for door in DOORS)


def test_what_tells_others_cannot_ask_a_provider() -> None:
    assert not {"sources", "usage", "pipeline"} & MAY_IMPORT["hooks"]


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


# What tenants own is selected through the scope alone.


def unscoped(code: str) -> list[str]:
    """Every place at which some code reaches what tenants own otherwise than by giving the table to `Scope.of`."""
    tree = ast.parse(code)
    owned, found = {}, []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found += [f"{node.lineno}: imports {name.name}" for name in names if name.name == SCHEMA]
            case ast.ImportFrom(module="sluiceway.store", names=names):
                found += [f"{node.lineno}: imports {name.name}" for name in names if name.name in ("schema", "*")]
            case ast.ImportFrom(module=module, names=names) if module == SCHEMA:
                found += [f"{node.lineno}: imports {name.name}" for name in names if name.name in ("metadata", "*")]
                owned |= {name.asname or name.name: name.name for name in names if name.name in OWNED}
            case ast.Constant(value=str(text)):
                found += [f"{node.lineno}: {said}" for said in OWNED_IN_SQL.findall(text)]
    scoped = {id(node.args[0]) for node in ast.walk(tree) if is_scoping(node)}
    mentions = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in owned)
    return found + [f"{node.lineno}: {owned[node.id]}" for node in mentions if id(node) not in scoped]


def is_scoping(node: ast.AST) -> bool:
    """Whether a piece of code is `<scope>.of(<table>)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "of"
        and len(node.args) == 1
        and not node.keywords
    )


def unscoped_below(src: Path) -> dict[str, list[str]]:
    """What is found in the rooms of a source tree that answer callers, by file."""
    files = {path.relative_to(src): path for path in sorted(src.rglob("*.py"))}
    rooms = {at: path for at, path in files.items() if at.parts[0].removesuffix(".py") in ANSWERS_CALLERS}
    found = {at.as_posix(): unscoped(path.read_text(encoding="utf-8")) for at, path in rooms.items()}
    return with_something(found)


def test_what_tenants_own_is_selected_only_through_the_scope() -> None:
    assert unscoped_below(SRC) == {}


def test_a_file_that_selects_around_the_scope_is_found(tmp_path: Path) -> None:
    forgetful = "from sqlalchemy import select\nfrom sluiceway.store.schema import prospects\nALL = select(prospects)\n"
    for name in ("api/prospects.py", "console/panels/people/query.py", "admin.py", "usage/ledger.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(forgetful)
    found = unscoped_below(tmp_path)
    assert list(found) == ["admin.py", "api/prospects.py", "console/panels/people/query.py"]
    assert all(places == ["3: prospects"] for places in found.values())


def test_the_tables_that_tenants_own_are_known() -> None:
    assert {"prospects", "runs", "source_results", "attempts", "batches", "users", "api_keys", "audit"} <= OWNED
    assert not {"documents", "workers", "daily_totals", "sessions"} & OWNED


PLANTED_WELL = """
from sqlalchemy import select
from sluiceway.store.schema import batch_rows, prospects as people, runs
def held(connection, scope):
    mine, theirs = scope.of(people), scope.of(runs)
    return connection.execute(select(mine.c.id).join(theirs, theirs.c.prospect_id == mine.c.id).join(batch_rows))
"""


@pytest.mark.parametrize(
    ("code", "places"),
    [
        (PLANTED_WELL, 0),
        ("from sluiceway.store.schema import prospects\nq = select(prospects)", 1),
        ("from sluiceway.store.schema import prospects\nq = select(prospects.c.id).where(prospects.c.id == 1)", 2),
        ("from sluiceway.store.schema import prospects as p\nq = select(scope.of(p)).join(p)", 1),
        ("from sluiceway.store.schema import runs\nq = scope.of(select(runs))", 1),
        ("def f():\n    from sluiceway.store.schema import attempts\n    return delete(attempts)", 1),
        ("from sluiceway.store import schema\nq = select(schema.prospects)", 1),
        ("import sluiceway.store.schema as s\nq = select(s.prospects)", 1),
        ("from sluiceway.store.schema import metadata\nq = metadata.tables['prospects']", 1),
        ("from sluiceway.store.schema import *", 1),
        ("q = text('SELECT person from prospects WHERE id = :id')", 1),
    ],
)  # fmt: skip
def test_a_select_around_the_scope_would_be_found(code: str, places: int) -> None:
    assert len(unscoped(code)) == places
