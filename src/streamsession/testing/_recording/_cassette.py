r"""The format of recordings: exchanges to lines of JSON, and back, strictly.

    {"format": "streamsession recording", "version": 1}
    {"request": "POST", "path": "/v1/generate", "headers": {"accept": "text/event-stream"}}
    {"response": 200, "after": 0.21, "http": "HTTP/1.1", "headers": {"server": "acme"}}
    {"after": 0.004, "text": "data: {}\n\n"}
    {"after": 0.031, "base64": "4pyT"}
    {"end": "complete", "after": 0.002}

Made to be read and diffed: an exchange is its request, its response, its chunks and its end, and
exchanges follow one another in the order of their requests. No network, no clock.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

__all__ = ["Chunk", "End", "EndLine", "Exchange", "RequestLine", "ResponseLine", "dump", "load"]

_VERSION: Final = 1

End: TypeAlias = Literal["complete", "broken", "left"]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RequestLine(_Line):
    """What was asked, without its body: prompts are private."""

    called: ClassVar[str] = "request line"
    request: str
    path: str
    headers: dict[str, str]


class ResponseLine(_Line):
    """The head of an answer, and the seconds from the request to it."""

    called: ClassVar[str] = "response line"
    response: int
    after: Seconds
    http: str
    headers: dict[str, str]


class _ChunkLine(_Line):
    """Bytes as text if they are UTF-8 by themselves."""

    called: ClassVar[str] = "chunk line"
    after: Seconds
    text: str | None = None
    base64: str | None = None

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if (self.text is None) == (self.base64 is None):
            raise ValueError("a chunk has either text or base64")
        return self


class EndLine(_Line):
    """How a body ended, and the seconds from its last chunk.

    Attributes:
        end: "complete", "broken" by the connection, or "left" by the client.
        error: The class of the error that told of the break; None if there was none.
    """

    called: ClassVar[str] = "end line"
    end: End
    after: Seconds
    error: str | None = None


class Chunk(NamedTuple):
    """Bytes of a body that came in one piece.

    Attributes:
        after: Seconds since the chunk before it, or the head.
        data: As it came: compressed, if the body is.
    """

    after: float
    data: bytes


@dataclass(frozen=True)
class Exchange:
    """One request and all of its answer."""

    request: RequestLine
    response: ResponseLine
    chunks: tuple[Chunk, ...]
    end: EndLine

    @property
    def body(self) -> bytes:
        """All of its bytes."""
        return b"".join(chunk.data for chunk in self.chunks)


class _Head(_Line):
    model_config = ConfigDict(extra="allow")  # a newer version may say more, and is named

    format: Literal["streamsession recording"]
    version: int


_FileLine: TypeAlias = RequestLine | ResponseLine | _ChunkLine | EndLine
_LineT = TypeVar("_LineT", bound=_FileLine)

_OBJECT: Final = TypeAdapter(dict[str, object])
_KINDS: Final[Mapping[str, type[_FileLine]]] = {
    "request": RequestLine,
    "response": ResponseLine,
    "text": _ChunkLine,
    "base64": _ChunkLine,
    "end": EndLine,
}


def dump(exchanges: Iterable[Exchange]) -> bytes:
    """The content of a file."""
    lines: list[_Line] = [_Head(format="streamsession recording", version=_VERSION)]
    for exchange in exchanges:
        lines += [exchange.request, exchange.response]
        lines += [_chunk_line(chunk) for chunk in exchange.chunks]
        lines.append(exchange.end)
    texts = (json.dumps(each.model_dump(exclude_none=True), ensure_ascii=False) for each in lines)
    return "".join(f"{text}\n" for text in texts).encode()


def load(path: Path) -> list[Exchange]:
    """The exchanges in a file, at least one.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no recording, a damaged one, or one of a newer version; the message names
            the file and the line.
    """
    lines = _Lines(path.read_bytes())
    try:
        lines.check_head()
        exchanges = [_read_exchange(lines)]
        while not lines.at_end:
            exchanges.append(_read_exchange(lines))
    except ValueError as exc:
        raise ValueError(f"{path}, line {lines.number}: {_reason(exc)}") from exc
    return exchanges


class _Lines(Iterator[_FileLine]):
    """The lines of a file; `number` is that of the last one, counted from 1."""

    def __init__(self, content: bytes) -> None:
        self._lines = content.removesuffix(b"\n").split(b"\n") if content else []
        self.number = 0

    @property
    def at_end(self) -> bool:
        return self.number >= len(self._lines)

    def __next__(self) -> _FileLine:
        line = self._next()
        for key in _OBJECT.validate_json(line):
            if key in _KINDS:
                return _KINDS[key].model_validate_json(line)
        raise ValueError(f"expected an object with one of {', '.join(_KINDS)}")

    def check_head(self) -> None:
        head = _Head.model_validate_json(self._next())
        if head.version != _VERSION:
            raise ValueError(
                f"version {head.version} is not known, expected {_VERSION}: "
                "record it anew, or use a newer streamsession"
            )
        if head.model_extra:
            raise ValueError(f"{next(iter(head.model_extra))!r} is not known in the first line")

    def _next(self) -> bytes:
        self.number += 1
        if self.number > len(self._lines):
            raise ValueError("the file ends too early: it is empty, or was cut")
        return self._lines[self.number - 1]


def _read_exchange(lines: _Lines) -> Exchange:
    request = _expect(RequestLine, next(lines))
    response = _expect(ResponseLine, next(lines))
    chunks: list[Chunk] = []
    while isinstance(line := next(lines), _ChunkLine):
        chunks.append(Chunk(line.after, _data(line)))
    return Exchange(request, response, tuple(chunks), _expect(EndLine, line))


def _expect(kind: type[_LineT], line: _FileLine) -> _LineT:
    if not isinstance(line, kind):
        raise ValueError(f"expected the {kind.called}, got the {line.called}")  # noqa: TRY004
    return line


def _chunk_line(chunk: Chunk) -> _ChunkLine:
    try:
        return _ChunkLine(after=chunk.after, text=chunk.data.decode())
    except UnicodeDecodeError:
        return _ChunkLine(after=chunk.after, base64=base64.b64encode(chunk.data).decode())


def _data(line: _ChunkLine) -> bytes:
    if line.text is not None:
        return line.text.encode()
    return base64.b64decode(line.base64 or "", validate=True)


def _reason(exc: ValueError) -> str:
    if not isinstance(exc, ValidationError):
        return str(exc)
    first = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
