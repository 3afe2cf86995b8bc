"""Whatever is sent to any route, by whoever: no fault of ours, and nothing that the OpenAPI document does not say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from people import with_people
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import ACME, SUPER, Served, serving

from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import open_store
from sluiceway.tenancy.roles import Role

WHO = (SUPER, *(f"{role}@{ACME}" for role in (Role.TENANT_ADMIN, Role.AGENT, Role.ASSISTANT)), None)
EXAMPLES = int(os.environ.get("SLUICEWAY_TEST_EXAMPLES", "5"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, _one_sandbox: SandboxProcess) -> Iterator[Served]:
    """A service that a few people are in."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('schema') / 'ledger.db'}")
    with serving(store, _one_sandbox) as served:
        with_people(served, 5)
        yield served
    store.close()


def test_nothing_is_answered_that_is_not_in_the_document(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/api/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:
        _try(operation, served)


def _try(operation: Any, served: Served) -> None:
    """Send one route what fits its description more or less, as everybody there is."""

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def holds(case: Any) -> None:
        for who in WHO:
            headers = {"Authorization": f"Bearer {served.keys[who]}"} if who else {}
            answer = case.call(base_url=served.url, headers=headers, timeout=30)
            case.validate_response(answer, checks=CHECKS)

    holds()
