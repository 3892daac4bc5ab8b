"""One response being read, inflated on the way if need be."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from anyio.lowlevel import checkpoint

from .._errors import StreamInterrupted, UnexpectedContent
from ._body import body_of
from ._translate import forget_locals, raise_as_ours

__all__ = ["Response"]

_MAX_ID: Final = 200  # characters; a UUID has 36
_HEADER_BYTES: Final = 2  # of zlib
_PIECE: Final = 64 * 1024  # bytes inflated at a time, as many as httpcore reads from a socket


class Response:
    """One answer of the server; read it to its end or close it.

    Attributes:
        status: The HTTP status code.
        headers: The response's headers; look-up ignores case.
        request_id: The server's id of this response; None if it named none.
        reused: Whether the connection had carried a request before; False if its transport does
            not tell: httpx's own and those of this package do.
        content_type: The media type without its parameters, in lower case; "" if none was named.
    """

    def __init__(
        self, raw: Any, *, request_id: str | None, reused: bool, on_close: Callable[[], None]
    ) -> None:
        self.status: int = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        # It is logged and shown: a server may send more than fits a line, or orders to a terminal.
        self.request_id = request_id and "".join(filter(str.isprintable, request_id[:_MAX_ID]))
        self.reused = reused
        self.content_type = raw.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._raw = raw
        self._body = body_of(raw)
        self._inflater = _inflater(raw.headers.get("content-encoding", ""))
        self._on_close: Callable[[], None] | None = on_close

    def __repr__(self) -> str:
        return f"<Response {self.status} request_id={self.request_id!r}>"

    def read_now(self, *, may_begin: bool) -> bytes | None:
        """The next bytes of the body, if they are there already; b"" at its end.

        None if they are not: then await what is `arriving` or, at once, `read`. Unless that is
        sure, it may not begin. Raises as `read` does.
        """
        if self._inflater is not None:
            return None
        try:
            return self._body.read_now(may_begin=may_begin)
        except BaseException as exc:  # noqa: BLE001 - translated or raised again
            forget_locals(exc)
            raise_as_ours(exc, answered=True)

    @property
    def arriving(self) -> Awaitable[Any] | None:
        """What may be awaited for `read_now` to have something; None if `read` must be.

        Cancelling ends the body: it is to be closed. How it fails is for `read_now` to tell.
        """
        return None if self._inflater is not None else self._body.arriving

    async def read(self) -> bytes:
        """The next bytes of the body, decompressed, as soon as there are any; b"" at its end.

        Cancelling ends the body: it is to be closed.

        Raises:
            StreamInterrupted: The connection broke, or the compression is damaged.
        """
        while True:
            if self._inflater is not None and (piece := self._inflater.piece()):
                await checkpoint()  # little comes in and much goes out: others have their turn
                return piece
            try:
                data = await self._body.read()
            except BaseException as exc:  # noqa: BLE001 - translated or raised again
                forget_locals(exc)
                raise_as_ours(exc, answered=True)
            if self._inflater is None:
                return data
            if not data:
                self._inflater.end()
                return b""
            self._inflater.pending += data

    async def aclose(self) -> None:
        """Give the connection back: for reuse if the body was read to its end, else closed."""
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            return
        try:
            await self._body.leave()
            await self._raw.aclose()
        except Exception as exc:  # noqa: BLE001 - translated or raised again
            raise_as_ours(exc, answered=True)
        finally:
            on_close()
        await self._body.unwind()


class _Inflater:
    """Inflates gzip and deflate a piece at a time, so that a bomb cannot fill the memory."""

    def __init__(self, *, may_be_raw: bool = False) -> None:
        self.pending = b""  # compressed
        self._may_be_raw = may_be_raw
        self._stream: Any = None

    def piece(self) -> bytes:
        """Up to 64 KiB of what the pending bytes hold; b"" if more of them are needed."""
        while self.pending:
            if self._may_be_raw and len(self.pending) < _HEADER_BYTES:
                return b""
            if self._stream is None or self._stream.eof:  # another member of a gzip file follows
                window = zlib.MAX_WBITS | 32  # gzip or zlib, by the header
                is_raw = self._may_be_raw and not _begins_zlib(self.pending)
                self._may_be_raw = False
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else window)
            try:
                piece: bytes = self._stream.decompress(self.pending, _PIECE)
            except zlib.error as exc:
                raise StreamInterrupted(f"the compressed body is damaged: {exc}") from exc
            self.pending = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                return piece
        return b""

    def end(self) -> None:
        """Check that the compressed data ended where the body does."""
        if self.pending or not (self._stream is None or self._stream.eof):
            raise StreamInterrupted("the compressed body was cut")


def _begins_zlib(data: bytes) -> bool:
    """Whether deflated data has the header of zlib: some servers leave it out.

    https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2, https://www.rfc-editor.org/rfc/rfc1950
    """
    return data[0] & 0x8F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0


class _Unknown(_Inflater):
    """A compression that was not asked for: whatever comes cannot be read."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    def piece(self) -> bytes:
        if self.pending:
            raise UnexpectedContent(f"compressed with {self._encoding!r}, which was not asked for")
        return b""


def _inflater(encoding: str) -> _Inflater | None:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflater(may_be_raw=encoding == "deflate")
    return _Unknown(encoding)
