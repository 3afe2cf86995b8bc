"""Whatever a client sends, the sandbox has an answer to it and books exactly one."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from talk import SEED, TODAY

from sluiceway.sandbox.control import Control
from sluiceway.sandbox.scenario import load
from sluiceway.sandbox.wire import Ask
from sluiceway.sandbox.world import World

CONTROL = Control(World(SEED, TODAY), load("calm"))
HEADERS = CIMultiDict(
    {"x-api-key": "sandbox", "token": "sandbox", "user-agent": "a@b.example", "anthropic-version": "2023-06-01"}
)
PATHS = {
    "apollo": ("/api/v1/people/match", "/api/v1/people/bulk_match", "/api/v1/users/api_profile"),
    "contactout": ("/v1/people/enrich", "/v1/people/linkedin", "/v1/stats"),
    "exa": ("/search", "/contents"),
    "edgar": (
        "/efts/LATEST/search-index", "/data/submissions/CIK0001176392.json", "/www/Archives/edgar/data/1/2/3",
        "/www/Archives/edgar/data/1176392/000117639226000001/form4.xml",
    ),
    "claude": ("/v1/messages", "/v1/models"),
}  # fmt: skip
KEYS = """
email name first_name last_name id linkedin_url domain organization_name details include full_name company profile
company_domain period email_type query contents text urls type numResults startPublishedDate includeDomains q ciks forms
from model max_tokens messages content role thinking tools tool_choice output_config format schema properties system
""".split()
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    leaves | st.sampled_from(["user", "claude-haiku-5-5", "Ada Ashfield", "Calladene Foods", "object", "array"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
bodies = st.dictionaries(st.sampled_from(KEYS), values, max_size=8).map(json.dumps) | values.map(json.dumps) | st.text()


@given(
    st.sampled_from([(provider, path) for provider, paths in PATHS.items() for path in paths]),
    st.sampled_from(["GET", "POST"]),
    bodies,
    st.dictionaries(st.sampled_from(KEYS), st.text(max_size=30), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_every_request_is_answered_and_booked_once(
    where: tuple[str, str], method: str, body: str, query: dict[str, str]
) -> None:
    provider, path = where
    before = CONTROL.meter.reading()["providers"][provider]["answered"]
    ask = Ask(method, path, urlencode(query), HEADERS, body.encode())
    answer = CONTROL.counters[provider].decide(ask).answer
    assert 200 <= answer.status < 500
    assert CONTROL.meter.reading()["providers"][provider]["answered"] == before + 1


MESSAGES = st.fixed_dictionaries(
    {
        "model": st.just("claude-haiku-5-5"),
        "max_tokens": st.integers(1, 3000),
        "messages": st.builds(lambda content: [{"role": "user", "content": content}], values | values.map(json.dumps)),
    },
    optional={
        "thinking": values,
        "tools": values,
        "tool_choice": values,
        "output_config": st.builds(lambda schema: {"format": {"schema": schema}}, values),
    },
)


@given(MESSAGES)
@settings(max_examples=200, deadline=None)
def test_every_message_is_answered(message: dict[str, object]) -> None:
    ask = Ask("POST", "/v1/messages", "", HEADERS, json.dumps(message).encode())
    assert 200 <= CONTROL.counters["claude"].decide(ask).answer.status < 500
