import dataclasses
from collections.abc import Sequence

import httpx
import pytest

from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Ending,
    Gate,
    Pause,
    RecordedRequest,
    ScriptedResponse,
    Step,
    json_lines,
    json_seq,
    sse,
)
from streamsession.testing._script import ResponseOptions


def test_an_event_stream_has_a_chunk_for_each_event() -> None:
    response = ScriptedResponse.sse("one", {"two": 2}, b": built\n\n")
    assert response == ScriptedResponse([sse("one"), sse({"two": 2}), b": built\n\n"])


def test_steps_may_stand_between_events() -> None:
    gate = Gate()
    response = ScriptedResponse.sse("one", gate, "two", HANG_UP)
    assert response.steps == (sse("one"), gate, sse("two"), HANG_UP)


def test_a_pause_stands_between_events_only() -> None:
    gate = Gate()
    response = ScriptedResponse.sse(gate, "one", gate, "two", HOLD, pause=0.5)
    assert response.steps == (gate, sse("one"), gate, Pause(0.5), sse("two"), HOLD)


def test_json_lines_have_a_chunk_for_each_value() -> None:
    response = ScriptedResponse.json_lines({"one": 1}, HANG_UP, status=201)
    assert response == ScriptedResponse(
        [json_lines({"one": 1}), HANG_UP], 201, content_type="application/x-ndjson"
    )


def test_a_text_sequence_has_a_chunk_for_each_value() -> None:
    response = ScriptedResponse.json_seq({"one": 1}, HANG_UP, status=201)
    assert response == ScriptedResponse(
        [json_seq({"one": 1}), HANG_UP], 201, content_type="application/json-seq"
    )


def test_documents_have_a_length() -> None:
    assert ScriptedResponse.json({"error": 1}, status=429) == ScriptedResponse(
        [b'{"error":1}'], 429, content_type="application/json", framing="length"
    )
    assert ScriptedResponse.html("<p>é") == ScriptedResponse(
        ["<p>é".encode()], content_type="text/html; charset=utf-8", framing="length"
    )


def test_options_go_before_the_defaults_of_a_document() -> None:
    response = ScriptedResponse.json({}, content_type="application/problem+json", framing="close")
    assert (response.content_type, response.framing) == ("application/problem+json", "close")


def test_a_response_does_not_change_with_what_it_was_made_of() -> None:
    steps: list[Step] = [b"one"]
    headers = {"X-Id": "7"}
    response = ScriptedResponse(steps, headers=headers)
    steps.append(b"two")
    headers.clear()
    assert (response.steps, response.headers) == ((b"one",), {"X-Id": "7"})


@pytest.mark.parametrize("ending", [HANG_UP, RESET, HOLD])
def test_nothing_follows_an_ending(ending: Ending) -> None:
    with pytest.raises(ValueError, match="no step can follow"):
        ScriptedResponse([ending, b"late"])


@pytest.mark.parametrize("steps", [b"bare bytes", "text", [None]])
def test_what_is_no_step_is_refused(steps: Sequence[Step]) -> None:
    with pytest.raises(TypeError, match="is no step"):
        ScriptedResponse(steps)


@pytest.mark.parametrize("cut", [-1, 7])
def test_a_cut_outside_of_the_body_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="the steps have 6"):
        ScriptedResponse([b"abc", b"def"], hang_up_after=cut)
    with pytest.raises(ValueError, match="the steps have 6"):
        ScriptedResponse([b"abc", b"def"], reset_after=cut)


def test_two_cuts_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        ScriptedResponse([b"abc"], hang_up_after=1, reset_after=2)


@pytest.mark.parametrize("status", [0, 103, 1000])
def test_a_status_that_is_not_final_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"status is {status}"):
        ScriptedResponse(status=status)


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_none_can_be_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"status {status} has no body"):
        ScriptedResponse([b"body"], status)


@pytest.mark.parametrize(
    "headers", [{"X-Id": "a\nb"}, {"X-Id": "a\r"}, {"X\nId": "a"}, {"X-Id": "€"}]
)
def test_a_header_that_cannot_be_written_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="framing='raw'"):
        ScriptedResponse(headers=headers)


def test_a_content_type_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="framing='raw'"):
        ScriptedResponse(content_type="text/plain\r\n")


def test_every_field_but_the_steps_is_an_option() -> None:
    names = [field.name for field in dataclasses.fields(ScriptedResponse)]
    assert names == ["steps", *ResponseOptions.__annotations__]


@pytest.mark.parametrize("seconds", [-1, 86_401, float("nan"), float("inf")])
def test_a_pause_that_cannot_be_waited_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="a pause of"):
        Pause(seconds)


def test_a_recorded_request_parses_its_body() -> None:
    request = RecordedRequest("POST", "/", httpx.Headers(), b'{"a": 1}', connection=0)
    assert request.json() == {"a": 1}
