"""The 15-line subclass, streamed with `async for`."""

from typing import assert_type

import pytest

from examples.quickstart import OFFLINE, Acme, Done, Token, main
from streamsession import Stream, Usage
from streamsession.testing import ScriptedResponse, ScriptedServer
from tests.test_examples.programs import run


def test_the_program_prints_the_tokens_of_the_server_inside_it() -> None:
    program = run("quickstart.py")

    assert program.stdout == "Hello, world!\n[4 tokens]\n"
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment() -> None:
    answer = ScriptedResponse.sse(Token(text="live"), Done(usage=Usage(output_tokens=1)))
    with ScriptedServer(answer) as server:
        program = run("quickstart.py", ACME_BASE_URL=f"{server.url}/v1", ACME_API_KEY="k3y")

    assert program.stdout == "live\n[1 tokens]\n"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/generate")
    assert request.headers["authorization"] == "Bearer k3y"
    assert request.json() == {"prompt": "Say hello.", "model": "acme-1"}


@pytest.mark.anyio
async def test_it_runs_on_both_event_loops(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer(OFFLINE) as server:
        await main(server.url)

    assert capsys.readouterr().out == "Hello, world!\n[4 tokens]\n"


def test_the_event_type_is_inferred() -> None:
    session = Acme(api_key="k3y")

    assert_type(session.stream("Hello"), Stream[Token | Done])
