"""The 15-line subclass, streamed with `async for`."""

from typing import assert_type

import pytest

from quickstart import OFFLINE, Acme, Done, Token, main
from streamsession import Stream
from streamsession.testing import ScriptedResponse, ScriptedServer
from tests.canary import CANARY
from tests.test_examples.programs import EXAMPLES, Live, Programs, at_once


def test_the_class_is_the_one_in_the_readme() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    program = (EXAMPLES / "quickstart.py").read_text()
    shown = readme.split("```python\n")[1].split("```")[0]
    _, _, classes = shown.partition("\n\n\n")  # behind the imports

    assert classes.startswith("class Token(Event):")
    assert classes in program


def test_the_program_prints_the_tokens_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["quickstart.py"]

    assert program.stdout == "Hello, world!\n"
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(ScriptedResponse.sse(Token(text="live"), Done())) as server:
        url = f"{server.url}/v1"
        printed = live("quickstart.py", ACME_BASE_URL=url, ACME_API_KEY=CANARY)

    assert printed == "live\n"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/generate")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {"prompt": "Say hello.", "model": "acme-1"}


@pytest.mark.anyio
async def test_it_runs_on_both_event_loops(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer(at_once(OFFLINE)) as server:
        await main(server.url)

    assert capsys.readouterr().out == "Hello, world!\n"


def test_the_event_type_is_inferred() -> None:
    session = Acme(api_key=CANARY)

    assert_type(session.stream("Hello"), Stream[Token | Done])
