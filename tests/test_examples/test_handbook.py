"""The handbook's program: its lines, in its order, however the block is left."""

import re
from contextlib import aclosing

import pytest

from handbook import OFFLINE, SetupSession, main, run_agent
from streamsession import TextDelta
from streamsession.testing import HOLD, ScriptedResponse, ScriptedServer
from tests.canary import CANARY
from tests.test_examples.programs import Live, Programs, at_once

LINES = [
    r"\[Init\] .+",
    r"\[Enter\] .+",
    r"\[Logic\] Session Active: [0-9a-f]{16}",
    r"\[Stream\] .+",
    r"\[Received\] Hello",
    r"\[Received\] Human",
    r"\[Received\] !",
    r"\[Exit\] .+",
]
FAILING = [*LINES[:5], LINES[-1]]


def assert_lines(printed: str, patterns: list[str]) -> None:
    lines = printed.splitlines()
    assert len(lines) == len(patterns), printed
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_the_program_prints_the_lines_in_their_order(programs: Programs) -> None:
    program = programs["handbook.py"]

    assert_lines(program.stdout, LINES)
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_prints_exit_also_when_the_block_raises(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="the block has raised"):
        live("handbook.py", "--fail")

    assert_lines(capsys.readouterr().out, FAILING)


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(OFFLINE)) as server:
        printed = live("handbook.py", AGENT_BASE_URL=server.url, AGENT_API_KEY=CANARY)

    assert_lines(printed, LINES)
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.anyio
async def test_it_runs_on_both_event_loops(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer(at_once(OFFLINE)) as server:
        await main(server.url)

    assert_lines(capsys.readouterr().out, LINES)


@pytest.mark.anyio
async def test_a_block_that_raises_is_left_with_nothing_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with ScriptedServer(ScriptedResponse.sse(TextDelta(text="Hello"), HOLD)) as server:
        with pytest.raises(RuntimeError, match="the block has raised"):
            await main(server.url, fail=True)

        await server.until_closed()
    assert_lines(capsys.readouterr().out, FAILING)


@pytest.mark.anyio
async def test_leaving_the_agent_early_releases_its_connection() -> None:
    async with (
        ScriptedServer(ScriptedResponse.sse(TextDelta(text="Hello"), HOLD)) as server,
        SetupSession(server.url) as session,
    ):
        async with aclosing(run_agent(session)) as tokens:
            assert await anext(tokens) == "Hello"

        await server.until_closed()  # while the session is open
