"""Claude's answers, one by one: which are kept, what each costs in tokens and money, and what may be done next."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract import (
    HTML,
    INES,
    Case,
    a_bad_day,
    about,
    agrees,
    agrees_with_meter,
    anywhere,
    ask_all,
    asked,
    confirmed,
    free,
    names,
    paid,
    read,
    read_over_http,
    somebody,
    unknown,
    unreadable,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.outcome import ChargeKind, Status
from sluiceway.prospect import Person
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources._contract import Request, Response, Retry, Skip, Subject, understand
from sluiceway.sources.apollo import Apollo
from sluiceway.sources.claude import INPUT_BYTES, MODELS, Claude
from sluiceway.sources.exa import Exa

SOURCE = Claude("an-invented-key")
FINDINGS: dict[str, Any] = {
    "apollo": {"title": "Chief Financial Officer", "company": "Harbourline Robotics", "revenue_usd": 96_000_000},
    "edgar": {"insider_trades": [{"date": "2024-07-19", "code": "S", "shares": 12_000, "price": 41.5}] * 3},
}
SUBJECT = about(**FINDINGS)
SIGNAL = {"signal": "Sold shares", "basis": "12,000 shares sold at $41.50 on 19 July 2024"}
SUMMARY = "Ines Okafor-Lind is Chief Financial Officer of Harbourline Robotics, a company with $96 million in revenue."


def words(summary: str = SUMMARY, *signals: Any) -> str:
    """The JSON Claude was asked for."""
    return msgspec.json.encode({"summary": summary, "wealth_signals": signals}).decode()


def message(said: str, *, tokens: Any = (412, 57), **changed: Any) -> dict[str, Any]:
    """A 200's body, as Claude sends it: some thinking, then the text."""
    thinking = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "cache_creation_input_tokens": 0,
             "cache_read_input_tokens": 0, "server_tool_use": None, "service_tier": "standard"}  # fmt: skip
    return {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-5-5",
        "content": [thinking, {"type": "text", "text": said}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": usage, **changed,
    }  # fmt: skip


def billed(status: Status, *, usd: int | None = 70, tokens: Any = (412, 57), **more: Any) -> Any:
    """Tokens were spent: 412 in at 0.1 and 57 out at 0.5 micro-dollars are 69.7, rounded up."""
    return paid(status, usd=usd, tokens=tokens, **more)


def kept(**more: Any) -> Any:
    """Paid, and kept."""
    return billed(Status.COMPLETE, **more)


def lost(says: str, **more: Any) -> Any:
    """Paid, and of no use."""
    return billed(Status.FAILED, says=says, **more)


def refusal(kind: str, text: str = "No.", **more: Any) -> dict[str, Any]:
    """A refusal's body."""
    return {"type": "error", "error": {"type": kind, "message": text, **more}, "request_id": "req_01"}


def limited(code: str) -> dict[str, Any]:
    """The body of a 429 that gives a finer reason."""
    return refusal("rate_limit_error", "Too much.", details={"error_code": code})


CACHED = {"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 1000,
          "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}}  # fmt: skip
YACHT = {"signal": "A yacht", "basis": "worth $9M"}
GUESSED = "Her fortune is put at $731 million, 12% of it in 1999."
OVER = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
WORKSPACE_OVER = "You have reached your specified workspace API usage limits."
EMPTY_BALANCE = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
NO_MONEY = free(Status.QUOTA_EXCEEDED, Retry.STOP)
STOPPED = free(Status.UNAUTHORIZED, Retry.STOP)
PASSES = free(Status.FAILED, Retry.BACKOFF)

ANSWERS = [
    Case("a summary with a sign of wealth", 200, message(words(SUMMARY, SIGNAL)),
         kept(fields={"summary": SUMMARY, "wealth_signals": [SIGNAL]})),
    Case("a summary without any", 200, message(words()),
         kept(fields={"summary": SUMMARY}, without=("wealth_signals",))),
    Case("the text in two blocks", 200,
         message("", content=[{"type": "text", "text": words()[:9]}, {"type": "text", "text": words()[9:]}]), kept()),
    Case("a figure that is not in the input", 200, message(words(GUESSED)), lost("$731 million, 12%, 1999")),
    Case("a figure invented in a sign of wealth", 200, message(words(SUMMARY, YACHT)),
         lost("$9M", data={"ungrounded": ["$9M"]})),
    Case("an invented address", 200, message(words("Write to ines@elsewhere.example.")),
         lost("ines@elsewhere.example")),
    Case("a refusal is paid", 200, message("", content=[], stop_reason="refusal"), lost("refusal")),
    Case("cut off by max_tokens, and paid", 200, message(words()[:30], stop_reason="max_tokens"), lost("max_tokens")),
    Case("cut off by the context window", 200, message("", stop_reason="model_context_window_exceeded"),
         lost("window")),
    Case("text that is not JSON", 200, message("Ines is a CFO."), lost("not the JSON")),
    Case("JSON cut off without saying so", 200, message(words()[:30]), lost("not the JSON")),
    Case("JSON of another shape", 200, message('{"summary": "Ines is a CFO."}'), lost("not the JSON")),
    Case("an empty summary", 200, message(words("  ")), lost("empty")),
    Case("no text at all", 200, message("", content=[{"type": "thinking", "thinking": "Hm."}]), lost("not the JSON")),
    Case("content of an odd type", 200, message("", content=None), lost("not the JSON")),
    Case("cached tokens are paid at their own prices", 200, message(words(), usage=CACHED),
         kept(usd=70, tokens=(1_400, 10))),
    Case("a dated model is paid like its alias", 200, message(words(), model="claude-haiku-4-5-20251001"),
         kept(usd=697)),
    Case("a model without a price costs an unknown amount", 200, message(words(), model="claude-mythos-5-2"),
         kept(usd=None)),
    Case("no model told: the one that was asked", 200, message(words(), model=None), kept()),
    Case("no usage told is unknown, not nothing", 200, message(words(), usage=None),
         kept(usd=None, tokens=(None, None))),
    Case("usage of an odd type", 200, message(words(), tokens=("412", -1)), kept(usd=None, tokens=(None, None))),
]  # fmt: skip
REFUSALS = [
    Case("400 is our mistake", 400, refusal("invalid_request_error", "max_tokens: required"), free(Status.FAILED)),
    Case("400 at the limit we set", 400, refusal("invalid_request_error", OVER), NO_MONEY),
    Case("400 at the workspace's limit", 400, refusal("invalid_request_error", WORKSPACE_OVER), NO_MONEY),
    Case("400 with an empty balance", 400, refusal("invalid_request_error", EMPTY_BALANCE), NO_MONEY),
    Case("402", 402, refusal("billing_error"), NO_MONEY),
    Case("429 at an enforced spend limit", 429, limited("enforced_spend_limit_reached"), NO_MONEY,
         {"retry-after": "60"}),
    Case("429 at a contract's spend limit", 429, limited("contract_spend_limit_reached"), NO_MONEY),
    Case("429 at the ramp limit passes", 429, limited("ramp_limit_exceeded"),
         free(Status.RATE_LIMITED, Retry.BACKOFF, retry_after=60.0), {"retry-after": "60"}),
    Case("429 per minute passes", 429, refusal("rate_limit_error"),
         free(Status.RATE_LIMITED, Retry.BACKOFF, retry_after=12.0, says="rate_limit_error"), {"retry-after": "12"}),
    Case("401 is a bad key", 401, refusal("authentication_error", "invalid x-api-key"), STOPPED),
    Case("403 is a key without permission", 403, refusal("permission_error"), STOPPED),
    Case("404 is an unknown model, in every request", 404, refusal("not_found_error", "model: claude-haiku-9"),
         free(Status.FAILED, Retry.STOP, says="claude-haiku-9")),
    Case("404 with a web page", 404, HTML, free(Status.FAILED, Retry.STOP)),
    Case("409", 409, refusal("conflict_error"), free(Status.FAILED)),
    Case("413", 413, refusal("request_too_large"), free(Status.FAILED)),
    Case("422", 422, refusal("invalid_request_error"), free(Status.FAILED)),
    Case("500 api_error", 500, refusal("api_error"), PASSES),
    Case("503 unavailable", 503, refusal("api_error"), PASSES),
    Case("504 timeout_error", 504, refusal("timeout_error"), unknown(Status.TIMED_OUT)),
    Case("529 overloaded_error", 529, refusal("overloaded_error"), PASSES),
]  # fmt: skip
CASES = [*ANSWERS, *REFUSALS, *anywhere(but=[404]), *unreadable(msgspec.json.encode(message(words(SUMMARY, SIGNAL))))]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_each_answer_of_claude_means_what_the_table_says(case: Case) -> None:
    agrees(read(SOURCE, case, SUBJECT), case.means)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
async def test_each_answer_of_claude_means_the_same_over_http(case: Case, sandbox: SandboxProcess) -> None:
    agrees(await read_over_http(SOURCE, case, SUBJECT, sandbox), case.means)


def test_claude_is_counted_only_after_a_confirmed_answer() -> None:
    counted = [case.name for case in CASES if read(SOURCE, case, SUBJECT).charge.kind is ChargeKind.BILLED]
    assert counted == [case.name for case in confirmed(ANSWERS)]
    assert all(case.status == 200 for case in confirmed(ANSWERS))


async def well_known(count: int, sandbox: SandboxProcess) -> list[Subject]:
    """People of the sandbox's world, with what Apollo and Exa have found about each."""
    known: dict[Person, dict[str, Any]] = {}
    for source in (Apollo("key"), Exa("key")):
        subjects = [subject for subject in somebody(count) if isinstance(source.request(subject), Request)]
        for subject, reading in zip(subjects, await ask_all(source, subjects, sandbox), strict=True):
            if reading.status is Status.COMPLETE:
                found = {item.field.value: item.value for item in reading.found}
                known.setdefault(subject.person, {})[source.name] = found
    sandbox.post("/_meter/reset")
    return [about(person, **findings) for person, findings in known.items()]


async def test_what_we_count_of_claude_is_what_its_own_meter_counts(sandbox: SandboxProcess) -> None:
    readings = await ask_all(SOURCE, await well_known(40, sandbox), sandbox)
    assert {reading.charge.kind for reading in readings} <= {ChargeKind.BILLED, ChargeKind.FREE}
    assert any(reading.status is Status.COMPLETE for reading in readings)
    agrees_with_meter(SOURCE, readings, sandbox)


async def test_on_a_bad_day_claude_is_never_counted_without_a_confirmed_answer(sandbox: SandboxProcess) -> None:
    subjects = await well_known(120, sandbox)
    with a_bad_day(sandbox):
        readings = await ask_all(SOURCE, subjects, sandbox)
        agrees_with_meter(SOURCE, readings, sandbox)
    assert {reading.charge.kind for reading in readings} >= {ChargeKind.BILLED, ChargeKind.FREE, ChargeKind.UNKNOWN}


def test_nothing_of_an_ungrounded_answer_is_kept_and_it_is_paid_all_the_same() -> None:
    for case in ANSWERS:
        reading = read(SOURCE, case, SUBJECT)
        assert (reading.found == ()) == (reading.status is Status.FAILED)
        assert reading.retry is Retry.NEVER


def test_a_prompt_over_a_hundred_thousand_tokens_is_paid_at_the_long_price() -> None:
    answer = msgspec.json.encode(message(words(), tokens=(100_001, 10)))
    reading = understand(SOURCE, SUBJECT, asked(SOURCE, SUBJECT), Response(200, {}, answer))
    assert reading.charge.usd_micros == 50_026  # 100,001 at 0.5 and 10 at 2.5 micro-dollars


def sent(source: Claude = SOURCE, **findings: Any) -> dict[str, Any]:
    """The body Claude is sent about Ines."""
    body: dict[str, Any] = msgspec.json.decode(asked(source, about(**findings)).body or b"")
    return body


def test_claude_is_told_the_person_and_the_findings_and_nothing_else() -> None:
    body = sent(**FINDINGS)
    assert msgspec.json.decode(body["messages"][0]["content"]) == {
        "person": {"name": "Ines Okafor-Lind", "company": "Harbourline Robotics", "domain": "harbourline.example"},
        "findings": FINDINGS,
    }
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert (body["model"], body["output_config"]["effort"]) == ("claude-haiku-5-5", "low")


def test_claude_is_never_told_how_a_person_is_reached() -> None:
    contacts = {"work_email": "ines@harbourline.example", "personal_email": "i@mail.example", "phone": "+31600000000"}
    body = asked(SOURCE, about(apollo={"title": "CFO", **contacts})).body or b""
    assert not any(value.encode() in body for value in contacts.values())


def test_the_order_of_findings_does_not_make_another_request() -> None:
    one, other = about(apollo={"title": "CFO", "company": "Q"}, exa={"articles": []}), about(
        exa={"articles": []}, apollo={"company": "Q", "title": "CFO"}
    )  # fmt: skip
    assert asked(SOURCE, one).key("claude") == asked(SOURCE, other).key("claude")


def test_other_findings_make_another_summary() -> None:
    one, other = about(apollo={"title": "CFO"}), about(apollo={"title": "CEO"})
    assert asked(SOURCE, one).key("claude") != asked(SOURCE, other).key("claude")
    # what is before the bar must differ, or a summary of the old findings would be taken for one of the new
    assert SOURCE.subject_key(one).partition("|")[0] != SOURCE.subject_key(other).partition("|")[0]
    assert SOURCE.subject_key(one) != Claude("key", {"model": "claude-opus-5-5"}).subject_key(one)
    assert SOURCE.subject_key(one) == Claude("another key").subject_key(one)


def test_a_saved_answer_of_claude_is_read_as_its_own_input() -> None:
    reading = SOURCE.read_file(msgspec.json.encode(message(words(GUESSED, SIGNAL))))
    assert (reading.status, reading.found[0].value) == (Status.COMPLETE, GUESSED)


@pytest.mark.parametrize(
    "findings", [{}, {"apollo": {}}, {"contactout": {"phone": "+31600000000"}}, {"claude": {"summary": "x"}}]
)
def test_claude_is_not_asked_when_the_others_found_nothing_to_write_about(findings: Any) -> None:
    assert SOURCE.request(about(**findings)) == Skip("nothing was found to summarise")


def test_a_setting_chooses_the_model_and_one_that_thinks_otherwise_is_given_no_effort() -> None:
    assert sent(Claude("key", {"model": "claude-opus-5-5"}), **FINDINGS)["model"] == "claude-opus-5-5"
    assert "effort" not in sent(Claude("key", {"model": "claude-haiku-4-5-20251001"}), **FINDINGS)["output_config"]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
ANY_FINDINGS = st.dictionaries(
    st.sampled_from(["apollo", "edgar", "exa"]), st.dictionaries(st.text(max_size=9), ANY_JSON, max_size=4)
)


@settings(deadline=None, max_examples=50)  # some of these are many times what fits
@given(ANY_FINDINGS, st.sampled_from([1, 10, 300]))
def test_the_input_is_shortened_to_its_bound_and_always_in_the_same_way(findings: dict[str, Any], times: int) -> None:
    findings = {
        source: {f"{name}{number}": value for name, value in fields.items() for number in range(times)}
        for source, fields in findings.items()
    }
    one, other = SOURCE.request(about(**findings)), Claude("another").request(about(**findings))
    if isinstance(one, Skip) or isinstance(other, Skip):
        assert one == other
        return
    assert one.body == other.body
    assert len(msgspec.json.decode(one.body or b"")["messages"][0]["content"].encode()) <= INPUT_BYTES


def test_a_shortened_input_says_so_and_keeps_what_comes_first() -> None:
    articles = [{"title": f"Article {number}", "highlight": "x" * 3_000} for number in range(100)]
    told = msgspec.json.decode(sent(exa={"articles": articles})["messages"][0]["content"])
    assert told["left_out"]
    assert told["findings"]["exa"]["articles"][0]["title"] == "Article 0"


@pytest.mark.parametrize("model", MODELS)
def test_no_answer_within_its_limits_can_cost_more_than_was_reserved(model: str) -> None:
    source = Claude("key", {"model": model})
    findings = {"exa": {"articles": ["é" * 400] * 200}}
    request = asked(source, about(**findings))
    body = msgspec.json.decode(request.body or b"")
    # the dearest a tokenizer could be: one token for every byte of everything that was sent
    everything = sum(len(part.encode()) for part in (body["system"], body["messages"][0]["content"]))
    tokens = everything + len(msgspec.json.encode(body["output_config"]))
    answer = message(words(), tokens=(tokens, body["max_tokens"]), model=model)
    charge = understand(source, about(**findings), request, Response(200, {}, msgspec.json.encode(answer))).charge
    assert charge.usd_micros is not None
    assert request.price.usd_micros is not None
    assert charge.usd_micros <= request.price.usd_micros


def test_the_price_of_a_model_we_have_no_price_for_is_unknown_and_never_nothing() -> None:
    price = Claude("key", {"model": "claude-mythos-5-2"}).price(())
    assert price.usd_micros is None
    assert price.paid


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (200, {"data": [{"id": "claude-haiku-5-5"}], "has_more": False}, (Status.COMPLETE, Retry.NEVER)),
        (401, refusal("authentication_error"), (Status.UNAUTHORIZED, Retry.STOP)),
        (403, refusal("permission_error"), (Status.UNAUTHORIZED, Retry.STOP)),
    ],
)
def test_the_free_check_of_claude_tells_a_good_key_from_a_bad_one(status: int, body: Any, means: Any) -> None:
    reading = understand(SOURCE, about(INES), SOURCE.check(), Response(status, {}, msgspec.json.encode(body)))
    assert (reading.status, reading.retry, reading.charge.kind) == (*means, ChargeKind.FREE)


def test_the_request_id_of_claude_is_kept_from_its_header() -> None:
    case = Case("", 200, message(words()), kept(), {"request-id": "req_01"})
    assert read(SOURCE, case, SUBJECT).request_id == "req_01"
