"""Bytes of response bodies, and the ways to cut them.

No I/O. What no decoder could give back as it was is refused.
"""

import itertools
from collections.abc import Iterator

from pydantic_core import to_json

__all__ = ["chunks_of", "every_split", "json_array", "json_lines", "json_seq", "sse", "sse_event"]


def sse(*events: object) -> bytes:
    """The body of an event stream: one block for each event, in order.

    Args:
        events: Of each, its data: a `str` as it is, anything else as JSON (Pydantic models by
            alias). `bytes` are taken for blocks already built, such as those of `sse_event`.

    Raises:
        ValueError: An event cannot be written; see `sse_event`.
    """
    return b"".join(event if isinstance(event, bytes) else sse_event(event) for event in events)


def sse_event(
    data: object = None,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002  # the field's name
    retry: int | None = None,
    comment: str | None = None,
) -> bytes:
    r"""One block of an event stream, with its blank line.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

    Args:
        data: A `str` or `bytes` as it is, one `data:` line for each of its lines; anything else
            as JSON (Pydantic models by alias). None writes no data, and then no event is
            dispatched; a JSON null is "null".
        event: The event's type; None leaves the line out.
        id: The id that later reconnects with; "" resets it, None leaves the line out.
        retry: Milliseconds, as on the wire; None leaves the line out.
        comment: Written first, one comment line for each of its lines; None writes none.

    Raises:
        ValueError: Nothing was given, or something would not arrive as it is: a line break in
            `event` or `id`, a NUL in `id`, a carriage return in `data` or `comment` (it ends a
            line, and "\r\n" arrives as "\n"), a negative `retry`; or `data` cannot be JSON.
    """
    lines: list[bytes] = []
    if comment is not None:
        lines += [b": " + line for line in _lines("comment", comment.encode())]
    if event is not None:
        lines.append(b"event: " + _single_line("event", event))
    if id is not None:
        if "\0" in id:
            raise ValueError(f"id {id!r} holds a NUL: the client would ignore the whole id")
        lines.append(b"id: " + _single_line("id", id))
    if retry is not None:
        if retry < 0:
            raise ValueError(f"retry is {retry}, expected milliseconds from 0 upwards")
        lines.append(b"retry: %d" % retry)
    if data is not None:
        lines += [b"data: " + line for line in _lines("data", _payload(data))]
    if not lines:
        raise ValueError("an event of nothing: give data, or another field")
    return b"\n".join(lines) + b"\n\n"


def json_lines(*values: object) -> bytes:
    r"""The body of a JSON Lines stream: each value as JSON (Pydantic models by alias) and a "\n".

    `bytes` are taken for lines already built, which is how to write a broken one.

    Raises:
        ValueError: A value cannot be JSON.
    """
    return b"".join(
        value if isinstance(value, bytes) else to_json(value) + b"\n" for value in values
    )


def json_seq(*values: object) -> bytes:
    r"""The body of a JSON text sequence: each value as JSON, with RS in front and a "\n" behind.

    Pydantic models go by alias. `bytes` are taken for what is already built, RS and all, which is
    how to write a broken one. https://www.rfc-editor.org/rfc/rfc7464

    Raises:
        ValueError: A value cannot be JSON.
    """
    return b"".join(
        value if isinstance(value, bytes) else b"\x1e" + to_json(value) + b"\n" for value in values
    )


def json_array(*values: object) -> bytes:
    """The body of a JSON array, as Google's APIs stream it: each value as JSON, one on a line.

    Pydantic models go by alias. `bytes` are taken for elements already built, which is how to
    write a broken one; what is around them is written as always.

    Raises:
        ValueError: A value cannot be JSON.
    """
    elements = (value if isinstance(value, bytes) else to_json(value) for value in values)
    return b"[" + b",\n".join(elements) + b"]"


def every_split(body: bytes, parts: int = 2) -> Iterator[list[bytes]]:
    """Every way to cut a body into so many pieces, none of them empty.

    For n bytes these are n-1 ways with 2 parts, (n-1)(n-2)/2 with 3, comb(n-1, parts-1) in all.

    Raises:
        ValueError: There is no way: `parts` is below 1 or above the size of the body.
    """
    if not 1 <= parts <= len(body):
        raise ValueError(f"{len(body)} bytes cannot be cut into {parts} pieces with none empty")
    return (
        [body[start:end] for start, end in itertools.pairwise((0, *cuts, len(body)))]
        for cuts in itertools.combinations(range(1, len(body)), parts - 1)
    )


def chunks_of(body: bytes, size: int) -> list[bytes]:
    """A body cut into pieces of `size` bytes; the last may be shorter, an empty body has none.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, expected at least 1 byte")
    return [body[start : start + size] for start in range(0, len(body), size)]


def _payload(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    return data.encode() if isinstance(data, str) else to_json(data)


def _lines(field: str, value: bytes) -> list[bytes]:
    if b"\r" in value:
        raise ValueError(f"{field} {value!r} holds a carriage return: it would not arrive as it is")
    return value.split(b"\n")


def _single_line(field: str, value: str) -> bytes:
    if "\r" in value or "\n" in value:
        raise ValueError(f"{field} {value!r} holds a line break: it would become another line")
    return value.encode()
