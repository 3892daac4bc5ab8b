"""What every promise is tested with: a scripted server, the author's session, one good body.

The only module of the contract that knows how an author describes a session.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn, Unpack
from unittest import SkipTest

from pydantic_core import to_json

from ..._clocks import Timeouts
from ..._framing import Decoder, JSONLinesDecoder, ServerSentEvent, SSEDecoder
from ..._framing._more import EventStreamDecoder, JSONArrayDecoder, JSONSeqDecoder
from ..._retry import RetryPolicy
from ..._session import AsyncSession
from ..._stream import Stream
from .._builders import json_lines, json_seq, sse_event
from .._event_stream import event_stream_message
from .._script import RecordedRequest, ResponseOptions, ScriptedResponse, Step
from .._server import ScriptedServer
from ._promise import LOOPS, BrokenPromise

__all__ = ["ONCE", "PATIENT", "Bench", "Outcome", "ends_badly", "expect", "is_prefix"]

ONCE: Final = RetryPolicy(attempts=1)
PATIENT: Final = Timeouts(connect=10, first_event=5, idle=2)  # far more than a loopback needs
_UNKNOWN: Final = "streamsession.unknown"


@dataclass
class Outcome:
    """What a consumer saw of a stream.

    Attributes:
        events: What was handed over.
        error: What ended it; None if the loop ended by itself.
        stream: The stream, which has ended.
    """

    events: list[Any]
    error: Exception | None
    stream: Stream[Any]

    def __str__(self) -> str:
        end = "ended as if it were complete" if self.error is None else f"raised {self.error!r}"
        return f"the stream {end} after {len(self.events)} events"


class Bench:
    """Describes the session under test; `SessionContract` says how to fill this in."""

    body: ClassVar[bytes] = b""
    """One good response body of the API: whole, and of two frames or more."""
    content_type: ClassVar[str | None] = None
    """The media type of `body`; None is the first of its framing."""
    framing: ClassVar[type[Decoder[Any]] | None] = None
    """How `body` is cut into frames; None is as the session says."""
    secret: ClassVar[str] = "sk-contract-5e1f0c9a7b3d"  # noqa: S105 - opens nothing
    """Give it to the session as its key: the contract looks where it turns up."""

    proves_its_end: ClassVar[bool] = True
    """False if a clean end of the body is the API's only sign that a stream is complete."""
    tries_again: ClassVar[bool] = True
    """False if the request has a body that can be sent once only."""

    keep_alive: ClassVar[bytes | None] = None
    """What the API sends to keep a connection open; None is a comment or a blank line."""
    broken_frame: ClassVar[bytes | None] = None
    """A whole frame that is not what the API declares; None is the first one, cut short."""
    unknown_frame: ClassVar[bytes | None] = None
    """A whole frame of a type that the session does not know; None is one with another `type`."""
    error_frame: ClassVar[bytes | None] = None
    """A frame that reports a failure; None is an object with an `error`."""

    def session(self, url: str) -> AsyncSession[Any]:
        """A session that was not entered yet, with `base_url=url` and `self.secret` as its key."""
        raise NotImplementedError(
            f"give {type(self).__name__} a method `session(self, url)` that returns your session"
        )

    def stream(self, session: Any) -> Stream[Any]:
        """A stream of the session that `body` answers; here `session.stream()`."""
        stream: Stream[Any] = session.stream()
        return stream

    def answer(self, request: RecordedRequest) -> ScriptedResponse | None:
        """The answer to a request that asks for no stream, as of `connect()`; None if it does."""
        return None

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run each promise on every event loop."""
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", LOOPS)

    # What the promises use

    def reply(self, *steps: Step, **options: Unpack[ResponseOptions]) -> ScriptedResponse:
        """A successful response of the API; without steps, the good body."""
        options["content_type"] = self.content_type or self._framing().content_types[0]
        return ScriptedResponse(steps or (self.body,), **options)

    def server(self, *answers: ScriptedResponse) -> ScriptedServer:
        """A server that answers the requests for streams in turn, the last answer again and again.

        Requests that ask for no stream it answers as `answer` says.
        """
        left = list(answers)

        def answering(request: RecordedRequest) -> ScriptedResponse:
            return self.answer(request) or (left.pop(0) if len(left) > 1 else left[0])

        return ScriptedServer(answering, repeat=True)

    @asynccontextmanager
    async def opened(
        self, url: str, *, timeout: Timeouts = PATIENT, retry: RetryPolicy = ONCE
    ) -> AsyncGenerator[AsyncSession[Any]]:
        """The author's session, open, with the contract's clocks and policy."""
        async with self.configured(url, timeout=timeout, retry=retry) as session:
            yield session

    def configured(
        self, url: str, *, timeout: Timeouts = PATIENT, retry: RetryPolicy = ONCE
    ) -> AsyncSession[Any]:
        """The author's session, not entered, with the contract's clocks and policy."""
        if not self.body:
            raise BrokenPromise(f"{type(self).__name__} has no `body`: give it a recorded one")
        session = self.session(url)
        session.timeout, session.retry = timeout, retry
        return session

    async def outcome(
        self, *answers: ScriptedResponse, timeout: Timeouts = PATIENT, retry: RetryPolicy = ONCE
    ) -> Outcome:
        """What a consumer sees of one stream; it takes several answers if it is tried again."""
        with self.server(*answers) as server:
            async with self.opened(server.url, timeout=timeout, retry=retry) as session:
                return await self.drained(session)

    async def outcomes(self, *answers: ScriptedResponse) -> list[Outcome]:
        """What a consumer sees of one stream after the other, each with one answer."""
        with self.server(*answers) as server:
            async with self.opened(server.url) as session:
                return [await self.drained(session) for _ in answers]

    async def drained(self, session: AsyncSession[Any]) -> Outcome:
        """What a consumer sees of another stream of the session."""
        seen = Outcome([], None, self.stream(session))
        try:
            async with seen.stream:
                async for event in seen.stream:
                    seen.events.append(event)
        except Exception as exc:  # noqa: BLE001 - which one it is, is what is tested
            seen.error = exc
        return seen

    async def good_events(self) -> list[Any]:
        """The events of the good body."""
        seen = await self.outcome(self.reply())
        expect(seen.error is None, f"of the good body, {seen}")
        expect(seen.events, "the good body gave no event at all")
        return seen.events

    async def works_again(self, session: AsyncSession[Any], why: str) -> None:
        """Expect that the next stream of the session is the good one."""
        seen = await self.drained(session)
        expect(seen.error is None and seen.events, f"after {why}, of the next stream {seen}")

    def frame_ends(self) -> list[int]:
        """After how many bytes of the good body each frame is complete."""
        decoder = self._framing()()
        ends = [
            end
            for end in range(1, len(self.body) + 1)
            if decoder.decode(self.body[end - 1 : end])
        ]  # fmt: skip
        expect(len(ends) > 1, f"`body` holds {len(ends)} whole frames: give one of two or more")
        return ends

    def halves(self) -> tuple[bytes, bytes]:
        """The good body, cut after its first event at the earliest and before its last frame."""
        middle = self.frame_ends()[-2]
        return self.body[:middle], self.body[middle:]

    def with_frame(self, frame: bytes) -> bytes:
        """The good body with another frame behind the first."""
        end = self.frame_ends()[0]
        return self.body[:end] + frame + self.body[end:]

    def made(self, name: str) -> bytes:
        """One of the frames that an author may give, or the one made for the framing."""
        given: bytes | None = getattr(self, name)
        if given is not None:
            return given
        for framing in self._framing().__mro__:
            if make := _MADE[name].get(framing):
                return make(self.body[: self.frame_ends()[0]])
        raise SkipTest(f"{type(self).__name__}.{name} is needed for this framing")

    def skip(self, why: str) -> NoReturn:
        """Leave a promise out that means nothing for this session."""
        raise SkipTest(why)

    def _framing(self) -> type[Decoder[Any]]:
        return self.framing or self.session("http://127.0.0.1:1").framing


def expect(condition: object, happened: str) -> None:
    """Break the promise, saying what happened, unless the condition holds."""
    if not condition:
        raise BrokenPromise(happened)


def ends_badly(seen: Outcome, *kinds: type[Exception]) -> None:
    """Expect one of these errors."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    expect(isinstance(seen.error, kinds), f"{seen}; expected {expected}")


