"""TLS contexts, made once for all sessions: that takes longer than a request."""

import os
import ssl
from functools import lru_cache

import httpx

__all__ = ["tls_context"]


def tls_context(*protocols: str) -> ssl.SSLContext:
    """What httpx itself would make, given the variables of the environment as they are now.

    Args:
        protocols: What is offered to the server by ALPN; none leaves it to whoever connects.
    """
    return _made(protocols, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=8)
def _made(protocols: tuple[str, ...], *_: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    return context
