"""Sockets under httpcore: what arrives is kept, what waits ends, and nothing stays open."""

import asyncio
import gc
import importlib.util
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Any, Final

import anyio
import anyio.lowlevel
import httpcore
import pytest

from streamsession._transport._sockets import Connection, Sockets
from tests.test_faults.fronts import Certificates

PATIENCE: Final = 10.0
HOST: Final = "127.0.0.1"
MUCH: Final = 64 * 1024 * 1024  # bytes: more than all buffers of the kernel take
QUIET: Final = 1000  # turns of the event loop

on_uvloop = pytest.param(
    ("asyncio", {"use_uvloop": True}),
    id="uvloop",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
    ),
)
pytestmark = pytest.mark.anyio
# uvloop asks the C library itself: names cannot be made up for it.
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture(params=["asyncio", on_uvloop])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Make collecting fast: what was there before these tests is no garbage of theirs."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """What is left open is found in the test that left it."""
    yield
    gc.collect()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)  # noqa: FBT003 - positional only
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


async def accepted(listener: socket.socket) -> socket.socket:
    peer, _ = await asyncio.get_running_loop().sock_accept(listener)
    return peer


@asynccontextmanager
async def connected(listener: socket.socket) -> AsyncGenerator[tuple[Connection, socket.socket]]:
    """Both ends of a connection."""
    connection = await Sockets().connect_tcp(HOST, port_of(listener))
    with await accepted(listener) as peer:
        try:
            with anyio.fail_after(PATIENCE):
                yield connection, peer
        finally:
            await connection.aclose()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def read_all(connection: Connection) -> bytes:
    data = bytearray()
    while piece := await connection.read(65536):
        data += piece
    return bytes(data)


async def ended(peer: socket.socket) -> bool:
    """Whether the other end has closed it; waits for that."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionResetError), anyio.fail_after(PATIENCE):
        while await loop.sock_recv(peer, 65536):
            pass
    return True


# Reading


