"""An API without tokens: JSON Lines, a plain call, and a union of its own."""

from typing import assert_type

import httpx
import pytest

from jsonlines import OFFLINE, BuildEvent, Finished, Forge, Output, Step, main
from streamsession import (
    DecodeError,
    RemoteError,
    RetryPolicy,
    Stream,
    StreamTruncated,
)
from streamsession.testing import ScriptedResponse, ScriptedServer, json_lines, mock_stream
from tests.canary import CANARY
from tests.test_examples.programs import (
    ONCE,
    ONE_LOOP,
    Live,
    Programs,
    at_once,
    ending,
    playing_each,
)

PRINTED = """\
build b/17 of main
== compile
   214 files
== test
   1 of 96: sums are right
   96 of 96: nothing is left over
passed after 41.5 s
"""
EVENTS = (Step(name="test"), Output(text="ünit"), Finished(status="failed", seconds=1.5))
BODY = json_lines(*EVENTS)


async def read(body: bytes) -> Stream[BuildEvent]:
    """The stream of a build's log, read to its end."""
    answer = mock_stream(body, content_type="application/x-ndjson")
    async with Forge(transport=httpx.MockTransport(answer), retry=ONCE) as session:
        stream = session.stream("b1")
        await stream.collect()
    return stream


def test_the_program_prints_what_the_build_does(programs: Programs) -> None:
    program = programs["jsonlines.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(*map(at_once, OFFLINE)) as server:
        url = f"{server.url}/api"
        printed = live("jsonlines.py", FORGE_BASE_URL=url, FORGE_API_KEY=CANARY)

    assert printed == PRINTED
    started, followed = server.requests
    assert (started.method, started.path, started.json()) == (
        "POST",
        "/api/builds",
        {"commit": "main"},
    )
    assert (followed.method, followed.path) == ("GET", "/api/builds/b%2F17/log")
    assert followed.headers["accept"].startswith("application/jsonl")
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {CANARY}"}


@pytest.mark.anyio
async def test_it_runs_on_both_event_loops(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer(*map(at_once, OFFLINE)) as server:
        await main(server.url)

    assert capsys.readouterr().out == PRINTED


@pytest.mark.anyio
async def test_starting_a_build_again_carries_the_same_key() -> None:
    busy = ScriptedResponse.json({"error": "busy"}, status=503)
    async with ScriptedServer(busy, OFFLINE[0]) as server:
        policy = RetryPolicy(base_delay=0)
        async with Forge(base_url=server.url, retry=policy) as session:
            build = await session.start("main")

    assert build.id == "b/17"
    first, second = (request.headers["idempotency-key"] for request in server.requests)
    assert first == second


@pytest.mark.anyio
async def test_each_line_is_an_event_of_its_type() -> None:
    stream = await read(BODY)

    assert stream.reply.events == list(EVENTS)
    assert stream.reply.text == "ünit"
    assert_type(stream, Stream[BuildEvent])


@pytest.mark.anyio
async def test_a_line_of_another_type_is_counted_and_skipped() -> None:
    stream = await read(json_lines({"type": "artifact", "url": "/a"}) + BODY)

    assert stream.reply.events == list(EVENTS)
    assert stream.stats.unknown_events == 1


@pytest.mark.anyio
async def test_a_line_that_reports_a_failure_is_a_remote_error() -> None:
    with pytest.raises(RemoteError, match="the machine is gone") as caught:
        await read(json_lines(*EVENTS[:2], {"error": "the machine is gone"}))

    assert caught.value.partial.text == "ünit"


@pytest.mark.anyio
async def test_a_line_of_the_wrong_shape_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="status"):
        await read(json_lines({"type": "finished", "status": "?", "seconds": 1}))


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_truncated() -> None:
    bodies = ([BODY[:cut]] for cut in range(len(BODY) + 1))
    transport = playing_each(bodies, content_type="application/x-ndjson")
    async with Forge(transport=transport, retry=ONCE) as session:
        for cut in range(len(BODY) + 1):
            stream = session.stream("b1")
            error = await ending(stream)

            came = stream.reply.events
            assert came == list(EVENTS)[: len(came)], cut
            if error is None:
                assert cut >= len(BODY) - 1  # the last line end may be missing
            else:
                assert isinstance(error, StreamTruncated), cut
                assert error.partial is stream.reply
