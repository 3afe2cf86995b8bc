"""What is alike: durations in one bucket, failures in one group, tenants in one class."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.admin.tenants import Class, standing
from sluiceway.outcome import FAILURES, Status
from sluiceway.rollups.durations import BOUNDS_US, bucket_of, quantile_us
from sluiceway.rollups.errors import fingerprint, normal_message

LATENCIES = st.lists(st.integers(0, 200_000_000), min_size=1, max_size=60)


def test_buckets_begin_at_a_millisecond_and_each_is_a_fifth_longer_than_the_one_before() -> None:
    assert (BOUNDS_US[0], BOUNDS_US[4], BOUNDS_US[-1]) == (1000, 2000, 131_072_000)
    assert all(1.18 < later / earlier < 1.20 for earlier, later in pairwise(BOUNDS_US))


@given(st.integers(0, 131_072_000))
def test_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed(latency: int) -> None:
    bucket = bucket_of(latency)
    assert latency <= BOUNDS_US[bucket]
    assert bucket == 0 or latency > BOUNDS_US[bucket - 1]


@given(LATENCIES, st.sampled_from([0.5, 0.95]))
def test_a_quantile_from_buckets_is_the_bound_of_the_bucket_the_real_one_is_in(
    latencies: list[int], share: float
) -> None:
    buckets: dict[int, int] = {}
    for latency in latencies:
        buckets[bucket_of(latency)] = buckets.get(bucket_of(latency), 0) + 1
    real = next(v for place, v in enumerate(sorted(latencies), 1) if place >= share * len(latencies))
    bucket = bucket_of(real)
    assert quantile_us(buckets, share) == (BOUNDS_US[bucket] if bucket < len(BOUNDS_US) else None)


def test_of_no_durations_there_is_no_quantile() -> None:
    assert quantile_us({}, 0.5) is None


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("HTTP 500: upstream 12 is gone", "HTTP 500: upstream 7 is gone", "HTTP 500: upstream <n> is gone"),
        ("no answer within 20 s", "no answer within 60 s", "no answer within <n> s"),
        ("took 3.5ms", "took 1,200ms", "took <n>ms"),
        ("retry at 2026-11-24T15:00:00.000Z", "retry at 2026-11-25 07:30", "retry at <time>"),
        ("see https://a.example/x?y=1 there", "see http://b.example/2/3 there", "see <url> there"),
        ("ines@x.example is unknown", "[e-mail] is unknown", "<e-mail> is unknown"),
        ("request req_011CSx9aa failed", "request 8f14e45fceea167a failed", "request <id> failed"),
        ("no 0198c0de-0000-7000-8000-00000000beef", "no 0198c0de-1111-7000-8000-00000000beef", "no <id>"),
        ("cannot read /var/lib/x.pem", "cannot read /tmp/y/z", "cannot read <path>"),
        ("  two   words\n", "two words", "two words"),
    ],
)
def test_messages_that_differ_in_particulars_are_alike(one: str, other: str, says: str) -> None:
    assert normal_message(one) == normal_message(other) == says


@pytest.mark.parametrize(
    ("one", "other"),
    [("HTTP 500: gone", "HTTP 502: gone"), ("this key is not valid", "no credits left"), (None, "no credits left")],
)
def test_messages_that_say_something_else_are_not(one: str | None, other: str | None) -> None:
    assert fingerprint("exa", "failed", one) != fingerprint("exa", "failed", other)


def test_source_and_class_tell_groups_apart() -> None:
    assert len({fingerprint(source, s, "x") for source in ("exa", "apollo") for s in FAILURES}) == 2 * len(FAILURES)


def test_only_failures_have_a_fingerprint() -> None:
    assert {status for status in Status if fingerprint("exa", status, "x")} == FAILURES


@given(st.text(max_size=3000))
def test_any_text_has_a_short_normal_message(text: str) -> None:
    assert len(normal_message(text)) <= 300


def classes(*scores: int) -> list[str]:
    found = standing({str(number): score for number, score in enumerate(scores)})
    return [found[str(number)][0].value for number in range(len(scores))]


def test_a_quarter_is_healthy_a_quarter_needs_attention_the_rest_is_moderate() -> None:
    assert classes(8, 7, 6, 5, 4, 3, 2, 1) == [*["healthy"] * 2, *["moderate"] * 4, *["needs_attention"] * 2]
    assert classes(9, 5, 4, 0) == ["healthy", "moderate", "moderate", "needs_attention"]


def test_under_four_tenants_nobody_is_ranked() -> None:
    assert classes(9, 5, 0) == ["unranked"] * 3
    assert standing({"a": 1})["a"][1].reason == "only 1 of the 4 tenants it takes have data"


def test_tenants_that_tie_stand_together_and_over_a_border_they_are_moderate() -> None:
    assert classes(5, 5, 5, 5) == ["moderate"] * 4
    assert classes(9, 9, 3, 2, 2, 2, 1, 0) == [*["healthy"] * 2, *["moderate"] * 4, *["needs_attention"] * 2]
    assert classes(9, 9, 9, 3, 2, 0, 0, 0) == ["moderate"] * 8


@given(st.lists(st.integers(0, 5), min_size=4, max_size=40))
def test_who_did_more_never_stands_worse(scores: list[int]) -> None:
    order = {Class.NEEDS_ATTENTION: 0, Class.MODERATE: 1, Class.HEALTHY: 2}
    found = standing({str(number): score for number, score in enumerate(scores)})
    ranked = sorted((score, order[found[str(number)][0]]) for number, score in enumerate(scores))
    assert [place for _, place in ranked] == sorted(place for _, place in ranked)
    healthy = sum(1 for _, place in ranked if place == 2)
    assert healthy * 4 <= len(scores)
