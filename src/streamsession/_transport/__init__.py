"""How a session reaches its server unless told otherwise. It can be left out: httpx's own way goes.

It stands on httpcore, whose connections it puts on sockets of its own and shares among several
pools. It knows nothing of sessions, streams and events.
"""

from ._pools import HTTPTransport

__all__ = ["HTTPTransport"]
