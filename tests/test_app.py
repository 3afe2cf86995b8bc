"""Putting the parts together: whose key goes where, whose figures win, and real answers apart from invented ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluiceway.app import Target, build_sources, credential_for, opened, terms_of
from sluiceway.errors import BadInput, BadSetting
from sluiceway.settings import Settings, load_settings
from sluiceway.sources import choose

SANDBOX = Target("http://127.0.0.1:8099", pace={"all": 500.0, "exa": 9.0}, timeout_s={"all": 3.0})
REAL = Target()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def source(name: str) -> Any:
    return choose([name])[name]


def given(**settings: Any) -> Settings:
    return load_settings(**settings)


@pytest.mark.parametrize(
    ("name", "own", "target", "sent"),
    [
        ("apollo", "a-real-key", REAL, "a-real-key"),
        ("apollo", "", REAL, ""),
        ("apollo", "a-real-key", SANDBOX, "sandbox-apollo"),
        ("apollo", "", SANDBOX, "sandbox-apollo"),
        ("apollo", "sandbox-revoked", SANDBOX, "sandbox-revoked"),
        ("edgar", "Us us@us.example", REAL, "Us us@us.example"),
        ("edgar", "Us us@us.example", SANDBOX, "Sluiceway sandbox@sluiceway.example"),
    ],
)
def test_a_real_key_is_never_sent_to_a_sandbox(
    name: str, own: str, target: Target, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(source(name).needs.variable, own)
    assert credential_for(source(name), given(), target) == sent


def test_a_source_without_its_key_cannot_be_used_and_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXA_API_KEY", "a-key")
    sources, unusable = build_sources(given(), ["apollo", "exa"], REAL)
    assert sources.keys() == {"apollo", "exa"}
    assert unusable == {"apollo": "APOLLO_API_KEY is not set"}
    assert build_sources(given(), ["apollo", "exa"], SANDBOX)[1] == {}


def test_a_source_nobody_has_heard_of_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no source is called 'nobody'"):
        build_sources(given(), ["nobody"], REAL)


@pytest.mark.parametrize(
    ("settings", "target", "timeout_s"),
    [
        ({}, REAL, source("exa").timeout_s),
        ({}, SANDBOX, 3.0),
        ({"timeout_s": {"exa": 7.0}}, SANDBOX, 7.0),
        ({"timeout_s": {"apollo": 7.0}}, REAL, source("exa").timeout_s),
    ],
)
def test_a_setting_wins_over_the_sandbox_and_that_over_the_manifest(
    settings: dict[str, Any], target: Target, timeout_s: float
) -> None:
    assert terms_of(source("exa")(), given(**settings), target).timeout_s == timeout_s


def test_requests_go_where_the_settings_say() -> None:
    assert terms_of(source("exa")(), given(), REAL).base_urls == {"": "https://api.exa.ai"}
    assert terms_of(source("exa")(), given(), SANDBOX).base_urls == {"": "http://127.0.0.1:8099/exa"}
    proxied = given(base_urls={"exa": "https://proxy.example/exa/", "edgar": "https://proxy.example/sec"})
    assert terms_of(source("exa")(), proxied, REAL).base_urls == {"": "https://proxy.example/exa"}
    assert terms_of(source("edgar")(), proxied, REAL).base_urls["www"] == "https://proxy.example/sec/www"


async def test_a_store_of_invented_answers_is_never_used_for_real_ones(store_url: str) -> None:
    settings = given(database_url=store_url)
    for _ in range(2):
        async with opened(settings, names=["apollo"], target=SANDBOX, tell=print):
            pass
    with pytest.raises(BadSetting, match="this store holds answers of a sandbox"):
        await opened(settings, names=["apollo"], target=REAL, tell=print).__aenter__()
    async with opened(settings, names=["apollo"], target=SANDBOX, tell=print) as app:
        assert app.recovered == 0


async def test_an_app_that_ends_leaves_no_worker_behind(store_url: str) -> None:
    settings = given(database_url=store_url)
    async with opened(settings, names=["apollo"], target=SANDBOX, tell=print) as app:
        lock = app.store.lock_of(app.worker.id)
        assert lock.exists()
    assert not lock.exists()
    async with opened(settings, names=["apollo"], target=SANDBOX, tell=print) as app:
        with app.store.read() as connection:
            assert connection.exec_driver_sql("SELECT id FROM workers").scalars().all() == [app.worker.id]
