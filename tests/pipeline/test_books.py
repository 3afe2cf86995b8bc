"""Whatever a provider answers, and however often the work is taken up again: the books agree, nothing is bought twice.

The answers are drawn from a seed, which is in the test's name; the same seed gives the same answers.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from desk import FOUND, NOBODY, Open

from builders import rows, somebody
from sluiceway.store.schema import prospects, runs

PEOPLE = [somebody(number) for number in range(15)]
AT_ONCE = {"retry-after": "0"}

# What may happen to a request: the answer's status, and how it is given. The meter bills what `billed` says.
ANSWERS: list[tuple[int, dict[str, Any]]] = [
    (200, {}),
    (200, {"body": NOBODY}),
    (200, {"cut": "truncate"}),
    (200, {"cut": "after"}),
    (200, {"cut": "before", "billed": False}),
    (200, {"body": "<html>It works!</html>"}),
    (200, {"body": '{"person": {"name"', "billed": False}),
    (500, {}),
    (503, {"headers": AT_ONCE}),
    (429, {"headers": AT_ONCE}),
    (504, {"billed": True}),
    (504, {}),
    (422, {"body": '{"error": "Required parameter missing"}'}),
    (418, {"body": "no"}),
]


def after_the_first_unknown(attempts: list[dict[str, Any]]) -> int:
    """How many requests were sent from the first on whose end nobody knows."""
    charges = [attempt["charge"] for attempt in attempts]
    if "unknown" not in charges:
        return 0
    return sum(charge != "not_sent" for charge in charges[charges.index("unknown") :])


@pytest.mark.parametrize("on_unknown", ["ask-once", "leave"])
@pytest.mark.parametrize("seed", range(4))
async def test_the_books_agree_whatever_is_answered(desk: Open, seed: int, on_unknown: str) -> None:
    luck = random.Random(seed)
    for _ in range(3):  # three processes, one after the other, on the same list
        async with desk(on_unknown=on_unknown, concurrency=5) as at:
            at.sandbox.post("/_answer/clear")
            for _ in range(60):
                status, more = luck.choice(ANSWERS)
                at.answers(status, **{"body": FOUND, **more})
            tally = await at.run(*PEOPLE)
            assert tally.done == len(PEOPLE)
    assert all(run["closed_at"] for run in rows(at.store, runs))
    assert all(result["closed_at"] for result in at.results())
    sent = defaultdict(list)
    for attempt in at.attempts():
        sent[attempt["prospect_id"]].append(attempt)
    for prospect in rows(at.store, prospects):
        asked = sent[prospect["id"]]
        assert sum(attempt["charge"] == "billed" for attempt in asked) <= 1
        assert after_the_first_unknown(asked) <= (2 if on_unknown == "ask-once" else 1)


async def test_a_provider_that_never_answers_clearly_is_left_alone(desk: Open) -> None:
    for number in range(4):
        async with desk() as at:
            at.answers(*[200] * 9, cut="after")
            await at.run(*PEOPLE[:3], digest=f"list {number}")
    assert at.requests() == 6
    assert at.charges() == ["unknown"] * 6


@pytest.mark.parametrize(
    ("answers", "charges", "status"),
    [
        ([(200, {"cut": "after"}), (500, {})], ["unknown", "free"], "failed"),
        ([(200, {"cut": "after"}), (429, {"headers": AT_ONCE})], ["unknown", "free"], "rate_limited"),
        ([(500, {}), (200, {"cut": "after"}), (200, {})], ["free", "unknown", "billed"], "no_data"),
        ([(500, {}), (200, {"cut": "after"}), (500, {})], ["free", "unknown", "free"], "failed"),
        ([(200, {"cut": "after"}), (200, {"cut": "after"})], ["unknown", "unknown"], "failed"),
    ],
)
async def test_exactly_one_more_request_follows_an_unknown_one_whatever_it_leads_to(
    desk: Open, answers: list[tuple[int, dict[str, Any]]], charges: list[str], status: str
) -> None:
    async with desk() as at:
        for answer, more in answers:
            at.answers(answer, **more)
        await at.run(PEOPLE[0])
        assert at.charges() == charges
        assert at.statuses() == [status]
        at.answers(200)
        await at.run(PEOPLE[0])
        assert at.charges() == charges
