import threading

import anyio
import pytest

from streamsession.testing import Gate


def arrive(gate: Gate) -> None:
    with gate.arrive():
        pass


def test_a_gate_is_reached_from_another_thread() -> None:
    gate = Gate()
    thread = threading.Thread(target=arrive, args=(gate,))
    thread.start()
    gate.wait_reached()
    thread.join()
    gate.wait_reached()


def test_a_gate_counts_its_arrivals_open_or_not() -> None:
    gate = Gate()
    arrive(gate)
    gate.open()
    arrive(gate)
    gate.wait_reached(times=2, timeout=0)


def test_a_gate_stays_open() -> None:
    gate = Gate()
    assert not gate.is_open
    gate.open()
    gate.open()
    assert gate.is_open


def test_a_gate_rings_for_everyone_who_waits_at_it() -> None:
    gate = Gate()
    with gate.arrive() as first, gate.arrive() as second:
        gate.open()
        assert first.recv(1)
        assert second.recv(1)


def test_waiting_in_vain_says_how_often_the_gate_was_reached() -> None:
    gate = Gate()
    arrive(gate)
    with pytest.raises(TimeoutError, match=r"0\.01 s in vain: .* reached 1 times, expected 2"):
        gate.wait_reached(times=2, timeout=0.01)


@pytest.mark.anyio
async def test_waiting_in_a_task_in_vain_says_the_same() -> None:
    with pytest.raises(TimeoutError, match=r"0\.01 s in vain: .* reached 0 times, expected 1"):
        await Gate().reached(timeout=0.01)


@pytest.mark.anyio
async def test_many_tasks_wait_for_one_gate() -> None:
    gate = Gate()
    thread = threading.Thread(target=arrive, args=(gate,))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(gate.reached)
            thread.start()
        thread.join()


@pytest.mark.anyio
async def test_waiting_for_what_has_happened_lets_other_tasks_run() -> None:
    gate = Gate()
    arrive(gate)
    with anyio.move_on_after(0) as scope:
        await gate.reached()
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_a_cancelled_wait_leaves_the_gate_as_it_was() -> None:
    gate = Gate()
    async with anyio.create_task_group() as group:
        group.start_soon(gate.reached)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    arrive(gate)
    await gate.reached()


def test_a_gate_without_waiters_may_ring_forever() -> None:
    gate = Gate()
    with gate.arrive() as bell:
        for _ in range(100_000):  # far more than a socket can hold
            gate.open()
        assert bell.recv(1)
