"""The fast path: requests over aiohttp, whose HTTP/1.1 parser is written in C.

`AsyncSession(transport=AiohttpTransport())`, on asyncio and uvloop. It needs the extra
`streamsession[aiohttp]`, and is imported by nothing else here.
"""

try:
    from ._transport import AiohttpTransport
except ImportError as exc:
    raise ImportError(
        "streamsession.aiohttp needs aiohttp: pip install 'streamsession[aiohttp]'"
    ) from exc

__all__ = ["AiohttpTransport"]
