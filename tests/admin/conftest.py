"""A small world, made once, whose answers are held against brute force."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.ledger_world import Size, fill

from sluiceway.store.engine import Store, open_store


@pytest.fixture(scope="session", params=[1, 2])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with some weeks of nine tenants in it; whoever changes it must roll back."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('world') / 'ledger.db'}")
    fill(store, Size(2500, tenants=9, days=17, seed=request.param))
    yield store
    store.close()
