"""What keeps a request from being sent, and when it may be sent again."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest

from builders import until
from sluiceway.pipeline.gate import TRIPS_AFTER, Gate, Held, Pause

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    """A clock with one moment on it, which a test may move."""
    return [NOW]


@pytest.fixture
async def gate(told: list[str], clock: list[datetime]) -> Gate:
    return Gate(told.append, lambda: clock[0])


async def test_an_open_gate_lets_everything_through(gate: Gate) -> None:
    gate.check("apollo")
    assert gate.is_open("apollo")


async def test_a_stopped_provider_is_held_with_the_reason_and_others_are_not(gate: Gate, told: list[str]) -> None:
    gate.stop("apollo", "its key was refused")
    with pytest.raises(Held, match="its key was refused"):
        gate.check("apollo")
    assert gate.is_open("exa")
    gate.stop("apollo", "its key was refused")
    assert told == ["its key was refused"]


async def test_a_rest_ends_at_its_moment(gate: Gate, clock: list[datetime]) -> None:
    gate.stop("apollo", "a rest", NOW + timedelta(seconds=60))
    assert not gate.is_open("apollo")
    clock[0] = NOW + timedelta(seconds=60)
    gate.check("apollo")


async def test_after_a_rest_one_request_finds_out_and_the_others_wait_for_it(gate: Gate, clock: list[datetime]) -> None:
    gate.stop("apollo", "a rest", NOW + timedelta(seconds=60))
    clock[0] = NOW + timedelta(seconds=60)
    gate.enter("apollo", "a")
    with pytest.raises(Held, match="a rest"):
        gate.enter("apollo", "a")
    others = asyncio.create_task(gate.wait_for_verdict("apollo"))
    await asyncio.sleep(0)
    assert not others.done()
    gate.heard("apollo", "a", well=True)
    await others
    gate.enter("apollo", "a")
    gate.enter("apollo", "a")
    assert gate.is_open("apollo")


async def test_a_probe_that_fails_keeps_the_breaker_open_for_longer(
    gate: Gate, clock: list[datetime], told: list[str]
) -> None:
    for _ in range(TRIPS_AFTER):
        gate.heard("exa", "a", well=False)
    first = gate.stops["exa"].until
    assert first is not None
    assert first == NOW + timedelta(seconds=15)
    clock[0] = first
    gate.enter("exa", "a")
    gate.heard("exa", "a", well=False)
    second = gate.stops["exa"].until
    assert second == first + timedelta(seconds=30)
    clock[0] = second
    gate.enter("exa", "a")
    gate.heard("exa", "a", well=True)
    assert gate.is_open("exa")
    assert told[-1] == "exa answers again; going on"


async def test_a_probe_that_was_never_sent_lets_another_find_out(gate: Gate, clock: list[datetime]) -> None:
    gate.stop("apollo", "a rest", NOW)
    gate.enter("apollo", "a")
    gate.give_up_probe("apollo", "a")
    gate.enter("apollo", "a")
    with pytest.raises(Held):
        gate.check("apollo")


async def test_answers_in_between_keep_the_breaker_closed(gate: Gate) -> None:
    for _ in range(TRIPS_AFTER - 1):
        gate.heard("exa", "a", well=False)
    gate.heard("exa", "a", well=True)
    for _ in range(TRIPS_AFTER - 1):
        gate.heard("exa", "a", well=False)
    assert gate.is_open("exa")


@pytest.mark.parametrize(
    ("scope", "name", "stopped"),
    [
        ("all", "", {"apollo acme b1", "exa acme b1", "apollo zeta b2", "exa zeta b2"}),
        ("provider", "apollo", {"apollo acme b1", "apollo zeta b2"}),
        ("tenant", "acme", {"apollo acme b1", "exa acme b1"}),
        ("batch", "b2", {"apollo zeta b2", "exa zeta b2"}),
    ],
)
async def test_a_pause_stops_exactly_what_it_names(gate: Gate, scope: str, name: str, stopped: set[str]) -> None:
    gate.pause([Pause(scope, name, "Ines", "the invoice is being looked at")])
    calls = ["apollo acme b1", "exa acme b1", "apollo zeta b2", "exa zeta b2"]
    assert {call for call in calls if not gate.is_open(*call.split())} == stopped
    with pytest.raises(Held, match=rf"^({scope} {name}|everything) is paused$"):
        gate.check(*min(stopped).split())
    gate.pause([])
    assert all(gate.is_open(*call.split()) for call in calls)


async def test_a_provider_can_be_stopped_again_after_its_rest(
    gate: Gate, told: list[str], clock: list[datetime]
) -> None:
    gate.stop("apollo", "a rest", NOW + timedelta(seconds=60))
    clock[0] = NOW + timedelta(seconds=61)
    gate.check("apollo")
    gate.stop("apollo", "its key was refused")
    assert not gate.is_open("apollo")
    assert told == ["a rest", "its key was refused"]


async def test_a_condemned_key_outlasts_a_rest(gate: Gate, clock: list[datetime]) -> None:
    gate.stop("apollo", "a rest", NOW + timedelta(seconds=60))
    gate.stop("apollo", "its key was refused")
    clock[0] = NOW + timedelta(seconds=61)
    assert not gate.is_open("apollo")


async def test_nothing_is_begun_once_the_work_is_being_stopped(gate: Gate) -> None:
    gate.drain()
    with pytest.raises(Held, match="stopped before it was asked"):
        gate.check("apollo")


async def test_a_failed_connection_is_the_networks_fault_until_another_provider_answers(gate: Gate) -> None:
    gate.answered("exa")
    assert gate.is_offline("apollo"), "that answer came before the trouble"
    gate.answered("exa")
    assert not gate.is_offline("apollo")
    gate.answered("apollo")
    assert gate.is_offline("apollo"), "this is new trouble"


async def test_the_network_is_tried_without_sending_anything_until_it_is_back(gate: Gate) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        waiting = asyncio.create_task(gate.wait_online(f"http://127.0.0.1:{port}/v1"))
        await asyncio.sleep(0)
        received: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.read())
            writer.close()

        place.close()
        server = await asyncio.start_server(listen, "127.0.0.1", port)
        async with server:
            await waiting
            await until(lambda: received)
    assert received == [b""]


async def test_an_answer_from_anybody_ends_the_wait_for_the_network(gate: Gate) -> None:
    waiting = asyncio.create_task(gate.wait_online("http://127.0.0.1:1"))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.answered("exa")
    await waiting


async def test_who_waits_for_the_network_goes_on_although_another_has_lost_it_again(gate: Gate) -> None:
    waiting = asyncio.create_task(gate.wait_online("http://127.0.0.1:1"))
    await asyncio.sleep(0)
    gate.answered("exa")  # which is news for who waits, in a moment
    again = asyncio.create_task(gate.wait_online("http://127.0.0.1:1"))
    await asyncio.sleep(0)
    await waiting
    gate.answered("exa")
    await again
