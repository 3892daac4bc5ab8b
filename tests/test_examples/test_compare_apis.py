"""One program for all the APIs: the same prompt, the same typed events."""

import re

import pytest

from asking import answer, open_session
from compare_apis import APIS
from streamsession import (
    Done,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallStart,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer, sse
from tests.canary import CANARY
from tests.test_examples.programs import Live, Programs, at_once

TIME = ToolCall.parse(id="c1", name="time", raw_arguments="{}")


def test_the_program_asks_all_of_them(programs: Programs) -> None:
    program = programs["compare_apis.py"]

    assert (program.returncode, program.stderr) == (0, "")
    assert re.findall(r"^== (.*)$", program.stdout, re.MULTILINE) == list(APIS)
    for answered in re.split(r"^== .*\n", program.stdout, flags=re.MULTILINE)[1:]:
        kinds = [line.split()[0] for line in answered.splitlines()]
        assert kinds[-1] == "Done"
        assert {"ReasoningDelta", "TextDelta", "ToolCallStart", "ToolCall", "Usage"} <= set(kinds)
        assert "ToolCall       time({})\n" in answered
        assert "Usage          12 in, 34 out\n" in answered


@pytest.mark.anyio
@pytest.mark.parametrize("name", APIS)
async def test_each_answers_with_the_same_vocabulary(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = APIS[name]
    for suffix in ("BASE_URL", "API_KEY", "MODEL"):
        monkeypatch.delenv(f"{api.variables}_{suffix}", raising=False)
    async with open_session(api.session, at_once(api.offline), api.variables) as session:
        reply = await answer(session, "Why?", api.variables).collect()

    neutral = (TextDelta, ReasoningDelta, ToolCallStart, ToolCall, Done)
    common = [event for event in reply.events if isinstance(event, neutral)]
    assert common == [
        ReasoningDelta(text="Ask the clock."),
        TextDelta(text="Let me "),
        TextDelta(text="look."),
        ToolCallStart(id=TIME.id, name="time"),
        TIME,
        Done(finish_reason=reply.finish_reason),
    ]
    assert reply.usage == Usage(input_tokens=12, output_tokens=34)
    assert [each for each in reply.events if each.wire is None] == []


def test_those_named_are_asked_live_where_the_environment_says_so(live: Live) -> None:
    body = sse({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}, "[DONE]")
    with ScriptedServer(ScriptedResponse([body])) as server:
        named = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": CANARY}
        printed = live("compare_apis.py", "openai-chat", "-p", "Why?", **named)

    assert printed.splitlines() == [
        "== openai-chat",
        "TextDelta      'Hi'",
        'Done           {"finish_reason":"stop"}',
    ]
    (request,) = server.requests
    assert request.json()["messages"] == [{"role": "user", "content": "Why?"}]


def test_a_failure_is_told_and_the_others_are_asked_all_the_same(live: Live) -> None:
    refused = ScriptedResponse.json({"error": {"message": "Who are you?"}}, status=401)
    with ScriptedServer(refused) as server:
        named = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": CANARY}
        printed = live("compare_apis.py", "openai-chat", "ollama", **named)

    assert "AuthenticationError: HTTP 401: Who are you?" in printed
    assert printed.splitlines()[-1] == 'Done           {"finish_reason":"stop"}'


def test_an_unknown_name_is_refused(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        live("compare_apis.py", "skynet")

    assert "no such API: skynet; there are openai-chat, openai-responses" in capsys.readouterr().err
