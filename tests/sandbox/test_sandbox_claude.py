"""Claude's counterpart answers as the Messages API does, and repeats only what it was told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from talk import Talk

FINDINGS = {
    "person": {"name": "Ines Okafor-Lind", "company": "Harbourline Robotics"},
    "findings": {
        "apollo": {"title": "Chief Financial Officer", "company_revenue": 96000000.0},
        "exa": {
            "mentions": [
                {
                    "url": "https://a.example/gift",
                    "title": "A gift",
                    "text": "She gave $2.5 million on 2025-03-01. Fine.",
                },
                {"url": "https://a.example/2", "title": "Cut", "text": "The house was bought for $1.2"},
            ]
        },
    },
}
SIGNAL = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["gift", "sale"]},
        "description": {"type": "string"},
        "amount_usd": {"type": ["number", "null"]},
        "source": {"type": "string"},
        "date": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "wealth_signals": {"type": "array", "items": {"$ref": "#/$defs/signal"}},
    },
    "$defs": {"signal": SIGNAL},
    "additionalProperties": False,
}


def _request(**more: object) -> dict[str, Any]:
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": json.dumps(FINDINGS)}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        **more,
    }


def _text(message: dict[str, Any]) -> str:
    return next(block["text"] for block in message["content"] if block["type"] == "text")


def _figures(text: str) -> set[str]:
    return {figure.rstrip(".0") for figure in re.findall(r"\d[\d.]*", text)}


async def test_the_answer_has_the_shape_asked_for_and_only_figures_it_was_given(talk: Talk) -> None:
    got = await talk.claude(_request())
    written = json.loads(_text(got.json))
    assert "Ines Okafor-Lind is Chief Financial Officer at Harbourline Robotics." in written["summary"]
    assert {signal["source"] for signal in written["wealth_signals"]} == {"apollo", "exa"}
    gift = next(signal for signal in written["wealth_signals"] if signal["source"] == "exa")
    assert (gift["kind"], gift["amount_usd"], gift["date"]) == ("gift", 2_500_000, "2025-03-01")
    assert _figures(written["summary"]) <= _figures(json.dumps(FINDINGS))
    assert not any("1.2" in signal["description"] for signal in written["wealth_signals"])


async def test_usage_adds_up_and_is_what_the_meter_books(talk: Talk) -> None:
    body = _request()
    got = await talk.claude(body)
    usage = got.json["usage"]
    assert abs(usage["input_tokens"] - len(json.dumps(body)) // 4) <= 1
    assert usage["output_tokens"] >= len(_text(got.json)) // 4
    cost = usage["input_tokens"] * 0.10 + usage["output_tokens"] * 0.50
    meter = await talk.meter("claude")
    assert meter["billed"] == 1
    assert 0 <= meter["usd_micros"] - cost < 1


async def test_all_twelve_rate_headers_and_the_request_id_are_there(talk: Talk) -> None:
    got = await talk.claude(_request())
    assert len([name for name in got.headers if name.startswith("anthropic-ratelimit-")]) == 12
    assert got.headers["request-id"].startswith("req_")
    refused = await talk.claude(_request(max_tokens=None))
    assert refused.json["request_id"] == refused.headers["request-id"]


async def test_a_thinking_block_comes_first_now_and_then_but_not_when_switched_off(talk: Talk) -> None:
    kinds = {(await talk.claude(_request())).json["content"][0]["type"] for _ in range(12)}
    assert kinds == {"thinking", "text"}
    quiet = [(await talk.claude(_request(thinking={"type": "disabled"}))).json["content"][0]["type"] for _ in range(6)]
    assert set(quiet) == {"text"}


async def test_a_forced_tool_is_called(talk: Talk) -> None:
    tool = {"name": "record", "input_schema": {"type": "object", "properties": {"summary": {"type": "string"}}}}
    got = await talk.claude(_request(tools=[tool], tool_choice={"type": "tool", "name": "record"}))
    assert got.json["stop_reason"] == "tool_use"
    assert got.json["content"][-1]["input"]["summary"].startswith("Ines")


async def test_a_long_answer_is_cut_at_max_tokens(talk: Talk) -> None:
    got = await talk.claude(_request(max_tokens=10, thinking={"type": "disabled"}))
    assert (got.json["stop_reason"], got.json["usage"]["output_tokens"]) == ("max_tokens", 10)


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"max_tokens": None}, 400, "max_tokens"),
        ({"messages": [{"role": "assistant", "content": "{"}]}, 400, "prefill"),
        ({"messages": []}, 400, "messages"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, 400, "thinking"),
        ({"mood": "sunny"}, 400, "mood"),
        ({"model": "claude-unheard-of"}, 404, "model"),
        ({"output_config": {"format": {"schema": {"type": "object"}}}}, 400, "additionalProperties"),
    ],
)
async def test_what_the_real_one_refuses_is_refused(
    talk: Talk, change: dict[str, object], status: int, part: str
) -> None:
    got = await talk.claude(_request(**change))
    assert got.status == status
    assert part in got.json["error"]["message"]
    assert (await talk.meter("claude"))["billed"] == 0


async def test_both_versions_are_spoken_and_the_new_one_takes_no_temperature(talk: Talk) -> None:
    assert (await talk.claude(_request(temperature=0))).status == 200
    assert (await talk.claude(_request(), version="2026-10-21")).status == 200
    assert (await talk.claude(_request(temperature=0), version="2026-10-21")).status == 400
    assert (await talk.claude(_request(), version="1999-01-01")).status == 400


async def test_a_bearer_key_is_as_good_and_models_can_be_listed_for_nothing(talk: Talk) -> None:
    headers = {"authorization": "Bearer sandbox-key", "anthropic-version": "2026-10-21"}
    got = await talk.send("GET", "/claude/v1/models", headers=headers)
    assert "claude-haiku-5-5" in [model["id"] for model in got.json["data"]]
    assert (await talk.send("GET", "/claude/v1/models", headers={"anthropic-version": "2026-10-21"})).status == 401
    assert (await talk.meter("claude"))["billed"] == 0


@pytest.mark.parametrize(
    ("key", "status", "kind"),
    [
        ("sandbox-mistyped", 401, "authentication_error"),
        ("sandbox-revoked", 401, "authentication_error"),
        ("sandbox-no-scope", 403, "permission_error"),
        ("sandbox-out-of-credits-400", 400, "invalid_request_error"),
        ("sandbox-out-of-credits-402", 402, "billing_error"),
        ("sandbox-out-of-credits-429", 429, "rate_limit_error"),
    ],
)
async def test_a_key_gets_what_it_says(talk: Talk, key: str, status: int, kind: str) -> None:
    got = await talk.claude(_request(), key=key)
    assert (got.status, got.json["error"]["type"]) == (status, kind)
    assert (await talk.meter("claude"))["billed"] == 0


async def test_an_ungrounded_answer_and_a_refusal_are_billed(talk: Talk) -> None:
    await talk.play('[[fault]]\nkind = "ungrounded"')
    invented = json.loads(_text((await talk.claude(_request())).json))
    assert not _figures(invented["summary"]) <= _figures(json.dumps(FINDINGS))
    await talk.play('[[fault]]\nkind = "refusal"')
    assert (await talk.claude(_request())).json["stop_reason"] == "refusal"
    assert (await talk.meter("claude"))["billed"] == 2
