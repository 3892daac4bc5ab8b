"""What is asked of the server, checked before anything is sent. No I/O."""

import re
from collections.abc import AsyncIterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ._errors import InvalidRequest

__all__ = ["Request", "check_base_url", "check_headers", "join_url", "origin"]

# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 and #section-5.5
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e]")
# A second answer to where a request goes, or where it ends, is how requests are smuggled.
_OF_THE_CONNECTION = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}
_NOT_IN_PATH = r"[\x00-\x20\x7f\\#\ud800-\udfff]"  # compiled when first used


@dataclass(frozen=True, repr=False)
class Request:
    """One request, relative to a session's `base_url`; `dataclasses.replace` makes the next one.

    Attributes:
        method: The HTTP method.
        path: What is appended to `base_url`; may carry a query, never another host.
        params: Query parameters; encoded, and added to those of the path.
        headers: Headers of this request; they replace the session's of the same name.
        content: The body; None sends none. An async iterable can be sent only once.

    Raises:
        InvalidRequest: One of them is not allowed; the message names it, and never its value.
    """

    method: str
    path: str
    _: KW_ONLY
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes | AsyncIterable[bytes] | None = None

    def __post_init__(self) -> None:
        """Refuse what would change the request that the caller meant."""
        if not _TOKEN.fullmatch(self.method) or self.method.upper() in ("CONNECT", "TRACE"):
            raise InvalidRequest("the method must be a name such as 'POST'")
        _check_path(self.path)
        if not isinstance(self.content, bytes | AsyncIterable | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequest("content must be text, bytes or an async iterable of bytes")
        object.__setattr__(self, "headers", check_headers(self.headers))

    def __repr__(self) -> str:
        """Without what may be secret: query, headers and body."""
        return f"Request(method={self.method!r}, path={self.path.partition('?')[0]!r})"

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent a second time."""
        return self.content is None or isinstance(self.content, bytes)


def _check_path(path: str) -> None:
    if re.search(_NOT_IN_PATH, path):
        raise InvalidRequest(
            "path must not hold spaces, line breaks, backslashes or '#': quote what users type "
            "with urllib.parse.quote(text, safe='')"
        )
    segments = path.partition("?")[0].split("/")
    if ":" in segments[0] or path.startswith("//"):
        raise InvalidRequest("path must be relative to base_url; another host is another session")
    decoded = re.split(r"[/\\]", unquote(path.partition("?")[0]))
    if any(segment.partition(";")[0] in (".", "..") for segment in decoded):
        raise InvalidRequest("path must not hold '.' or '..' segments: they would leave base_url")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with names in lower case, if they can be sent.

    Raises:
        InvalidRequest: A name or value is not allowed; the message never holds the value.
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise InvalidRequest(f"{name!r} is not the name of a header")
        if name.lower() in _OF_THE_CONNECTION:
            raise InvalidRequest(f"header {name!r} is the connection's: the session sets it")
        if _NOT_IN_VALUE.search(value) or value != value.strip():
            raise InvalidRequest(
                f"header {name!r} must be ASCII text without line breaks, and without white space "
                "around it"
            )
    return {name.lower(): value for name, value in headers.items()}


def check_base_url(url: str) -> str:
    """The URL without a final slash, if requests may be made relative to it.

    Raises:
        InvalidRequest: It is not an absolute http or https URL, or it holds credentials or a query.
    """
    try:
        scheme, host, _ = origin(url)
        usable = scheme in ("http", "https") and host and not re.search(_NOT_IN_PATH, url)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            "base_url must be an absolute URL such as 'https://api.example.com/v1'"
            + ("" if url else ": set it on the class or pass base_url=")
        )
    if "@" in urlsplit(url).netloc:
        raise InvalidRequest("base_url must not hold credentials: pass them as api_key= or auth=")
    if "?" in url:
        raise InvalidRequest("base_url must not hold a query: pass params= with each request")
    return url.rstrip("/")


def join_url(base_url: str, path: str) -> str:
    """The path appended to the base URL, with one slash between them."""
    return f"{base_url}/{path.removeprefix('/')}" if path[:1] not in ("", "?") else base_url + path


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (https://www.rfc-editor.org/rfc/rfc6454#section-4).

    Raises:
        ValueError: It is no URL.
    """
    parts = urlsplit(url)
    port = (443 if parts.scheme == "https" else 80) if parts.port is None else parts.port
    return parts.scheme, parts.hostname or "", port
