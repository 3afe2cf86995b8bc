"""The OpenAPI document has an example of every answer, and each is one."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from sluiceway.api.application import build


def answers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every JSON answer that is documented: which, its description, and the document's components."""
    said = build(lambda: None).openapi()  # type: ignore[arg-type,return-value]
    return [
        (f"{method.upper()} {path} {status}", content, said["components"])
        for path, methods in said["paths"].items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        if (content := answer.get("content", {}).get("application/json"))
    ]


@pytest.mark.parametrize(("content", "components"), [pytest.param(*said, id=which) for which, *said in answers()])
def test_every_answer_has_an_example_that_is_one(content: Any, components: Any) -> None:
    schema = {**content["schema"], "components": components}
    jsonschema_rs.validator_for(schema).validate(content["example"])