async def test_what_arrives_is_read_in_order_and_then_the_end(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        peer.sendall(b"one")
        assert await connection.read(65536) == b"one"
        peer.sendall(b"two")
        peer.close()
        assert await read_all(connection) == b"two"
        assert await connection.read(65536) == b""


async def test_no_more_is_read_than_was_asked_for(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        peer.sendall(b"abcde")
        assert [await connection.read(2) for _ in range(3)] == [b"ab", b"cd", b"e"]


async def test_what_arrived_before_a_reset_is_read_before_it_is_told(
    listener: socket.socket,
) -> None:
    async with connected(listener) as (connection, peer):
        peer.sendall(b"abcde")
        await until(lambda: connection.get_extra_info("is_readable"))
        reset(peer)
        for _ in range(QUIET):
            await anyio.lowlevel.checkpoint()
        assert await connection.read(3) == b"abc"
        assert await connection.read(3) == b"de"
        with pytest.raises(httpcore.ReadError, match="reset"):
            await connection.read(3)


async def test_a_reset_ends_a_read_that_waits(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        asyncio.get_running_loop().call_soon(reset, peer)
        with pytest.raises(httpcore.ReadError, match="reset"):
            await connection.read(1)


async def _sent_until_nobody_reads(peer: socket.socket) -> int:
    """Send until it has been full for many turns of the event loop; returns how many bytes."""
    sent = full = 0
    piece = memoryview(bytes(range(256)) * 256)
    peer.setblocking(False)  # noqa: FBT003 - positional only
    while full < QUIET and sent < MUCH:
        try:
            sent += peer.send(piece[sent % 256 :])
            full = 0
        except BlockingIOError:
            full += 1
            await anyio.lowlevel.checkpoint()
    return sent


async def test_a_server_that_sends_more_than_anyone_reads_has_to_wait(
    listener: socket.socket,
) -> None:
    async with connected(listener) as (connection, peer):
        for _ in range(2):
            sent = await _sent_until_nobody_reads(peer)
            assert 256 * 1024 < sent < MUCH
            got = bytearray()
            while len(got) < sent:
                got += await connection.read(100_000)
            assert got[256:] == got[:-256]


async def test_what_fits_while_nobody_reads_is_not_lost_when_the_server_resets(
    listener: socket.socket,
) -> None:
    async with connected(listener) as (connection, peer):
        sent = await _sent_until_nobody_reads(peer)
        reset(peer)
        got = 0
        with pytest.raises(httpcore.ReadError):  # noqa: PT012 - what comes before it counts, too
            while True:
                got += len(await connection.read(65536))
        assert 256 * 1024 < got <= sent


async def test_a_write_that_fails_does_not_lose_what_waits_to_be_read(
    listener: socket.socket,
) -> None:
    async with connected(listener) as (connection, peer):
        await _sent_until_nobody_reads(peer)
        reset(peer)
        with pytest.raises(httpcore.WriteError):  # noqa: PT012 - some may still be taken
            while True:
                await connection.write(b"more")
                await anyio.lowlevel.checkpoint()
        got = 0
        with pytest.raises(httpcore.ReadError):  # noqa: PT012 - what comes before it counts, too
            while True:
                got += len(await connection.read(65536))
        assert got > 256 * 1024


async def test_a_read_takes_no_longer_than_it_may(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        with pytest.raises(httpcore.ReadTimeout):
            await connection.read(1, timeout=0.01)
        peer.sendall(b"late")
        assert await connection.read(65536, timeout=PATIENCE) == b"late"


async def test_a_read_that_was_cancelled_has_taken_nothing(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        reading = asyncio.create_task(connection.read(1))
        await anyio.lowlevel.checkpoint()
        peer.sendall(b"data")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await connection.read(65536) == b"data"


# Writing


async def test_a_server_that_ended_its_side_can_still_be_written_to(
    listener: socket.socket,
) -> None:
    async with connected(listener) as (connection, peer):
        peer.shutdown(socket.SHUT_WR)
        assert await connection.read(1) == b""
        await connection.write(b"still there")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"still there"


async def test_a_server_that_ends_its_side_while_we_write_gets_all_of_it(
    listener: socket.socket,
) -> None:
    loop = asyncio.get_running_loop()
    async with connected(listener) as (connection, peer):
        writing = asyncio.create_task(connection.write(bytes(MUCH)))
        await anyio.lowlevel.checkpoint()
        peer.sendall(b"enough")
        peer.shutdown(socket.SHUT_WR)
        assert await read_all(connection) == b"enough"
        assert not writing.done()
        peer.setblocking(False)  # noqa: FBT003 - positional only
        got = 0
        while got < MUCH:
            got += len(await loop.sock_recv(peer, 1 << 20))
        await writing


async def test_a_write_waits_for_a_server_that_does_not_read(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        with pytest.raises(httpcore.WriteTimeout):
            await connection.write(bytes(MUCH), timeout=0.01)
        assert not connection.get_extra_info("is_readable")
        assert peer.fileno() > 0


@pytest.mark.parametrize("end", [reset, socket.socket.close])
async def test_a_connection_that_is_lost_ends_a_write_that_waits(
    listener: socket.socket, end: Callable[[socket.socket], None]
) -> None:
    async with connected(listener) as (connection, peer):
        writing = asyncio.create_task(connection.write(bytes(MUCH)))
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert not writing.done()
        end(peer)
        with pytest.raises(httpcore.WriteError):
            await writing
        with pytest.raises(httpcore.WriteError):
            await connection.write(b"more")


async def test_nothing_to_write_is_nothing_to_do(listener: socket.socket) -> None:
    async with connected(listener) as (connection, _):
        await connection.aclose()
        await connection.write(b"")
        with pytest.raises(httpcore.WriteError):
            await connection.write(b"x")


# Closing


async def read_one(connection: Connection) -> None:
    await connection.read(1)


async def write_much(connection: Connection) -> None:
    await connection.write(bytes(MUCH))


@pytest.mark.parametrize("step", [read_one, write_much])
async def test_closing_in_another_task_ends_what_waits(
    listener: socket.socket, step: Callable[[Connection], Coroutine[Any, Any, None]]
) -> None:
    async with connected(listener) as (connection, peer):
        waiting = asyncio.create_task(step(connection))
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert not waiting.done()
        await connection.aclose()
        with pytest.raises((httpcore.ReadError, httpcore.WriteError)):
            await waiting
        peer.setblocking(False)  # noqa: FBT003 - positional only
        assert await ended(peer)


async def test_closing_twice_is_closing_once(listener: socket.socket) -> None:
    async with connected(listener) as (connection, peer):
        await connection.aclose()
        await connection.aclose()
        peer.setblocking(False)  # noqa: FBT003 - positional only
        assert await ended(peer)


# Connecting


class Names:
    """Names and their addresses, as whoever resolves them tells."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.addresses: dict[str, list[tuple[Any, ...]]] = {}

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        found = self.addresses.get(host)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in name else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (name, port, *more),
            )
            for name, *more in found
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
def slow(listener: socket.socket) -> Iterator[str]:
    """An address that answers nobody on the port of the listener."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.3", port_of(listener)))
        full.listen(0)
        for _ in range(10):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)  # noqa: FBT003 - positional only
            client.connect_ex(("127.0.0.3", port_of(listener)))
        yield "127.0.0.3"


DEAD: Final = "127.0.0.2"  # nobody listens there


@on_asyncio
@pytest.mark.parametrize("dead", [[DEAD], [DEAD, "::1"], ["::1", DEAD, "127.0.0.4"]])
async def test_an_address_where_nobody_listens_is_passed_over_at_once(
    listener: socket.socket, names: Names, dead: list[str]
) -> None:
    names.addresses["acme"] = [*((each,) for each in dead), (HOST,)]
    before = anyio.current_time()
    connection = await Sockets().connect_tcp("acme", port_of(listener))
    assert anyio.current_time() - before < 0.2
    assert connection.get_extra_info("server_addr")[:2] == (HOST, port_of(listener))
    await connection.aclose()


@on_asyncio
async def test_an_address_that_does_not_answer_loses_to_the_next(
    listener: socket.socket, names: Names, slow: str
) -> None:
    names.addresses["acme"] = [(slow,), (HOST,)]
    with anyio.fail_after(PATIENCE):
        connection = await Sockets().connect_tcp("acme", port_of(listener))
    assert connection.get_extra_info("server_addr")[0] == HOST
    await connection.aclose()


@on_asyncio
async def test_one_address_of_each_family_is_tried_in_turn(
    listener: socket.socket, names: Names, slow: str
) -> None:
    names.addresses["acme"] = [(slow,), (HOST,), ("::1",)]
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", port_of(listener)))
        other.listen()
        with anyio.fail_after(PATIENCE):
            connection = await Sockets().connect_tcp("acme", port_of(listener))
        assert connection.get_extra_info("server_addr")[0] == "::1"
        await connection.aclose()


@on_asyncio
async def test_when_no_address_answers_the_first_failure_is_told(
    listener: socket.socket, names: Names, slow: str
) -> None:
    names.addresses["acme"] = [(DEAD,), ("127.0.0.4",)]
    with pytest.raises(httpcore.ConnectError, match=DEAD):
        await Sockets().connect_tcp("acme", port_of(listener))
    names.addresses["acme"] = [(DEAD,), (slow,)]
    with pytest.raises(httpcore.ConnectTimeout):
        await Sockets().connect_tcp("acme", port_of(listener), timeout=0.3)


@on_asyncio
async def test_a_name_that_nobody_knows_is_an_error_of_connecting(names: Names) -> None:
    with pytest.raises(httpcore.ConnectError, match="not known"):
        await Sockets().connect_tcp("acme", 80)
    assert names.asked == ["acme"]


@on_asyncio
async def test_the_interface_of_a_link_local_address_is_kept(
    listener: socket.socket, names: Names
) -> None:
    names.addresses = {"acme": [("fe80::1", 0, 7)], "fe80::1%7": [(HOST,)]}
    connection = await Sockets().connect_tcp("acme", port_of(listener))
    await connection.aclose()


async def _cancelled_after(turns: int, connecting: "asyncio.Task[Connection]", times: int) -> bool:
    """Whether it was still connecting then."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    for _ in range(times):
        connecting.cancel()
        await anyio.lowlevel.checkpoint()
    try:
        connection = await connecting
    except asyncio.CancelledError:
        return True
    await connection.aclose()
    return False


async def _all_have_ended(listener: socket.socket) -> None:
    """All connections that were made to it are closed."""
    while True:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            return
        with peer:
            peer.setblocking(False)  # noqa: FBT003 - positional only
            assert await ended(peer)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_connecting_is_cancelled_at_every_step(listener: socket.socket, times: int) -> None:
    sockets, late = Sockets(), 0
    for turns in count():
        connecting = asyncio.create_task(sockets.connect_tcp(HOST, port_of(listener)))
        late += not await _cancelled_after(turns, connecting, times)
        await _all_have_ended(listener)
        if late > 10:
            break


@on_asyncio
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("first", [DEAD, HOST, "127.0.0.3"])
async def test_connecting_to_several_addresses_is_cancelled_at_every_step(
    listener: socket.socket, names: Names, slow: str, first: str, times: int
) -> None:
    names.addresses["acme"] = [(first,), (HOST,), ("127.0.0.4",), (HOST,)]
    sockets, late = Sockets(), 0
    for turns in range(200):
        connecting = asyncio.create_task(sockets.connect_tcp("acme", port_of(listener)))
        late += not await _cancelled_after(turns, connecting, times)
        await _all_have_ended(listener)
        if late > 10:
            break
    assert first == slow or late > 10


async def test_connecting_is_cancelled_by_a_scope_at_every_step(listener: socket.socket) -> None:
    sockets, late = Sockets(), 0
    scope = anyio.CancelScope()
    made: list[Connection] = []

    async def connect() -> None:
        with scope:
            made.append(await sockets.connect_tcp(HOST, port_of(listener)))

    for turns in count():
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(connect)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        late += len(made)
        while made:
            await made.pop().aclose()
        await _all_have_ended(listener)
        if late > 10:
            break


# TLS


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(scope="module")
def trusting(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificates.authority.decode())


@pytest.fixture(scope="module")
def shown(certificates: Certificates) -> ssl.SSLContext:
    return certificates.good


class TLSPeer:
    """The other end of an encrypted connection, whose bytes can be held back or damaged."""

    def __init__(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        self.socket = peer
        self.socket.setblocking(False)  # noqa: FBT003 - positional only
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)

    async def step(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                return work()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                self._in.write(data) if data else self._in.write_eof()

    def pending(self) -> bytes:
        return self._out.read()

    async def flush(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, self.pending())


@asynccontextmanager
async def encrypted(
    listener: socket.socket, trusting: ssl.SSLContext, shown: ssl.SSLContext
) -> AsyncGenerator[tuple[Connection, TLSPeer]]:
    """Both ends of an encrypted connection."""
    async with connected(listener) as (connection, raw):
        peer = TLSPeer(raw, shown)
        wrapping = asyncio.create_task(connection.start_tls(trusting, HOST, PATIENCE))
        await peer.step(peer.tls.do_handshake)
        await peer.flush()
        yield await wrapping, peer


async def test_an_encrypted_connection_carries_both_ways_and_ends(
    listener: socket.socket, trusting: ssl.SSLContext, shown: ssl.SSLContext
) -> None:
    async with encrypted(listener, trusting, shown) as (connection, peer):
        await connection.write(b"question")
        assert await peer.step(lambda: peer.tls.read(100)) == b"question"
        peer.tls.write(b"answer")
        with suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()  # which sends the close_notify along
        await peer.flush()
        assert connection.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert await connection.read(65536) == b"answer"
        assert await connection.read(65536) == b""


async def test_encrypted_data_that_was_damaged_is_told_after_what_was_good(
    listener: socket.socket, trusting: ssl.SSLContext, shown: ssl.SSLContext
) -> None:
    async with encrypted(listener, trusting, shown) as (connection, peer):
        peer.tls.write(b"good")
        good = peer.pending()
        peer.tls.write(b"bad")
        bad = bytearray(peer.pending())
        bad[-1] ^= 1
        await asyncio.get_running_loop().sock_sendall(peer.socket, good + bad)
        assert await connection.read(65536) == b"good"
        with pytest.raises(httpcore.ReadError, match=r"(?i)bad.record.mac"):
            await connection.read(65536)


async def test_encrypted_data_before_a_reset_is_read_before_it_is_told(
    listener: socket.socket, trusting: ssl.SSLContext, shown: ssl.SSLContext
) -> None:
    async with encrypted(listener, trusting, shown) as (connection, peer):
        await connection.write(b"question")
        await peer.step(lambda: peer.tls.read(100))
        peer.tls.write(b"one")
        peer.tls.write(b"two")
        await peer.flush()
        await until(lambda: connection.get_extra_info("is_readable"))
        assert await connection.read(65536) == b"one"
        reset(peer.socket)
        assert await connection.read(65536) == b"two"
        with pytest.raises(httpcore.ReadError):
            await connection.read(65536)


@pytest.mark.parametrize("end", [reset, socket.socket.close])
async def test_a_server_that_leaves_the_handshake_is_an_error_of_connecting(
    listener: socket.socket, trusting: ssl.SSLContext, end: Callable[[socket.socket], None]
) -> None:
    async with connected(listener) as (connection, peer):
        wrapping = asyncio.create_task(connection.start_tls(trusting, HOST, PATIENCE))
        await asyncio.get_running_loop().sock_recv(peer, 65536)
        end(peer)
        with pytest.raises(httpcore.ConnectError):
            await wrapping


async def test_a_certificate_that_is_not_trusted_closes_the_connection(
    listener: socket.socket, shown: ssl.SSLContext
) -> None:
    async with connected(listener) as (connection, raw):
        peer = TLSPeer(raw, shown)
        stranger = ssl.create_default_context()
        wrapping = asyncio.create_task(connection.start_tls(stranger, HOST, PATIENCE))
        with suppress(ssl.SSLError, ConnectionResetError):
            await peer.step(peer.tls.do_handshake)
        with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await wrapping
        assert await ended(raw)


async def test_a_handshake_that_stalls_is_given_up_in_time(
    listener: socket.socket, trusting: ssl.SSLContext
) -> None:
    async with connected(listener) as (connection, peer):
        with pytest.raises(httpcore.ConnectTimeout):
            await connection.start_tls(trusting, HOST, 0.01)
        peer.setblocking(False)  # noqa: FBT003 - positional only
        assert await ended(peer)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_handshake_that_is_cancelled_closes_the_connection(
    listener: socket.socket, trusting: ssl.SSLContext, times: int
) -> None:
    async with connected(listener) as (connection, peer):
        wrapping = asyncio.create_task(connection.start_tls(trusting, HOST))
        await asyncio.get_running_loop().sock_recv(peer, 65536)
        for _ in range(times):
            wrapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapping
        peer.setblocking(False)  # noqa: FBT003 - positional only
        assert await ended(peer)
