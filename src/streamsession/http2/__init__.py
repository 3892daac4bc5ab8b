"""Many streams over one connection: requests over HTTP/2, as h2 speaks it.

`AsyncSession(transport=HTTP2Transport())`. It needs the extra `streamsession[http2]`, and is
imported by nothing else here.
"""

try:
    from ._transport import HTTP2Transport
except ImportError as exc:
    raise ImportError("streamsession.http2 needs h2: pip install 'streamsession[http2]'") from exc

__all__ = ["HTTP2Transport"]
