"""A client of plain sockets: it sees every byte and sends whatever it likes."""

import socket
import struct
from urllib.parse import urlsplit

from streamsession.testing import ScriptedServer

GET = b"GET /path?q=1 HTTP/1.1\r\nHost: test\r\n\r\n"


def connect(server: ScriptedServer, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection with a small receive buffer if the server is to be blocked by it."""
    url = urlsplit(server.url)
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(5)
    client.connect((url.hostname, url.port))
    return client


def ask(server: ScriptedServer, request: bytes = GET) -> socket.socket:
    """A connection on which a request was sent."""
    client = connect(server)
    client.sendall(request)
    return client


def receive(client: socket.socket, size: int) -> bytes:
    """Exactly so many bytes, or those up to the end."""
    received = b""
    while len(received) < size and (data := client.recv(size - len(received))):
        received += data
    return received


def receive_all(client: socket.socket) -> bytes:
    """All bytes up to the end of the connection."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def has_nothing_to_receive(client: socket.socket) -> bool:
    """Whether neither bytes nor the end have come."""
    client.settimeout(0)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(5)
    return False


def close_with_reset(client: socket.socket) -> None:
    """Close as a client does that has unread data."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
