"""An answer as data: its steps as they are whole, and all of it at the end."""

import json

import pytest

from streamsession import DecodeError
from streamsession.testing import ScriptedResponse, ScriptedServer, sse
from structured_output import OFFLINE, Recipe, main
from tests.test_examples.programs import Live, Programs, at_once

PRINTED = """\
Toast: Cut the bread ...
title='Toast' minutes=3 steps=['Cut the bread', 'Toast it']
"""


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["structured_output.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_for_its_schema(live: Live) -> None:
    with ScriptedServer(at_once(OFFLINE)) as server:
        printed = live("structured_output.py", "Why?", OPENAI_BASE_URL=server.url)

    assert printed == PRINTED
    asked = server.requests[0].json()
    assert asked["messages"] == [{"role": "user", "content": "Why?"}]
    form = asked["response_format"]["json_schema"]
    assert form["schema"] == json.loads(json.dumps(Recipe.model_json_schema()))
    # What a strict schema must say: https://platform.openai.com/docs/guides/structured-outputs
    assert form["strict"]
    assert form["schema"]["additionalProperties"] is False
    assert form["schema"]["required"] == ["title", "minutes", "steps"]


@pytest.mark.anyio
async def test_an_answer_that_is_not_what_was_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = sse({"choices": [{"delta": {"content": "Sure!"}, "finish_reason": "stop"}]}, "[DONE]")
    async with ScriptedServer(ScriptedResponse([body])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(DecodeError, match="the reply is not what was asked for") as caught:
            await main("Why?")

    assert caught.value.partial.text == "Sure!"
