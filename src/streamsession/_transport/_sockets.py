"""Sockets of asyncio for httpcore, without what its own backend does around each read.

That enters a cancel scope for every read, and has the event loop stop and start watching the
socket: together they cost as much as parsing what is read. It knows no HTTP.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, Final, Self, TypeAlias, TypeVar

import httpcore
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    create_task_group,
    fail_after,
    move_on_after,
)
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

__all__ = ["Connection", "Sockets"]

T = TypeVar("T")
Address: TypeAlias = tuple[Any, Any]  # host and port; asyncio's types do not tell families apart

# Bytes that may have arrived before anyone reads them, as many as asyncio takes at a time; beyond,
# the server has to wait.
_MOST_AHEAD: Final = 256 * 1024
_HEAD_START: Final = 0.25  # seconds: https://www.rfc-editor.org/rfc/rfc8305#section-5
_ADDRESSES: Final = {"client_addr": "sockname", "server_addr": "peername"}


class Socket(asyncio.Protocol, ByteStream):
    """One connection. What has arrived can be received even if it broke afterwards."""

    _transport: Any  # uvloop's are not of asyncio's class

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._ahead = 0  # bytes of it
        self._is_paused = False
        self._has_ended = False
        self._error: Exception | None = None
        self._receiver: asyncio.Future[None] | None = None  # done when there is more
        self._sender: asyncio.Future[None] | None = None  # done when more may be sent

    @classmethod
    async def connected(cls, address: Address) -> Self:
        """A connection to one address."""
        _, new = await asyncio.get_running_loop().create_connection(cls, *address)
        return new

    @property
    def is_readable(self) -> bool:
        """Whether something has arrived, if only the end."""
        return bool(self._arrived) or self._has_ended

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """None: see `extra_info`."""
        return {}

    def extra_info(self, name: str) -> Any:
        """What asyncio knows of it, such as its "peername"."""
        return self._transport.get_extra_info(name)

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._ahead += len(data)
        if self._ahead > _MOST_AHEAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        _wake(self._receiver)

    def eof_received(self) -> bool:
        self._has_ended = True
        _wake(self._receiver)
        return True  # still to be written to

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self._error = exc
        _wake(self._receiver)
        _wake(self._sender)

    def pause_writing(self) -> None:
        self._sender = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._sender)

    # What a stream does

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What has arrived, or arrives next; to wait, it does no more than await one future.

        Raises:
            BrokenResourceError: The connection broke.
            ClosedResourceError: It was closed here.
            EndOfStream: The server has ended it.
        """
        while not self._arrived:
            if self._has_ended:
                self._check()
                raise EndOfStream
            self._receiver = self._loop.create_future()
            await self._receiver
        data = self._arrived.popleft()
        if len(data) > max_bytes:
            self._arrived.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._ahead -= len(data)
        if self._is_paused and not self._ahead:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def send(self, item: bytes) -> None:
        """Send it; returns once the event loop takes more. Raises as `receive`."""
        self._check()
        self._transport.write(item)
        if self._sender is not None and not self._sender.done():
            await self._sender
            self._check()

    async def send_eof(self) -> None:
        """Send no more."""
        self._transport.write_eof()

    async def aclose(self) -> None:
        """Close it at once, whatever was still to be sent."""
        self.abort()
        await asyncio.sleep(0)  # then it is

    def abort(self) -> None:
        """Have the event loop close it."""
        self._transport.abort()

    def _check(self) -> None:
        if self._error is not None:
            raise BrokenResourceError from self._error
        if self._transport.is_closing():
            raise ClosedResourceError


