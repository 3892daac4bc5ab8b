"""What a scripted response is made of: data, checked when it is made.

No I/O. The same script is played over sockets by `_connection` and without any by `_mock`.
"""

import enum
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, Unpack

import httpx
from pydantic_core import to_json

from ._builders import json_lines, json_seq, sse
from ._waiting import Gate

__all__ = [
    "HANG_UP",
    "HOLD",
    "RESET",
    "Answer",
    "Ending",
    "Framing",
    "Pause",
    "RecordedRequest",
    "ResponseOptions",
    "ScriptedResponse",
    "Step",
    "steps_to_play",
]

Framing: TypeAlias = Literal["chunked", "length", "close", "raw"]

_MAX_PAUSE_SECONDS: Final = 24 * 60 * 60.0  # waiting forever is `HOLD`
_HEADER: Final = re.compile(r"[^\r\n\u0100-\U0010ffff]*")
_BODILESS: Final = frozenset({204, 304})  # RFC 9110, section 6.4.1


@dataclass(frozen=True)
class Pause:
    """A step that waits before the next one; it ends early if the client goes away.

    Attributes:
        seconds: How long, from 0 to a day.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= _MAX_PAUSE_SECONDS:
            raise ValueError(
                f"a pause of {self.seconds} s: expected 0 to {_MAX_PAUSE_SECONDS:.0f}, or use HOLD"
            )


class Ending(enum.Enum):
    """A last step that leaves the response incomplete."""

    HANG_UP = "hang up"
    RESET = "reset"
    HOLD = "hold"


HANG_UP: Final = Ending.HANG_UP
"""Close the connection. With the framing "close" this is the regular end of the body."""

RESET: Final = Ending.RESET
"""Reset the connection (TCP RST).

The network may drop what was sent shortly before; a `Gate` in front lets the client read it first.
"""

HOLD: Final = Ending.HOLD
"""Send nothing more and keep the connection open until the client goes away or the server stops."""

Step: TypeAlias = bytes | Pause | Gate | Ending


@dataclass(frozen=True)
class RecordedRequest:
    """A request as the server received it.

    Attributes:
        method: Such as "POST".
        path: The target as sent, with its query.
        headers: By name in any case.
        body: All of it, without its transfer coding.
        connection: The index of its connection, counted from 0.
    """

    method: str
    path: str
    headers: httpx.Headers
    body: bytes
    connection: int

    def json(self) -> Any:
        """The body parsed as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body)


class ResponseOptions(TypedDict, total=False):
    """The fields of a `ScriptedResponse` besides its steps."""

    status: int
    headers: Mapping[str, str]
    content_type: str | None
    framing: Framing
    hang_up_after: int | None
    reset_after: int | None


