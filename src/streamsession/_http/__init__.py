"""The only room that knows the HTTP library: a connection pool, and one response read from it.

It speaks to httpx and to whatever has httpx's interface, such as an `httpx2.AsyncClient`. It knows
nothing of frames, events, retries or clocks; whoever awaits it sets the limits.
"""

from ._body import UNSCOPED
from ._pool import Auth, HTTPClient, Limits, Pool, Transport
from ._response import Response
from ._tls import tls_context
from ._translate import forget_locals, translate

__all__ = [
    "UNSCOPED",
    "Auth",
    "HTTPClient",
    "Limits",
    "Pool",
    "Response",
    "Transport",
    "forget_locals",
    "tls_context",
    "translate",
]
