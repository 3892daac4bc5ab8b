"""What a recording may say: headers and queries redacted, and what is left searched for secrets.

No I/O. What is found is named by its place and kind; its value is in no message.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Final
from urllib.parse import parse_qsl, unquote

import httpx
from pydantic import SecretStr

__all__ = ["REDACTED", "SecretFound", "Secrets", "inflated"]

REDACTED: Final = "[redacted]"

_KEPT_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-version",
        "cache-control",
        "connection",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "last-event-id",
        "openai-version",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "server",
        "transfer-encoding",
        "user-agent",
        "vary",
        "x-request-id",
    }
)
_CREDENTIAL_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"}
)
_CREDENTIAL_QUERY: Final = re.compile("key|token|secret|sig|pass|auth|cred", re.IGNORECASE)
_MIN_LENGTH: Final = 8  # shorter ones are such as "ollama", which stand in answers by themselves
_MAX_ESCAPES: Final = 3  # JSON in a string in JSON in a string: arguments of a tool's tool call
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_SHAPES: Final = (
    ("an API key (sk-...)", "sk-", r"(?:(?:ant|proj)-[\w-]{8}|[\w-]{16})"),
    ("an AWS access key", "AKIA", "[0-9A-Z]{16}"),
    ("an AWS access key", "ASIA", "[0-9A-Z]{16}"),
    ("a GitHub token", "gh", "[opsur]_[0-9A-Za-z]{20}"),
    ("a GitHub token", "github_pat_", r"\w{20}"),
    ("a Slack token", "xox", "[a-z]-[0-9A-Za-z-]{10}"),
    ("a Google API key", "AIza", r"[\w-]{30}"),
    ("a JSON Web Token", "eyJ", r"(?<![\w-]eyJ)[\w-]{8,}\.[\w-]{4,}\."),
    ("a private key", "-----BEGIN ", "[A-Z0-9 ]*PRIVATE KEY"),
)
_PATTERNS: Final = [  # what begins with its letters is searched for ten times as fast
    (kind, re.compile(rf"{start}(?<![0-9A-Za-z]{start}){rest}", re.ASCII))
    for kind, start, rest in _SHAPES
]


class SecretFound(ValueError):
    """A secret stands in what was recorded, so nothing was written; the message says where."""


class Secrets:
    """What must not be written: the given secrets, and the credentials of every request seen.

    Args:
        given: Secrets of any length; a single one need not be in a list.
        keep_headers: Names of headers whose values are kept, besides the well-known harmless ones.

    Raises:
        ValueError: A given secret is empty: it would be found everywhere.
    """

    def __init__(
        self, given: Iterable[str | SecretStr] | SecretStr, keep_headers: Collection[str]
    ) -> None:
        self._kinds: dict[str, str] = {}
        self._kept = _KEPT_HEADERS | {name.lower() for name in keep_headers}
        for secret in (given,) if isinstance(given, str | SecretStr) else given:
            value = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
            if not value:
                raise ValueError("one of secrets= is empty: is an environment variable not set?")
            self._kinds[value] = "one of secrets="

    def redact_headers(self, headers: httpx.Headers) -> dict[str, str]:
        """All names, in lower case, with the values that may be kept; repeated ones are joined."""
        kept: dict[str, str] = {}
        for raw_name, raw_value in headers.raw:
            name = raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1") if name in self._kept else REDACTED
            joined = name in kept and name in self._kept
            kept[name] = f"{kept[name]}, {value}" if joined else value
        return kept

    def redact_path(self, url: httpx.URL) -> str:
        """The target of a request, with the names of its query but not the values."""
        path, mark, query = url.raw_path.decode("ascii").partition("?")
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        return path + mark + "&".join(f"{n}={REDACTED}" if eq else REDACTED for n, eq, _ in pairs)

    def learn(self, request: httpx.Request) -> None:
        """Take the credentials of a request for secrets."""
        for name, value in request.headers.multi_items():
            kind = f"what the request's header {name!r} held"
            if name in _CREDENTIAL_HEADERS:
                for part in _parts(name, value):
                    self._learn(part, kind)
            elif name not in self._kept and name != "host":
                for part in _parts(name, value):
                    self._learn(part, f"{kind} (if it is no secret, name it in keep_headers)")
        for name, value in parse_qsl(request.url.query.decode("ascii"), errors="replace"):
            if _CREDENTIAL_QUERY.search(name):
                self._learn(value, f"what {name!r} in the request's query held")

    def find(self, text: str) -> str | None:
        """What kind of secret stands in a text, as it is or escaped for JSON; None if none does."""
        for reading in _readings(text):
            for value, kind in self._kinds.items():
                if value in reading:
                    return kind
            for kind, pattern in _PATTERNS:
                if pattern.search(reading):
                    return kind
        return None

    def _learn(self, value: str, kind: str) -> None:
        if len(value) >= _MIN_LENGTH:
            self._kinds.setdefault(value, kind)


def inflated(body: bytes, encoding: str, *, limit: int) -> bytes:
    """A body without its compression, as far as it can be undone.

    Args:
        body: As it came; it may be cut or damaged.
        encoding: The value of Content-Encoding.
        limit: The most bytes to make of it.

    Raises:
        ValueError: It has more than `limit` bytes, or a compression that is not known here.
    """
    for coding in reversed([each.strip().lower() for each in encoding.split(",")]):
        if coding in {"gzip", "x-gzip", "deflate"}:
            either = _inflate(body, zlib.MAX_WBITS | 32, limit)  # gzip or zlib, by the header
            body = either or _inflate(body, -zlib.MAX_WBITS, limit)  # which some servers leave out
        elif coding not in {"", "identity"}:
            raise ValueError(
                f"it is compressed with {coding!r}, in which secrets cannot be found: "
                "send Accept-Encoding: gzip"
            )
    return body


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Byte by byte, so that nothing is lost of what stands before a damage."""
    done = bytearray()
    stream = zlib.decompressobj(window)
    try:
        for start in range(len(body)):
            if stream.eof:  # another member of a gzip file follows
                stream = zlib.decompressobj(window)
            done += stream.decompress(body[start : start + 1])
            if len(done) > limit:
                raise ValueError(f"it inflates to more than {limit} bytes: give a higher max_bytes")
    except zlib.error:
        pass  # the rest is searched as it stands
    return bytes(done)


def _parts(name: str, value: str) -> Iterator[str]:
    """The parts of a header's value that are secret by themselves."""
    yield value
    scheme, _, credentials = value.partition(" ")
    if name.endswith("authorization") or scheme.lower() == "bearer":
        yield credentials.strip()
    if scheme.lower() == "basic":
        try:
            yield base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return
    if name == "cookie":
        yield from (cookie.partition("=")[2].strip() for cookie in value.split(";"))


def _readings(text: str) -> Iterator[str]:
    """A text as it is, and without escapes that JSON or a URL may have put in."""
    yield text
    if "%" in text:
        yield unquote(text)
    for _ in range(_MAX_ESCAPES):
        if "\\" not in text:
            return
        text = _ESCAPE.sub(_unescape, text)
        if not text.isascii():  # two escapes may have made one character
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        yield text


def _unescape(escape: re.Match[str]) -> str:
    code, char = escape.groups()
    return chr(int(code, 16)) if code else _ESCAPED.get(char, char)
