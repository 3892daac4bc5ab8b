"""Credentials: what proves to the server who is asking.

They are applied only to requests to the origin of `base_url`, stand in no repr, log line or
exception, and know nothing of the HTTP library.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

from anyio import Lock
from pydantic import SecretStr

from ._errors import InvalidRequest

__all__ = ["BearerAuth", "Credentials", "HeaderAuth", "TokenAuth"]


class Credentials(ABC):
    """Base of what signs a request with headers; subclass it for a scheme of your own."""

    @abstractmethod
    async def headers(self) -> Mapping[str, str]:
        """The headers to send; awaited before every attempt."""

    async def refresh(self, rejected: Mapping[str, str]) -> bool:
        """Replace the credentials after a 401; False if there are no others to try.

        Args:
            rejected: The headers that the server refused.
        """
        return False


class HeaderAuth(Credentials):
    """A secret in a header of its own, such as `x-api-key`."""

    def __init__(self, header: str, secret: str | SecretStr) -> None:
        self._header = header
        self._secret = secret if isinstance(secret, SecretStr) else SecretStr(secret)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._header!r}, '**********')"

    async def headers(self) -> Mapping[str, str]:
        """The one header, with the secret."""
        return {self._header: self._secret.get_secret_value()}


class BearerAuth(Credentials):
    """A token in `Authorization: Bearer` (https://www.rfc-editor.org/rfc/rfc6750#section-2.1)."""

    def __init__(self, token: str | SecretStr) -> None:
        self._token = token if isinstance(token, SecretStr) else SecretStr(token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('**********')"

    async def headers(self) -> Mapping[str, str]:
        """The Authorization header, with the token.

        Raises:
            InvalidRequest: It has white space in front.
        """
        token = self._token.get_secret_value()
        if token[:1].isspace():
            raise InvalidRequest("header 'Authorization' must be a token without white space")
        return {"Authorization": f"Bearer {token}"}


class TokenAuth(Credentials):
    """A bearer token that an async function provides, fetched when first needed and after a 401.

    However many streams need it at the same time, the function runs once; when that one run fails
    or is cancelled, the next in line runs it again. What it raises reaches the caller unchanged.
    """

    def __init__(self, provider: Callable[[], Awaitable[str | SecretStr]]) -> None:
        self._provider = provider
        self._current: BearerAuth | None = None
        self._fetching = Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'empty' if self._current is None else '**********'})"

    async def headers(self) -> Mapping[str, str]:
        """The Authorization header, with the token; fetches it if there is none yet."""
        current = self._current
        if current is None:
            async with self._fetching:
                current = self._current or await self._fetch()
        return await current.headers()

    async def refresh(self, rejected: Mapping[str, str]) -> bool:
        """Fetch another token, unless another request has replaced the rejected one already."""
        async with self._fetching:
            if self._current is None or await self._current.headers() == rejected:
                await self._fetch()
        return True

    async def _fetch(self) -> BearerAuth:
        token = await self._provider()
        if not isinstance(token, str | SecretStr):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the token provider must return a str, not {type(token).__name__}")
        self._current = BearerAuth(token)
        return self._current
