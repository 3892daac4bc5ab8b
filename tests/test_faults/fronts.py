"""What stands between a session and its server: TLS, proxies, and peers that speak neither.

They run on the tested event loop, in the task group of the block that opens them.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import anyio
import trustme
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

from streamsession.testing import ScriptedServer

Handler: TypeAlias = Callable[[SocketStream], Awaitable[None]]

HOST: Final = "127.0.0.1"
_GONE: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Certificates:
    """An authority, and what servers show: a good certificate and bad ones."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes()
        self.good = _server(authority.issue_cert(HOST))
        self.of_another_host = _server(authority.issue_cert("api.acme.example"))
        self.of_another_authority = _server(trustme.CA().issue_cert(HOST))


def _server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with certificate.private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


@asynccontextmanager
async def listening(handle: Handler, *, port: int = 0) -> AsyncGenerator[int]:
    """A port of 127.0.0.1 on which every connection is handled and then closed."""

    async def serve(client: SocketStream) -> None:
        async with client:
            with suppress(*_GONE):
                await handle(client)

    listener = await anyio.create_tcp_listener(local_host=HOST, local_port=port, reuse_port=False)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        group.cancel_scope.cancel()


def in_turn(*handlers: Handler) -> Handler:
    """The first connection gets the first handler, and so on; the last one gets all that follow."""
    left = list(handlers)

    async def handle(client: SocketStream) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(client)

    return handle


def handing_on_to(server: ScriptedServer) -> Handler:
    """Be as good as the server itself."""

    async def handle(client: SocketStream) -> None:
        async with await _connected(server) as upstream:
            await _join(client, upstream)

    return handle


def tls_in_front_of(
    server: ScriptedServer, context: ssl.SSLContext, *, ends_politely: bool = True
) -> Handler:
    """Speak TLS and hand on to the server what is within.

    Args:
        server: What it hands on to.
        context: With the certificate that is shown.
        ends_politely: False leaves out the `close_notify` that tells an end from a cut.
    """

    async def handle(client: SocketStream) -> None:
        stream = await wrapped(client, context)
        async with await _connected(server) as upstream:
            await _join(stream, upstream)
        if ends_politely:
            await stream.unwrap()

    return handle


def proxy(answer: bytes, then: Handler | None = None) -> Handler:
    """Answer a CONNECT, then do something else or close."""

    async def handle(client: SocketStream) -> None:
        request = await _head(client)
        assert request.startswith(b"CONNECT ")
        await client.send(answer)
        if then is not None:
            await then(client)

    return handle


def saying(answer: bytes) -> Handler:
    """Say the same to whoever says something, and close."""

    async def handle(client: SocketStream) -> None:
        await client.receive()
        await client.send(answer)

    return handle


async def hang_up(client: SocketStream) -> None:
    """Close once the client has said something."""
    await client.receive()


async def reset(client: SocketStream) -> None:
    """The same with a reset: some of what the client said stays unread."""
    await client.receive(1)


async def stall(client: SocketStream) -> None:
    """Listen and say nothing."""
    while True:
        await client.receive()


async def wrapped(client: SocketStream, context: ssl.SSLContext) -> TLSStream:
    """TLS with the client, which need not end politely."""
    return await TLSStream.wrap(
        client, server_side=True, ssl_context=context, standard_compatible=False
    )


async def _head(client: SocketStream) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.receive()
    return head


async def _connected(server: ScriptedServer) -> SocketStream:
    return await anyio.connect_tcp(HOST, urlsplit(server.url).port or 0)


async def _join(one: ByteStream, other: ByteStream) -> None:
    async def pump(source: ByteStream, target: ByteStream) -> None:
        with suppress(*_GONE):
            while True:
                await target.send(await source.receive())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(pump, one, other)
        group.start_soon(pump, other, one)
