"""The command `streamsession`, run as a user runs it."""

import os
import subprocess
import sys
from typing import Any

import pytest

from streamsession.testing import ScriptedResponse, ScriptedServer, sse, sse_event
from tests.canary import CANARY


def streamsession(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "streamsession", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_demo_streams_typed_events_and_returns_its_connection() -> None:
    done = streamsession("demo")
    assert done.returncode == 0, done.stderr
    assert "TextDelta  text='Hello, '" in done.stdout
    assert "Usage" in done.stdout
    assert "finish_reason='stop'" in done.stdout
    assert "time to first event" in done.stdout
    assert "tokens per second" in done.stdout
    assert "went back to the pool: the next request used it again" in done.stdout
    assert done.stderr == ""


def test_the_demo_streams_from_a_server_like_openai_s(scripted_server: ScriptedServer) -> None:
    text: dict[str, Any] = {
        "choices": [{"index": 0, "delta": {"content": "Hi there"}, "finish_reason": None}]
    }
    end: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    reply = ScriptedResponse.sse(text, end, usage, "[DONE]")
    scripted_server.play(reply, reply)
    live = ("--api", "openai", "--base-url", f"{scripted_server.url}/v1", "--model", "tiny")
    done = streamsession("demo", *live, "Say hi", OPENAI_API_KEY=CANARY)
    assert done.returncode == 0, done.stderr
    assert "text='Hi there'" in done.stdout
    assert "input_tokens=3  output_tokens=2" in done.stdout
    request = scripted_server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json()["model"] == "tiny"
    assert request.json()["messages"] == [{"role": "user", "content": "Say hi"}]
    assert CANARY not in done.stdout + done.stderr


def test_the_demo_streams_from_a_server_like_anthropic_s(scripted_server: ScriptedServer) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3}}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ]
    body = sse(*(sse_event(event, event=str(event["type"])) for event in events))
    reply = ScriptedResponse(steps=(body,))
    scripted_server.play(reply, reply)
    live = ("--api", "anthropic", "--base-url", scripted_server.url)
    done = streamsession("demo", *live, ANTHROPIC_API_KEY=CANARY)
    assert done.returncode == 0, done.stderr
    assert "text='Hi'" in done.stdout
    assert "finish_reason='end_turn'" in done.stdout
    assert scripted_server.requests[0].headers["x-api-key"] == CANARY


def test_a_failure_is_one_line_with_its_name(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse.json({"error": {"message": "no such key"}}, status=401))
    live = ("--api", "openai", "--base-url", scripted_server.url)
    failed = streamsession("demo", *live)
    assert failed.returncode == 1
    assert failed.stderr == "AuthenticationError: HTTP 401: no such key\n"


def test_a_cut_stream_is_a_failure(scripted_server: ScriptedServer) -> None:
    text: dict[str, Any] = {
        "choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]
    }
    scripted_server.play(ScriptedResponse.sse(text))
    failed = streamsession("demo", "--api", "openai", "--base-url", scripted_server.url)
    assert failed.returncode == 1
    assert "text='Hel'" in failed.stdout
    assert failed.stderr.startswith("StreamTruncated: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("demo", "--model", "tiny"), "--base-url and --model go with --api"),
        (("demo", "--api", "acme"), "invalid choice: 'acme'"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple[str, ...], complaint: str) -> None:
    refused = streamsession(*arguments)
    assert refused.returncode == 2
    assert complaint in refused.stderr
