"""Recording what goes through a transport, into a file that `replay` plays.

The transport is passed through as it is: nothing is read ahead, held back or closed here that would
not be without it. What is kept is data alone, so that it keeps no connection alive.
"""

import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import SecretStr
from typing_extensions import override

from ._secrets import Secrets
from ._tape import Take, Tape

__all__ = ["record"]


@contextlib.contextmanager
def record(
    path: str | os.PathLike[str],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    secrets: Iterable[str | SecretStr] | SecretStr = (),
    keep_headers: Collection[str] = (),
    max_bytes: int = 64 * 1024 * 1024,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[httpx.AsyncBaseTransport]:
    """Record every exchange of the block into a small readable file, which `replay` plays.

    Enter it with `with` and give what comes out to the session or the `httpx.AsyncClient`:
    `Acme(api_key=..., transport=transport)`. A client of httpx2 cannot take it.

    The file is written on leaving, also by an exception, for a stream that broke is worth keeping;
    it replaces an older one in one go. It holds of each exchange the method and path, the status
    and headers, each chunk of the body as it came and the seconds before it, as the client saw
    them, and whether the body was complete, broken or left by the client. A request that got no
    response leaves nothing.

    The request's body is not kept, nor are the values of its query, nor those of headers that are
    not known to be harmless. A secret in what is left keeps the file from being written: one of
    `secrets`, a credential that was sent (any redacted request header of 8 characters or more),
    or what looks like a well-known key. It is found across chunks, compressed by gzip or deflate,
    and escaped in JSON; not where the server cut it into several events or encoded it otherwise.

    Args:
        path: The file, usually `.jsonl`; its folder must exist.
        transport: What sends the requests; closed by the client that is given the recording one.
            None for a plain `httpx.AsyncHTTPTransport`.
        secrets: What else must not be in the file.
        keep_headers: Further headers whose values are kept, and are no secrets.
        max_bytes: The most that bodies may have together, inflated ones too; each chunk counts
            128 bytes more.
        clock: Seconds since any moment; for tests.

    Raises:
        OSError: The file cannot be written; a missing folder is told before anything is sent.
        SecretFound: A secret is in what was recorded; nothing was written.
        ValueError: Nothing was recorded, or more than `max_bytes`, or a compression in which
            secrets cannot be found; nothing was written. When an exception leaves the block, that
            is raised, with any of these as a note.
    """
    target = Path(path)
    _check_target(target)
    tape = Tape(Secrets(secrets, keep_headers), max_bytes=max_bytes, clock=clock)
    del secrets  # some tools show the locals of a traceback
    try:
        yield _RecordingTransport(transport or httpx.AsyncHTTPTransport(), tape)
    except BaseException as exc:
        try:
            _write(target, tape.finish())
        except (OSError, ValueError) as failure:
            exc.add_note(f"The recording {target} was not written: {failure}")
        raise
    _write(target, tape.finish())


class _RecordingTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, tape: Tape) -> None:
        self._inner = inner
        self._tape = tape

    @override
    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        take = self._tape.begin(request)
        response = await self._inner.handle_async_request(request)
        if not isinstance(response.stream, httpx.AsyncByteStream):
            return response  # no client takes it
        take.respond(response)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_RecordedStream(response.stream, take),
            extensions=response.extensions,
        )

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


class _RecordedStream(httpx.AsyncByteStream):
    """A body on its way. No generator: left half-way it would wait for its finaliser."""

    def __init__(self, inner: httpx.AsyncByteStream, take: Take) -> None:
        self._inner = inner
        self._chunks = aiter(inner)
        self._take = take
        self._is_closed = False

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._take.end("complete")
            raise
        except httpx.TimeoutException as exc:  # the client's own clock, whatever the server does
            self._take.end("left", error=exc)
            raise
        except Exception as exc:
            self._take.end("broken", error=exc)
            raise
        self._take.add(chunk)
        return chunk

    @override
    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._take.end("left")
            await self._inner.aclose()


def _check_target(path: Path) -> None:
    """Say before anything is sent what would only be found when all was paid for."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file")


def _write(path: Path, content: bytes) -> None:
    """Replace the file in one go: whoever reads it sees the old one or all of the new one."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