@dataclass(frozen=True)
class ScriptedResponse:
    """A response as a sequence of steps, played one after the other.

    After a complete response the connection serves the next request, unless the framing is
    "close" or a `Connection: close` header came from either side.

    Attributes:
        steps: `bytes` are sent, each in one go; empty ones send nothing. Nothing can follow an
            `Ending`.
        status: The HTTP status code.
        headers: Sent as they are; one that names a header of `content_type` or `framing`
            replaces it, so that a wrong `Content-Length` can be written.
        content_type: Of the body; None sends no such header.
        framing: How the client knows the end of the body. "chunked": each step is one HTTP chunk,
            and the empty chunk follows the last step. "length": the bytes of all steps are
            announced. "close": the connection ends it. "raw": the steps are all there is,
            status line and headers included, for malformed ones; `status`, `headers` and
            `content_type` are not used, and a complete response must end by its own account.
        hang_up_after: Close the connection after exactly so many bytes of the steps, without the
            empty chunk; the step is cut to fit. None plays all steps.
        reset_after: The same with a reset in place of the hang-up.

    Raises:
        TypeError: A step is none.
        ValueError: The response cannot be played as given: a step after an `Ending`, a cut beyond
            the last byte, a body with a status that has none, a header that is not one line.
    """

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str | None = "text/event-stream"
    framing: Framing = "chunked"
    hang_up_after: int | None = None
    reset_after: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "headers", dict(self.headers))
        self._check_head()
        self._check_steps()
        self._check_cut()

    @classmethod
    def sse(cls, *events: object, pause: float = 0.0, **options: Unpack[ResponseOptions]) -> Self:
        """An event stream with one chunk for each event.

        Args:
            events: As `streamsession.testing.sse` takes them; steps such as a `Gate`, a `Pause`
                or `HANG_UP` may stand between them.
            pause: Seconds between one event and the next.
            options: The other fields.
        """
        return cls(_spaced(events, sse, pause), **options)

    @classmethod
    def json_lines(
        cls, *values: object, pause: float = 0.0, **options: Unpack[ResponseOptions]
    ) -> Self:
        """A JSON Lines stream with one chunk for each value; otherwise like `sse`."""
        options.setdefault("content_type", "application/x-ndjson")
        return cls(_spaced(values, json_lines, pause), **options)

    @classmethod
    def json_seq(
        cls, *values: object, pause: float = 0.0, **options: Unpack[ResponseOptions]
    ) -> Self:
        """A JSON text sequence with one chunk for each value; otherwise like `sse`."""
        options.setdefault("content_type", "application/json-seq")
        return cls(_spaced(values, json_seq, pause), **options)

    @classmethod
    def json(cls, value: object, **options: Unpack[ResponseOptions]) -> Self:
        """A plain JSON document, such as the body of an error; Pydantic models by alias."""
        options.setdefault("content_type", "application/json")
        options.setdefault("framing", "length")
        return cls([to_json(value)], **options)

    @classmethod
    def html(cls, text: str, **options: Unpack[ResponseOptions]) -> Self:
        """A web page, such as a proxy's error or a login."""
        options.setdefault("content_type", "text/html; charset=utf-8")
        options.setdefault("framing", "length")
        return cls([text.encode()], **options)

    @property
    def body(self) -> bytes:
        """The bytes of the steps, before any cut."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.body)

    @property
    def cut(self) -> tuple[int, Ending] | None:
        """After how many bytes it is cut, and how; None if all steps are played."""
        if self.hang_up_after is not None:
            return self.hang_up_after, HANG_UP
        if self.reset_after is not None:
            return self.reset_after, RESET
        return None

    @property
    def has_body(self) -> bool:
        """Whether its status allows one."""
        return self.framing == "raw" or self.status not in _BODILESS

    def _check_head(self) -> None:
        if not 200 <= self.status <= 999:  # noqa: PLR2004  # the codes of a final response
            raise ValueError(f"status is {self.status}, expected 200 to 999; write others raw")
        for name, value in (*self.headers.items(), ("Content-Type", self.content_type or "")):
            if not _HEADER.fullmatch(name + value):
                raise ValueError(
                    f"header {name!r} is not one line of Latin-1: write it with framing='raw'"
                )

    def _check_steps(self) -> None:
        for step in self.steps:
            _check_step(step)
        if any(isinstance(step, Ending) for step in self.steps[:-1]):
            raise ValueError("HANG_UP, RESET and HOLD end a script: no step can follow them")
        if self.size and not self.has_body:
            raise ValueError(f"a response with status {self.status} has no body")

    def _check_cut(self) -> None:
        if self.hang_up_after is not None and self.reset_after is not None:
            raise ValueError("hang_up_after and reset_after exclude each other")
        if self.cut is not None and not 0 <= self.cut[0] <= self.size:
            raise ValueError(f"cut after {self.cut[0]} bytes, but the steps have {self.size}")


Answer: TypeAlias = ScriptedResponse | Callable[[RecordedRequest], ScriptedResponse]


def steps_to_play(response: ScriptedResponse) -> Iterator[Step]:
    """Its steps, ended by `HANG_UP` or `RESET` where the response is to be cut."""
    if response.cut is None:
        yield from response.steps
        return
    left, ending = response.cut
    for step in response.steps:
        if left == 0:
            break
        if isinstance(step, bytes):
            yield step[:left]
            left -= min(left, len(step))
        else:
            yield step
    yield ending


def _check_step(step: object) -> None:
    if not isinstance(step, Step):
        raise TypeError(f"{step!r} is no step: expected bytes, a Pause, a Gate or an Ending")


def _spaced(items: Sequence[object], build: Callable[[object], bytes], pause: float) -> list[Step]:
    steps: list[Step] = []
    for item in items:
        step = item if isinstance(item, Step) else build(item)
        if pause and isinstance(step, bytes) and any(isinstance(s, bytes) for s in steps):
            steps.append(Pause(pause))
        steps.append(step)
    return steps
