"""Answers that are no stream: error statuses with any body, and successes with the wrong one."""

from dataclasses import dataclass
from typing import Any

import pytest

from streamsession import (
    AuthenticationError,
    Conflict,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    StatusError,
    StreamError,
    StreamTruncated,
    UnexpectedContent,
    UnprocessableContent,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Ending,
    ScriptedResponse,
    ScriptedServer,
)
from tests.test_faults.apis import (
    BY_NAME,
    KIB,
    ONCE,
    POOL_OF_ONE,
    SSE,
    Api,
    Fate,
    fails,
    in_both,
    row,
    works,
)

pytestmark = pytest.mark.anyio

PAGE = "<!doctype html><title>Log in</title>"
PROBLEM = {"error": {"type": "busy", "message": "try later"}}
PROBLEM_TEXT = '{"error":{"type":"busy","message":"try later"}}'

# Error statuses

STATUSES: dict[int, type[StatusError]] = {
    400: StatusError,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: UnprocessableContent,
    429: RateLimited,
    500: ServerError,
    503: ServerError,
    529: ServerError,
}
PASSING = {409, 429, 500, 503, 529}


@dataclass(frozen=True)
class Body:
    """The body of an error, and what the user reads of it."""

    response: ScriptedResponse
    text: str
    data: Any = None
    says: str = ""
    fate: Fate = "reused"


def bodies(status: int, api: Api) -> list[Body]:
    json = ScriptedResponse.json(PROBLEM, status=status)
    like_a_stream = ScriptedResponse([PROBLEM_TEXT.encode()], status, content_type=api.media)
    endless = ScriptedResponse([*[b"x" * 64 * KIB] * 3, HOLD], status)
    return [
        Body(json, PROBLEM_TEXT, PROBLEM, "try later"),
        Body(like_a_stream, PROBLEM_TEXT, PROBLEM, "try later"),
        Body(ScriptedResponse.html(PAGE, status=status), PAGE, says="Log in"),
        Body(ScriptedResponse(status=status, content_type=None, framing="length"), ""),
        Body(ScriptedResponse([b"\xff\0"], status), "\N{REPLACEMENT CHARACTER}\0"),
        Body(endless, "x" * 64 * KIB, fate="client closed"),
    ]


@in_both
async def test_an_error_status_is_told_whatever_its_body(
    scripted_server: ScriptedServer, api: Api
) -> None:
    rows = [(kind, body) for status, kind in STATUSES.items() for body in bodies(status, api)]
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for kind, body in rows:
            status = body.response.status
            with row(f"{status} with {body.text[:20]!r}"):
                answers, fate = [body.response], body.fate
                error = await fails(api, session, scripted_server, answers, kind, fate=fate)
                assert (error.status, error.body, error.data) == (status, body.text, body.data)
                assert str(error).startswith(f"HTTP {status}")
                assert body.says in str(error)
                assert len(str(error)) < KIB
                assert error.__cause__ is None


@in_both
async def test_an_error_whose_body_breaks_off_is_told_by_its_status(
    scripted_server: ScriptedServer, api: Api
) -> None:
    fates: dict[Ending, Fate] = {HANG_UP: "server hung up", RESET: "server reset"}
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for status in (429, 503):
            for ending, fate in fates.items():
                broken = ScriptedResponse([PROBLEM_TEXT.encode()[:9], ending], status)
                error = await fails(
                    api, session, scripted_server, [broken], STATUSES[status], fate=fate
                )
                assert error.data is None
                assert PROBLEM_TEXT.startswith(error.body)


@in_both
async def test_an_error_that_may_pass_is_tried_again_on_the_same_connection(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for status, kind in STATUSES.items():
            with row(str(status)):
                attempts = 3 if status in PASSING else 1
                answers = [ScriptedResponse.html(PAGE, status=status)] * attempts
                await fails(api, session, scripted_server, answers, kind, fate="reused")
    assert len(scripted_server.connections) == 1


# Successes


@dataclass(frozen=True)
class Success:
    """A success that is no stream, and what the user gets."""

    response: ScriptedResponse
    kind: type[StreamError] = UnexpectedContent
    text: str = ""
    data: Any = None
    fate: Fate = "reused"


def untyped(body: str) -> ScriptedResponse:
    return ScriptedResponse([body.encode()], content_type=None)


ANSWER, ANSWER_TEXT = {"answer": "Hello"}, '{"answer":"Hello"}'
SUCCESSES = {
    "HTML": Success(ScriptedResponse.html(PAGE), text=PAGE),
    "a JSON error": Success(ScriptedResponse.json(PROBLEM), text=PROBLEM_TEXT, data=PROBLEM),
    "JSON": Success(ScriptedResponse.json(ANSWER), text=ANSWER_TEXT, data=ANSWER),
    "an empty page": Success(ScriptedResponse.html("")),
    "an endless page": Success(
        ScriptedResponse([*[b"x" * 64 * KIB] * 3, HOLD], content_type="text/plain"),
        text="x" * 64 * KIB,
        fate="client closed",
    ),
    "nothing without a type": Success(untyped(""), StreamTruncated),
    "204": Success(ScriptedResponse(status=204), StreamTruncated),
}


@in_both
async def test_a_success_that_is_no_stream_is_an_error(
    scripted_server: ScriptedServer, api: Api
) -> None:
    other = next(each for each in BY_NAME.values() if each is not api)
    body = other.chat("Hello")
    successes = {
        **SUCCESSES,
        "the other framing": Success(other.answer(body), text=body.decode()),
        "nothing at all": Success(api.answer(), StreamTruncated),
    }
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for name, success in successes.items():
            with row(name):
                kind, fate = success.kind, success.fate
                error = await fails(
                    api, session, scripted_server, [success.response], kind, fate=fate
                )
                if isinstance(error, UnexpectedContent):
                    assert (error.body, error.data) == (success.text, success.data)
                    assert str(error).startswith(f"expected {api.media}, got ")
                    assert len(str(error)) < KIB


@in_both
@pytest.mark.parametrize("body", [PAGE, PROBLEM_TEXT, ANSWER_TEXT])
async def test_what_does_not_say_that_it_is_no_stream_is_not_taken_for_one(
    scripted_server: ScriptedServer, api: Api, body: str
) -> None:
    scripted_server.play(untyped(body), api.answer(api.chat("next")))
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        stream = session.stream()
        with pytest.raises(StreamError):
            await stream.collect()
        assert not stream.reply.complete
        await works(session)


@pytest.mark.parametrize("body", [PAGE, PROBLEM_TEXT, ANSWER_TEXT])
async def test_what_is_no_stream_is_not_complete_where_a_clean_end_is_the_only_sign(
    scripted_server: ScriptedServer, body: str
) -> None:
    scripted_server.play(untyped(body))
    async with SSE.session(base_url=scripted_server.url, retry=ONCE) as session:
        with pytest.raises(UnexpectedContent):
            await session.open_stream("POST", "/generate", final_events=None).collect()