def is_prefix(events: Sequence[Any], of: Sequence[Any]) -> bool:
    """Whether the events are the first of others."""
    return list(events) == list(of[: len(events)])


def _cut_short_sse(first: bytes) -> bytes:
    frame: ServerSentEvent = SSEDecoder().decode(first)[0]
    return sse_event(frame.data[:-1], event=None if frame.event == "message" else frame.event)


def _element(value: bytes) -> bytes:
    return b",\n" + value


def _broken_message(first: bytes) -> bytes:
    message = EventStreamDecoder().decode(first)[0]
    return event_stream_message(b"[]", event=message.event_type)


_FAILURE: Final = {"error": {"type": "overloaded_error", "message": "overloaded"}}
_MADE: Final[dict[str, dict[type, Callable[[bytes], bytes]]]] = {
    "keep_alive": {
        SSEDecoder: lambda _: sse_event(comment="keep-alive"),
        JSONLinesDecoder: lambda _: b"\n",
        JSONSeqDecoder: lambda _: b"\n",
        JSONArrayDecoder: lambda _: b"\n",
    },
    "broken_frame": {
        SSEDecoder: _cut_short_sse,
        JSONLinesDecoder: lambda first: first.strip()[:-1] + b"\n",
        JSONSeqDecoder: lambda _: json_seq([]),  # what is no JSON text is dropped, by its standard
        JSONArrayDecoder: lambda _: _element(b"[]"),
        EventStreamDecoder: _broken_message,
    },
    "unknown_frame": {
        SSEDecoder: lambda _: sse_event({"type": _UNKNOWN}, event=_UNKNOWN),
        JSONLinesDecoder: lambda _: json_lines({"type": _UNKNOWN}),
        JSONSeqDecoder: lambda _: json_seq({"type": _UNKNOWN}),
        JSONArrayDecoder: lambda _: _element(to_json({"type": _UNKNOWN})),
        EventStreamDecoder: lambda _: event_stream_message({}, event=_UNKNOWN),
    },
    "error_frame": {
        SSEDecoder: lambda _: sse_event(_FAILURE, event="error"),
        JSONLinesDecoder: lambda _: json_lines(_FAILURE),
        JSONSeqDecoder: lambda _: json_seq(_FAILURE),
        JSONArrayDecoder: lambda _: _element(to_json(_FAILURE)),
        EventStreamDecoder: lambda _: event_stream_message(
            {"message": "overloaded"}, exception="overloadedException"
        ),
    },
}
