"""What the README shows works as it stands."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from pydantic_core import from_json

import streamsession._public
from streamsession import JSONLinesDecoder
from streamsession.testing import (
    ScriptedResponse,
    ScriptedServer,
    mock_stream,
    record,
    replay,
    sse,
)

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CLASS, USE, MORE, DECODE, CONTRACT, RECORD, TESTS = BLOCKS


@pytest.fixture
def acme() -> Iterator[ModuleType]:
    """The README's class as the module that the rest of it imports."""
    module = ModuleType("acme")
    sys.modules["acme"] = module
    exec(CLASS, vars(module))  # noqa: S102 - our own text
    yield module
    del sys.modules["acme"]


def coroutine(source: str, names: dict[str, Any]) -> Any:
    indented = "".join(f"    {line}\n" for line in source.splitlines())
    exec(f"async def shown():\n{indented}    return reply\n", names)  # noqa: S102
    return names["shown"]()


@pytest.mark.anyio
async def test_the_class_streams_in_all_the_ways_shown(
    acme: ModuleType, scripted_server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    body = sse({"type": "token", "text": "Hello"}, {"type": "done"})
    scripted_server.play(*[ScriptedResponse(steps=(body,))] * 3)
    acme.Acme.base_url = scripted_server.url
    reply = await coroutine(USE, vars(acme))
    assert reply.text == "Hello"
    assert capsys.readouterr().out == "Hello"
    assert scripted_server.requests[0].headers["authorization"] == "Bearer ..."
    assert scripted_server.requests[0].json() == {"prompt": "Hello", "model": "acme-1"}


@pytest.mark.anyio
async def test_the_other_endpoints_work(acme: ModuleType, scripted_server: ScriptedServer) -> None:
    names: dict[str, Any] = {
        **vars(acme),
        "TypeAdapter": TypeAdapter,
        "JSONLinesDecoder": JSONLinesDecoder,
    }
    exec(MORE, names)  # noqa: S102 - our own text
    token = {"type": "token", "text": "built"}
    scripted_server.play(ScriptedResponse.json(["acme-1"]), ScriptedResponse.json_lines(token))
    async with names["Acme2"](base_url=scripted_server.url) as session:
        assert await session.models() == ["acme-1"]
        assert (await session.builds("x").collect()).text == "built"
    assert scripted_server.requests[1].path == "/builds?project=x"


@pytest.mark.anyio
async def test_the_decode_shown_assembles_what_the_api_sends() -> None:
    body = sse(
        {"type": "text", "text": "Let me look."},
        {"type": "tool", "index": 0, "id": "c1", "name": "time"},
        {"type": "tool", "index": 0, "arguments": '{"zone": '},
        {"type": "tool", "index": 0, "arguments": '"UTC"}'},
        {"type": "end", "reason": "tool"},
    )
    imported = {"AsyncIterator": AsyncIterator, "from_json": from_json}
    names: dict[str, Any] = {**vars(streamsession._public), **imported}
    exec(DECODE, names)  # noqa: S102 - our own text
    async with names["Chat"](transport=httpx.MockTransport(mock_stream(body))) as session:
        reply = await session.stream("POST", "/chat").collect()
    assert reply.text == "Let me look."
    assert [call.arguments for call in reply.tool_calls] == [{"zone": "UTC"}]
    assert reply.finish_reason == "tool"


@pytest.mark.usefixtures("acme")
def test_the_contract_shown_is_kept(anyio_backend: str) -> None:
    names: dict[str, Any] = {}
    exec(CONTRACT, names)  # noqa: S102
    contract = names["TestAcme"]()
    contract.test_a_whole_body_is_handed_over_and_complete(anyio_backend)
    contract.test_the_key_is_in_no_repr_log_or_error(anyio_backend)


@pytest.mark.anyio
async def test_the_recording_shown_is_made_and_replayed(
    acme: ModuleType,
    scripted_server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    scripted_server.play(ScriptedResponse.sse({"type": "token", "text": "Hi"}, {"type": "done"}))
    acme.Acme.base_url = scripted_server.url
    names = {**vars(acme), "record": record, "replay": replay, "ScriptedServer": ScriptedServer}
    reply = await coroutine(RECORD, names)
    assert reply.text == "Hi"
    assert len(scripted_server.requests) == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    "name", ["test_a_broken_stream_keeps_what_came", "test_chunking_changes_nothing"]
)
async def test_the_tests_shown_pass(name: str, scripted_server: ScriptedServer) -> None:
    names: dict[str, Any] = {}
    exec(TESTS, names)  # noqa: S102
    await names[name](scripted_server)


def test_the_class_shown_is_15_lines_without_the_blank_ones() -> None:
    lines = [
        line for line in CLASS.splitlines() if line and not line.startswith(("from", "import"))
    ]
    assert len(lines) <= 15