class Connection(httpcore.AsyncNetworkStream):
    """A socket as httpcore takes it, or what encrypts it. Only a timeout makes it enter a scope."""

    def __init__(self, socket: Socket, stream: ByteStream) -> None:
        """Read and write the stream, which stands on the socket or is the same."""
        self._socket = socket
        self._stream = stream

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,
    ) -> bytes:
        """What has arrived, or arrives next; b"" if the server has ended the connection."""
        try:
            return await _within(timeout, self._stream.receive(max_bytes))
        except EndOfStream:
            return b""
        except _FAILURES as exc:
            raise _told(exc, httpcore.ReadError, httpcore.ReadTimeout) from exc

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,
    ) -> None:
        """Send it, unless there is nothing to send."""
        if buffer:
            with _telling(httpcore.WriteError, httpcore.WriteTimeout):
                await _within(timeout, self._stream.send(buffer))

    async def aclose(self) -> None:
        """Close it at once."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "Connection":
        """The same connection, encrypted; this one is not used again."""
        try:
            with _telling(httpcore.ConnectError, httpcore.ConnectTimeout), fail_after(timeout):
                encrypted = await TLSStream.wrap(
                    self._stream,
                    hostname=server_hostname,
                    ssl_context=ssl_context,
                    standard_compatible=False,
                )
        except BaseException:
            self._socket.abort()
            raise
        return Connection(self._socket, encrypted)

    def get_extra_info(self, info: str) -> Any:
        """As https://www.encode.io/httpcore/network-backends/ names it."""
        if info == "is_readable":
            return self._socket.is_readable
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - not Django's
        return self._socket.extra_info(_ADDRESSES.get(info, info))


class Sockets(httpcore.AsyncNetworkBackend):
    """Opens connections on the running event loop: asyncio's, or one that stands in for it."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Connection:
        """Connect to that address of a host which answers first.

        Raises:
            httpcore.ConnectError: None did.
            httpcore.ConnectTimeout: None did within so many seconds.
        """
        with _telling(httpcore.ConnectError, httpcore.ConnectTimeout), fail_after(timeout):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = _in_turn(found)
            if len(addresses) == 1:
                new = await Socket.connected(addresses[0])
            else:
                new = await _first_of(addresses)
            return Connection(new, new)


def _in_turn(found: Iterable[tuple[Any, ...]]) -> list[Address]:
    """The addresses of a host, of each family in turn: one that leads nowhere delays the next once.

    https://www.rfc-editor.org/rfc/rfc8305#section-4
    """
    families: dict[Any, dict[Address, None]] = {}
    for family, *_, (name, port, *more) in found:
        scope = f"%{more[1]}" if more and more[1] else ""  # of a link-local address
        families.setdefault(family, {})[f"{name}{scope}", port] = None
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


async def _first_of(addresses: list[Address]) -> Socket:
    """The connection that is made first; each address has a head start before the next."""
    made: list[Socket] = []
    errors: list[OSError] = []

    async def connect(address: Address, over: Event) -> None:
        try:
            made.append(await Socket.connected(address))
            group.cancel_scope.cancel()
        except OSError as exc:
            errors.append(exc)
        finally:
            over.set()

    try:
        async with create_task_group() as group:
            for address in addresses:
                over = Event()
                group.start_soon(connect, address, over)
                with move_on_after(_HEAD_START):
                    await over.wait()
        if not made:
            raise errors[0]
        return made.pop(0)
    finally:
        for late in made:
            late.abort()


async def _within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    if seconds is None:
        return await work
    with fail_after(seconds):
        return await work


_FAILURES: Final = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)  # TLS's too


def _told(
    exc: Exception, error: type[httpcore.NetworkError], late: type[httpcore.TimeoutException]
) -> Exception:
    says = str(exc) or str(exc.__cause__ or "")
    is_ours = isinstance(exc, TimeoutError) and exc.errno is None  # and not the system's
    return late(says) if is_ours else error(says)


@contextmanager
def _telling(
    error: type[httpcore.NetworkError], late: type[httpcore.TimeoutException]
) -> Generator[None]:
    try:
        yield
    except _FAILURES as exc:
        raise _told(exc, error, late) from exc


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
