"""Opening a store: created, migrated, backed up, refused; and readers that can only read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, func, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from builders import a_booking, a_prospect, rows, write
from sluiceway.errors import BadSetting, NewerStore, StoreUnavailable
from sluiceway.store import engine
from sluiceway.store.engine import SCHEMA_VERSION, Store, open_store, shown_url
from sluiceway.store.schema import external_usage, metadata, workers
from sluiceway.usage.ledger import Task

ALEMBIC = text("SELECT version_num FROM alembic_version")


def version_of(store: Store) -> str:
    with store.read() as connection:
        return str(connection.execute(ALEMBIC).scalar_one())


def set_version(store: Store, version: str) -> None:
    with store.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def rules_of(connection: Connection, table: str) -> dict[str, Any]:
    """What a table allows, told by the database itself."""
    look = inspect(connection)
    return {
        "key": look.get_pk_constraint(table)["constrained_columns"],
        "checks": sorted((check["name"] or "", check["sqltext"]) for check in look.get_check_constraints(table)),
        "unique": sorted(unique["column_names"] for unique in look.get_unique_constraints(table)),
        "indexes": sorted(
            (index["name"], index["column_names"], index["unique"], str(index["dialect_options"].get("sqlite_where")))
            for index in look.get_indexes(table)
        ),
    }


def test_opening_a_new_store_creates_every_table(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'new.db'}")
    with store.read() as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    assert version_of(store) == SCHEMA_VERSION
    store.close()


def test_opening_a_store_again_changes_nothing(store_url: str) -> None:
    first = open_store(store_url)
    write(first, a_booking())
    first.close()
    second = open_store(store_url)
    assert len(rows(second, external_usage)) == 1
    second.close()
    assert not list(Path(second.writing.url.database or "").parent.glob("*.bak"))


def test_the_migrations_lead_to_exactly_the_schema(store: Store) -> None:
    with store.writing.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_a_migrated_store_has_the_schemas_keys_checks_and_partial_indexes(store: Store, tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)
    with made.connect() as connection:
        wanted = {name: rules_of(connection, name) for name in metadata.tables}
    with store.read() as connection:
        assert {name: rules_of(connection, name) for name in metadata.tables} == wanted
    made.dispose()


def test_the_schema_version_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


def test_a_store_of_a_newer_sluiceway_is_refused_and_left_alone(store: Store, store_url: str) -> None:
    set_version(store, "9999")
    with pytest.raises(NewerStore, match="the store is at schema 9999, this Sluiceway knows"):
        open_store(store_url)
    assert version_of(store) == "9999"


def test_an_older_store_is_backed_up_before_it_is_migrated(
    store: Store, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_prospect(store)
    monkeypatch.setattr(engine, "SCHEMA_VERSION", "9998")  # as the next release will have it
    open_store(store_url).close()
    backup = sqlite3.connect(tmp_path / f"ledger.db.{SCHEMA_VERSION}.bak")
    assert backup.execute("SELECT count(*) FROM prospects").fetchone() == (1,)
    assert backup.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    backup.close()


def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    code = f"""
import sys
from sluiceway.store.engine import open_store
import alembic.command
print("ready", flush=True); sys.stdin.readline()
open_store({url!r}).close()
"""
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    store = open_store(url)
    assert version_of(store) == SCHEMA_VERSION
    store.close()


def test_readers_cannot_write(store: Store) -> None:
    with store.read() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.execute(insert(external_usage).values(id="x", provider="apollo", day="d", kind="tracked", calls=1))


def test_a_reader_sees_one_state_however_long_it_reads(store: Store) -> None:
    write(store, a_booking())
    count = select(func.count()).select_from(external_usage)
    with store.read() as connection:
        before = connection.execute(count).scalar_one()
        write(store, a_booking())
        assert connection.execute(count).scalar_one() == before
    with store.read() as connection:
        assert connection.execute(count).scalar_one() == before + 1


def test_a_commit_is_on_the_disk_when_it_returns(store: Store) -> None:
    with store.writing.connect() as connection:
        full = 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == full


def test_a_write_that_fails_leaves_nothing_behind(store: Store) -> None:
    row = {"id": "w", "host": "h", "pid": 1, "started_at": "t"}
    with pytest.raises(IntegrityError):
        write(store, *(Task(lambda connection: connection.execute(insert(workers).values(row))) for _ in range(2)))
    assert rows(store, workers) == []


@pytest.mark.parametrize("url", ["", "people.db", "sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_an_address_that_names_no_store_is_a_bad_setting(url: str) -> None:
    with pytest.raises(BadSetting, match="SLUICEWAY_DATABASE_URL"):
        open_store(url)


@pytest.mark.parametrize(
    "url", ["bogus://host/people", "sqlite+odd:///people.db", "mysql://host/people", "sqlite://h:p/x"]
)
def test_an_address_of_an_unknown_kind_of_store_is_a_bad_setting(url: str) -> None:
    with pytest.raises(BadSetting):
        open_store(url)


def test_a_folder_that_cannot_be_made_leaves_the_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'people.db'}")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is read-only to an administrator")
def test_a_folder_that_is_read_only_leaves_the_store_unavailable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailable, match="cannot be"):
            open_store(f"sqlite:///{tmp_path / 'people.db'}")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_is_no_store_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "a@b.example\n" * 200)
    with pytest.raises(StoreUnavailable, match="cannot be opened: file is not a database"):
        open_store(f"sqlite:///{path}")
    assert path.read_text().startswith("email\na@b.example\n")


def test_a_stores_address_is_shown_without_its_password() -> None:
    assert shown_url("postgresql://ines:secret@db.example/people") == "postgresql://ines:***@db.example/people"


def test_the_clock_is_utc_and_never_runs_backwards(store: Store) -> None:
    moments = [store.clock.now() for _ in range(200)]
    assert moments == sorted(moments)
    assert moments[0].tzinfo is UTC
    assert abs(moments[-1] - datetime.now(UTC)) < timedelta(seconds=5)


def test_merging_json_replaces_key_by_key_and_a_null_takes_away(store: Store) -> None:
    with store.read() as connection:
        merged = engine.merge_json(connection.dialect.name, ":held", ":patch")
        held = '{"a": {"status": "failed", "error": "x"}, "b": [1, 2]}'
        patch = '{"a": {"status": "complete", "error": null}, "b": [3], "c": 1}'
        said = connection.execute(text(f"SELECT {merged}"), {"held": held, "patch": patch}).scalar_one()
    assert said == '{"a":{"status":"complete"},"b":[3],"c":1}'
