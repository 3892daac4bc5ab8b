"""Scripted responses without a server, for `respx` and `httpx.MockTransport`."""

from collections.abc import AsyncIterator, Mapping
from typing import Final, assert_never

import anyio
import anyio.lowlevel
import httpx
from typing_extensions import override

from ._script import Ending, Pause, ScriptedResponse, Step, steps_to_play
from ._waiting import Gate
from ._wire import response_headers

__all__ = ["MockStream", "mock_stream"]

_CUT_OFF: Final = "peer closed connection without sending complete message body"


class MockStream:
    """Answers each request with the next scripted response, in this process.

    The last one is given again and again, each time from its beginning; so is a single one.

    It is a handler: `respx.post(url).mock(side_effect=MockStream(...))`, or
    `httpx.MockTransport(MockStream(...))`. Steps are played as by a `ScriptedServer`: each `bytes`
    is one chunk, an incomplete response raises what httpx raises for it, and `HOLD` waits until
    it is cancelled.

    Args:
        responses: What to play, at least one.

    Attributes:
        requests: The requests so far, in order.

    Raises:
        ValueError: There is no response, or one is raw: without a wire its bytes mean nothing.
    """

    def __init__(self, *responses: ScriptedResponse) -> None:
        if not responses:
            raise ValueError("no response was given, expected at least one")
        if any(response.framing == "raw" for response in responses):
            raise ValueError("a raw response needs a wire: play it with a ScriptedServer")
        self.requests: list[httpx.Request] = []
        self._responses = responses
        self._bodies: list[_Body] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        response = self._responses[min(len(self.requests), len(self._responses) - 1)]
        body = _Body(response)
        self.requests.append(request)
        self._bodies.append(body)
        headers = httpx.Headers(response_headers(response), encoding="latin-1")
        return httpx.Response(response.status, headers=headers, stream=body)

    @property
    def closed(self) -> bool:
        """Whether there was a request and the response to each was closed: nothing is leaked."""
        return bool(self._bodies) and all(body.closed for body in self._bodies)


def mock_stream(
    *steps: Step,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str | None = "text/event-stream",
) -> MockStream:
    """A handler that answers every request with a stream of these steps; see `MockStream`.

    Args:
        steps: Played one after the other.
        status: The HTTP status code.
        headers: Further ones; None adds none.
        content_type: Of the body; None sends no such header.

    Raises:
        TypeError: A step is none.
        ValueError: The steps cannot be played; see `ScriptedResponse`.
    """
    return MockStream(
        ScriptedResponse(steps, status, headers=headers or {}, content_type=content_type)
    )


class _Body(httpx.AsyncByteStream):
    """One playing of the steps. No generator: left half-way it would wait for its finaliser."""

    def __init__(self, response: ScriptedResponse) -> None:
        self.closed = False
        self._framing = response.framing
        headers = httpx.Headers(response_headers(response), encoding="latin-1")
        self._announced = headers.get("content-length", str(response.size))  # right or wrong
        self._steps = steps_to_play(response)
        self._sent = 0

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        for step in self._steps:
            if isinstance(step, bytes):
                if step:
                    self._sent += len(step)
                    return step
            elif isinstance(step, Pause):
                await anyio.sleep(step.seconds)
            elif isinstance(step, Gate):
                await _wait_at(step)
            else:
                await self._end(step)
        raise StopAsyncIteration

    @override
    async def aclose(self) -> None:
        self.closed = True

    async def _end(self, ending: Ending) -> None:
        if self._framing == "length" and str(self._sent) == self._announced:
            return  # the client has all it was promised, and looks no further
        match ending:
            case Ending.HANG_UP:
                if self._framing != "close":
                    raise httpx.RemoteProtocolError(_CUT_OFF)
            case Ending.RESET:
                raise httpx.ReadError("connection reset by peer")
            case Ending.HOLD:
                await anyio.sleep_forever()
            case _:
                assert_never(ending)


async def _wait_at(gate: Gate) -> None:
    with gate.arrive() as bell:
        if not gate.is_open:
            await anyio.wait_readable(bell)
