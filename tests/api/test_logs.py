"""The service's log: one JSON object per line, each with what it is about, and nobody's key or address in any."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eventually import eventually
from people import with_people
from served import ACME, Served

from sluiceway.errors import Redactor
from sluiceway.logs import about, hiding, know, logging_to
from sluiceway.settings import LogForm

KEY = "CANARY-key-51b7"
PERSON = "canary.person@harbourline.example"
log = logging.getLogger("sluiceway.test")


@contextmanager
def read_back(form: LogForm = LogForm.JSON) -> Iterator[io.StringIO]:
    """Collect what is logged within the block."""
    stream = io.StringIO()
    with logging_to(stream, form, Redactor([KEY])):
        yield stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line as an object; fails where one is none."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_time_level_logger_and_message() -> None:
    with read_back() as stream:
        log.warning("two\nlines of %s", "words")
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "sluiceway.test", "message": "two lines of words"}


def test_a_line_says_what_it_is_about_within_the_block_and_no_longer() -> None:
    with read_back() as stream:
        with about(run_id="r1", tenant_id=None):
            know(batch_id="b1")
            log.info("inside")
        log.info("outside")
    inside, outside = lines(stream)
    assert (inside["run_id"], inside["batch_id"]) == ("r1", "b1")
    assert not {"run_id", "batch_id", "tenant_id"} & (outside.keys() | (inside.keys() - {"run_id", "batch_id"}))


@pytest.mark.parametrize("form", [LogForm.JSON, LogForm.TEXT])
def test_keys_and_addresses_are_in_no_line_wherever_they_were_put(form: LogForm) -> None:
    learned = "CANARY-learned-77"
    with read_back(form) as stream, hiding(Redactor([learned])), about(user_id=f"{PERSON} {KEY}"):
        log.info("asked about %s with %s and %s", PERSON, KEY, learned)
        log.info("with facts", extra={"facts": {"route": f"/{KEY}/{PERSON}", "status": 200}})
        try:
            int(f"{PERSON} with {KEY}\nand {learned} on the next line")
        except ValueError:
            log.exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "Traceback" in stream.getvalue()
    for canary in (KEY, PERSON, learned):
        assert canary not in stream.getvalue()


def test_text_is_for_a_terminal_and_json_for_everything_else() -> None:
    with read_back(LogForm.AUTO) as stream:
        log.info("to a file")
    assert lines(stream)[0]["message"] == "to a file"
    with read_back(LogForm.TEXT) as stream, about(batch_id="b1"):
        log.info("to a person")
        log.error("who should look")
    plain, error = stream.getvalue().splitlines()
    assert plain[8:] == " to a person  batch_id=b1"
    assert error[8:] == " error: who should look  batch_id=b1"


def test_other_peoples_chatter_is_left_out_and_their_warnings_are_kept() -> None:
    with read_back() as stream:
        logging.getLogger("alembic").info("chatter")
        logging.getLogger("alembic").warning("worth reading")
        logging.getLogger("uvicorn.error").info("Started server process")
    assert [line["message"] for line in lines(stream)] == ["worth reading", "Started server process"]


# What the service writes.


def of_requests(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines about requests."""
    return [line for line in lines(stream) if line["logger"] == "sluiceway.requests"]


def test_every_request_has_a_line_with_its_route_and_who_asked(served: Served) -> None:
    with read_back() as stream:
        answer = served.get("/prospects/somebody-in-particular?email=canary.person@harbourline.example")
        served.get("/canary-place", who=None)
        # A line is written when the answer has gone, which may be a moment after it has come.
        eventually(lambda: len(of_requests(stream)) == 2)
    first, second = of_requests(stream)
    assert (first["method"], first["route"], first["status"]) == ("GET", "/api/v1/prospects/{prospect_id}", 404)
    assert first["user_id"] == served.users[f"agent@{ACME}"].id
    assert first["tenant_id"] == ACME
    assert first["request_id"] == answer.headers["X-Request-Id"]
    assert first["duration_ms"] >= 0
    assert (second["route"], second["status"]) == ("(none)", 404)
    assert "user_id" not in second
    assert "somebody-in-particular" not in stream.getvalue()
    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_sane_request_id_is_kept(served: Served, given: str) -> None:
    for path in ("/healthz", "/prospects/nobody"):
        assert served.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a;b", 'a"b', "ä".encode().decode("latin-1")])
def test_any_other_request_id_is_replaced(served: Served, given: str) -> None:
    answer = served.get("/healthz", headers={"X-Request-Id": given.encode("latin-1")})
    assert answer.headers["X-Request-Id"] != given
    assert len(answer.headers["X-Request-Id"]) == 32


def test_an_unexpected_error_is_answered_with_its_request_id_and_is_in_the_log_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise RuntimeError(f"broken for {PERSON} with {KEY}")

    monkeypatch.setattr("sluiceway.api.prospects.one", broken)
    with read_back() as stream:
        answer = served.get("/prospects/somebody")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    (told,) = (line for line in lines(stream) if "exception" in line)
    assert told["request_id"] == answer.headers["X-Request-Id"]
    assert told["message"] == "GET /api/v1/prospects/{prospect_id}"
    assert "RuntimeError" in told["exception"]
    assert KEY not in stream.getvalue()
    assert PERSON not in stream.getvalue()
    assert served.get("/healthz").status_code == 200


def test_what_is_logged_in_a_batch_says_which_batch_and_run(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    (prospect,) = with_people(served, 1)
    served.sandbox.post("/_answer", {"provider": "apollo", "status": 401, "times": 1})
    monkeypatch.setattr(served.service.main.gate, "_tell", log.info)
    with read_back() as stream:
        served.post(f"/prospects/{prospect}/enrich", {"sources": ["apollo"]}, headers={"Prefer": "wait=5"})
    told = [line for line in lines(stream) if line["logger"] == "sluiceway.test"]
    assert told
    assert {"batch_id", "run_id", "tenant_id"} <= told[0].keys()
