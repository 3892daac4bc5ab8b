"""Recordings as scripts: what `record` kept, made to be played again."""

import math
import os
from pathlib import Path
from typing import Final

from .._script import HANG_UP, Framing, Pause, ScriptedResponse, Step
from .._wire import asks_to_close
from ._cassette import Exchange, load
from ._secrets import REDACTED

__all__ = ["replay"]

_FRAMING_HEADERS: Final = frozenset({"connection", "content-length", "transfer-encoding"})


def replay(path: str | os.PathLike[str], *, pace: float = 0.0) -> list[ScriptedResponse]:
    """The responses in a file that `record` wrote, one for each exchange, in order.

    Play them with `ScriptedServer(*replay(path))`, or with no socket at all by
    `respx.post(url).mock(side_effect=MockStream(*replay(path)))`.

    Each chunk is a step, compressed if it was. Over a socket a chunked body keeps its chunks; those
    of any other may be joined on the way. Redacted headers are left out. A body that broke ends
    with `HANG_UP`, and so does one that the client left: what the server would have sent is not
    known, and a test that reads on had better fail than wait or take the rest for all.

    Args:
        path: The file.
        pace: How long the pauses last, as a multiple of those recorded: 0 leaves them out, 1 keeps
            them, 2 is twice as slow. The time up to the response's head passes after it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no recording, a damaged one or one of a newer version; or `pace` is
            negative or not finite.
    """
    if not (pace >= 0 and math.isfinite(pace)):
        raise ValueError(f"pace is {pace}, expected 0 or more")
    responses: list[ScriptedResponse] = []
    for number, exchange in enumerate(load(Path(path)), 1):
        try:
            responses.append(_script(exchange, pace))
        except ValueError as exc:
            raise ValueError(f"{os.fspath(path)}, exchange {number}: {exc}") from exc
    return responses


def _script(exchange: Exchange, pace: float) -> ScriptedResponse:
    recorded = exchange.response.headers
    headers = {
        name: value
        for name, value in recorded.items()
        if value != REDACTED and name not in _FRAMING_HEADERS
    }
    framing = _framing(exchange)
    announced = recorded.get("content-length")
    if framing == "length" and announced is not None and announced != str(len(exchange.body)):
        headers["content-length"] = announced  # so that the client misses what did not come
    if framing != "close" and asks_to_close(recorded):
        headers["connection"] = "close"
    return ScriptedResponse(
        _steps(exchange, pace),
        exchange.response.response,
        headers=headers,
        content_type=None,  # it is among the headers
        framing=framing,
    )


def _framing(exchange: Exchange) -> Framing:
    headers = exchange.response.headers
    if "transfer-encoding" in headers:
        return "chunked"
    if "content-length" in headers:
        return "length"
    # Where a body did not come to its end, that of the connection would pass for it.
    ended = bool(exchange.chunks) and exchange.end.end == "complete"
    return "close" if ended and exchange.response.http.startswith("HTTP/1") else "chunked"


def _steps(exchange: Exchange, pace: float) -> list[Step]:
    steps: list[Step] = []
    waited = exchange.response.after
    for chunk in exchange.chunks:
        waited += chunk.after
        if waited * pace:
            steps.append(Pause(waited * pace))
        steps.append(chunk.data)
        waited = 0.0
    waited += exchange.end.after
    if waited * pace:
        steps.append(Pause(waited * pace))
    if exchange.end.end != "complete":
        steps.append(HANG_UP)
    return steps
