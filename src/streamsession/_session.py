"""The session: an SDK's client class, guarding a connection pool and opening streams on it."""

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import EllipsisType
from typing import Any, ClassVar, Generic, Unpack, get_args, get_origin, overload

from pydantic import SecretStr, TypeAdapter
from typing_extensions import TypeVar, get_original_bases

from ._auth import BearerAuth, HeaderAuth
from ._clocks import Timeouts
from ._errors import DecodeError, InvalidRequest, RemoteError
from ._events import Done, EventT, Reply, TokenEvent, UnknownEvent
from ._framing import DEFAULT_MAX_EVENT_BYTES, Decoder, SSEDecoder
from ._framing._json_body import JSONBodyDecoder
from ._guard import Guard
from ._http import Auth, HTTPClient, Limits, Pool, Transport
from ._json import as_adapter, encode_json, encode_text
from ._plan import Plan, StreamOptions, how_to_end
from ._reports import reported_error
from ._request import Request, check_base_url, check_headers
from ._retry import RetryPolicy
from ._stream import Stream
from ._validate import EventIterator, EventReader
from ._version import __version__

__all__ = ["AsyncSession"]

T = TypeVar("T")


class AsyncSession(Guard, Generic[EventT]):
    """A guarded connection pool that streams typed events; subclass it for an API.

    `class Acme(AsyncSession[Token | Done])` says once what a stream yields; class attributes say
    how the API behaves, and a method over `open_stream` gives each endpoint its signature::

        async with Acme(api_key="...") as session:
            async for event in session.stream("Hello"):
                ...

    Every class attribute here that has a constructor parameter of the same name is its default.
    Leaving the block, however that happens, ends every stream still open, awaits `disconnect`, and
    closes the pool. A session is entered once; it may be shared by the tasks within.
    """

    base_url: str = ""
    """What the paths of requests are appended to."""
    headers: Mapping[str, str] = {}
    """Sent with every request."""
    api_key_header: ClassVar[str | None] = None
    """The header that carries `api_key`; None sends `Authorization: Bearer`."""
    session_id_header: ClassVar[str | None] = None
    """The header that carries `id`; None keeps it to the logs."""
    idempotency_header: ClassVar[str | None] = None
    """The header that carries one fresh key in all attempts of a request; None sends none."""
    request_id_headers: ClassVar[tuple[str, ...]] = ("x-request-id", "request-id")
    """Where the server names its id of a response; the first one present counts."""

    framing: ClassVar[type[Decoder[Any]]] = SSEDecoder
    """How the body is cut into frames; the class of a `Decoder`."""
    content_types: ClassVar[tuple[str, ...]] = ()
    """The media types accepted besides those of the framing."""
    final_events: ClassVar[tuple[type[Any], ...] | None] = (Done,)
    """The events that prove a stream complete; None if a clean end of the body is the only sign."""
    final_marker: ClassVar[str | None] = None
    """The payload that proves a stream complete, such as "[DONE]"; it is no event."""
    resumable: ClassVar[bool] = False
    """Whether a broken stream goes on after `Last-Event-ID`; see `resume_request`."""

    timeout: Timeouts = Timeouts()
    """How long to wait for the server."""
    retry: RetryPolicy = RetryPolicy()
    """What is tried again, how often and when."""
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES
    """The largest event, in bytes; a larger one is `EventTooLarge`."""
    keep_reply: bool = True
    """False for streams without an end: `Stream.reply` and errors then keep no events."""
    limits: Limits | None = None
    """The size of the pool, as `httpx.Limits`; None is 1000 connections, 20 of them idle.

    With a transport, `max_connections` is how many requests are under way at once.
    """

    _event_type: ClassVar[Any] = TokenEvent
    _reader: ClassVar[EventReader[Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the event type, and with it check that its members can be told apart."""
        super().__init_subclass__(**kwargs)
        if isinstance(cls.final_events, type):
            raise TypeError(f"{cls.__name__}.final_events is a tuple: write (LastEvent,)")
        event_type = cls._declared_event_type()
        if event_type is None:
            return
        cls._event_type = event_type
        is_open = isinstance(event_type, TypeVar)  # a generic base, whose subclasses name it
        cls._reader = None if is_open else EventReader(TypeAdapter(event_type))
        if not is_open and cls.final_events is AsyncSession.final_events:
            cls.final_events = ()  # which are of another type

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        auth: Auth | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        transport: Transport | None = None,
        http_client: HTTPClient | None = None,
        max_event_bytes: int | None = None,
        keep_reply: bool | None = None,
    ) -> None:
        """Nothing is opened yet: that is what entering does.

        Args:
            base_url: What the paths of requests are appended to; at last, that of `http_client`.
            api_key: A secret, sent as `api_key_header` says.
            auth: Other credentials, instead of `api_key`: a `Credentials` or an `httpx.Auth`.
            headers: Sent with every request, over those of the class.
            timeout: How long to wait for the server.
            retry: What is tried again, how often and when.
            limits: The size of the pool.
            transport: Carries the requests of the session's own client; closed with it. There are
                `streamsession.aiohttp.AiohttpTransport` and `streamsession.http2.HTTP2Transport`.
            http_client: Used instead of a client of its own, with its own settings; never closed.
            max_event_bytes: The largest event, in bytes.
            keep_reply: Whether streams keep their events for `reply` and errors.

        Raises:
            InvalidRequest: The base URL or a header cannot be used.
            ValueError: Two arguments exclude each other.
        """
        if api_key is not None and not _revealed(api_key):
            raise ValueError("api_key is empty: is the environment variable set?")
        if api_key is not None and auth is not None:
            raise ValueError("pass api_key= or auth=, not both")
        if http_client is not None and (transport is not None or limits is not None):
            raise ValueError("http_client= has a transport and limits of its own: pass only it")
        super().__init__()
        if base_url is None:
            base_url = self.base_url or str(getattr(http_client, "base_url", ""))
        self.base_url = check_base_url(base_url)
        self.headers = check_headers({**self.headers, **(headers or {})})
        self.timeout = timeout or self.timeout
        self.retry = retry or self.retry
        self.max_event_bytes = self.max_event_bytes if max_event_bytes is None else max_event_bytes
        if self.max_event_bytes < 1:
            raise ValueError("max_event_bytes must be 1 or more")
        self.keep_reply = self.keep_reply if keep_reply is None else keep_reply
        if api_key is not None:
            name = self.api_key_header
            auth = BearerAuth(api_key) if name is None else HeaderAuth(name, api_key)
        # A client that was handed in says itself who it is.
        own = {} if http_client else {"user-agent": f"streamsession/{__version__}"}
        if self.session_id_header is not None:
            own |= check_headers({self.session_id_header: self.id})
        self._pool = Pool(
            base_url=self.base_url,
            headers={**own, **self.headers},
            auth=auth,
            limits=limits or self.limits,
            transport=transport,
            new_transport=_new_transport,
            client=http_client,
            request_id_headers=self.request_id_headers,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state} id={self.id} base_url={self.base_url!r}>"

    # What a subclass may redefine

    def stream(self, *args: Any, **kwargs: Any) -> Stream[EventT]:
        """A stream of the API's main endpoint; here the same as `open_stream`.

        A subclass gives it the signature of its API. It returns at once and sends nothing.
        """
        return self.open_stream(*args, **kwargs)

    def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[EventT | UnknownEvent]:
        """Make events of frames; here each frame is validated as one event.

        For protocols that need more, write an async generator with local variables for its state.
        Returning from it says that the stream is complete; running off the end of the frames says
        that the server hung up. Frames are `ServerSentEvent`s, or the `bytes` of a JSON line. An
        event of `final_events` proves the stream complete wherever it comes from.
        """
        return EventIterator(
            frames,
            reader=self._event_reader(),
            remote_error=self._own_remote_error,
            final_events=self.final_events or (),
            final_marker=self.final_marker,
        )

    def read(
        self, frames: AsyncIterator[Any], wire: TypeAdapter[T]
    ) -> AsyncIterator[T | UnknownEvent]:
        """Frames as objects of the wire, for a `decode` that makes its events of these.

        They are read as in a session that yields them itself: by their type, `remote_error` is
        raised, and `final_marker` ends them. Yield an `UnknownEvent` on, for it to be counted.
        """
        return EventIterator(
            frames,
            reader=_reader_for(wire),
            remote_error=self._own_remote_error,
            final_events=(),
            final_marker=self.final_marker,
        )

    def remote_error(self, frame: Any) -> RemoteError | None:
        """The failure that a frame reports; None if it reports none and is to be decoded.

        Known here are an SSE event named `error`, an object with an `error` member, and messages of
        the AWS event stream that are exceptions or errors.
        """
        return reported_error(frame)

    def resume_request(
        self, request: Request, reply: Reply[EventT], last_event_id: str
    ) -> Request | None:
        """The request that goes on where a stream broke; None if the API cannot.

        Here: the same request with `Last-Event-ID`, if `resumable`
        (https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header).
        An API with a cursor of its own returns `dataclasses.replace(request, params=...)`.

        Args:
            request: The first request of the stream.
            reply: What was handed over before it broke; nothing if `keep_reply` is False.
            last_event_id: The last one the server gave; "" if it gave none.
        """
        if not self.resumable or not last_event_id:
            return None
        try:
            return replace(request, headers={**request.headers, "last-event-id": last_event_id})
        except InvalidRequest:  # the server chose an id that no header can carry
            return None

    # What a subclass calls

    @overload
    def open_stream(
        self, method: str, path: str, *, events: None = None, **options: Unpack[StreamOptions]
    ) -> Stream[EventT]: ...

    @overload
    def open_stream(
        self, method: str, path: str, *, events: TypeAdapter[T], **options: Unpack[StreamOptions]
    ) -> Stream[T]: ...

    def open_stream(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: str | bytes | AsyncIterable[bytes] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        events: TypeAdapter[Any] | None = None,
        framing: type[Decoder[Any]] | None = None,
        final_events: tuple[type[Any], ...] | EllipsisType | None = ...,
        timeout: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> Stream[Any]:
        """A stream from one endpoint; returns at once, sends nothing before it is read.

        Args:
            method: The HTTP method.
            path: Appended to `base_url`.
            json: The body: anything JSON-able, Pydantic models included; None sends none.
            content: The body as it is, instead of `json`. An async iterable is sent only once, so
                that such a request is never tried again.
            params: Query parameters; no place for secrets: httpx logs URLs.
            headers: Sent with this request, over the session's.
            events: The type of this endpoint's events, if not the session's; `decode` is not asked.
            framing: How this body is cut into frames, if not as the session says.
            final_events: What proves this stream complete, if not what the session says.
            timeout: How long to wait for the server, if not as the session says.
            retry: What is tried again, if not as the session says.

        Raises:
            InvalidRequest: The request cannot be sent as given.
        """
        if events is not None and not isinstance(events, TypeAdapter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("events= takes a TypeAdapter: write events=TypeAdapter(Token | Done)")
        reader = self._event_reader() if events is None else _reader_for(events)
        finals = self.final_events if isinstance(final_events, EllipsisType) else final_events
        if events is not None and isinstance(final_events, EllipsisType):
            finals = ()
        custom = events is None and type(self).decode is not AsyncSession.decode
        validate = partial(
            EventIterator[Any],
            reader=reader,
            remote_error=self._own_remote_error,
            final_events=finals or (),
            final_marker=self.final_marker,
        )
        overridden = type(self).resume_request is not AsyncSession.resume_request
        resumable = self.resumable or overridden
        framing = framing or self.framing
        accepted = framing.content_types
        sent = {"accept": ", ".join(accepted), "accept-encoding": "identity"}
        if json is not None:
            if content is not None:
                raise InvalidRequest("pass json= or content=, not both")
            sent["content-type"] = "application/json"
            content = encode_json(json)
        if self.idempotency_header is not None:
            sent |= check_headers({self.idempotency_header: os.urandom(16).hex()})
        return Stream(
            Plan(
                session_id=self.id,
                pool=self._pool,
                request=Request(
                    method,
                    path,
                    params=params or {},
                    headers=headers or {},
                    content=encode_text(content) if isinstance(content, str) else content,
                ),
                headers=sent,
                framing=framing,
                content_types=(*accepted, *self.content_types),
                decode=self.decode if custom else validate,
                validates=not custom,
                final_events=finals or (),
                clean_end_completes=finals is None and self.final_marker is None,
                how_to_end=how_to_end(finals, self.final_marker, custom=custom),
                keeps_unknown=reader.keeps_unknown,
                keep_reply=self.keep_reply,
                timeouts=timeout or self.timeout,
                retry=retry or self.retry,
                resumable=resumable,
                resume=self.resume_request,
                max_event_bytes=self.max_event_bytes,
                close_timeout=self.close_timeout,
                on_start=self._on_start,
                on_end=self._exchanges.discard,
            )
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        result: TypeAdapter[T] | type[T],
        **options: Unpack[StreamOptions],
    ) -> T:
        """The answer of an endpoint that does not stream, validated as `result`.

        It has the clocks, retries, limits and errors of a stream whose only event is the body. A
        body that is empty, as of 204, is taken for `null`.

        Args:
            method: The HTTP method.
            path: Appended to `base_url`.
            result: The type of the answer: a class, or a `TypeAdapter` for any other type.
            options: As for `open_stream`.

        Raises:
            StreamError: It failed; the children of it say how.
        """
        options = {"framing": JSONBodyDecoder, "final_events": None, **options}
        stream = self.open_stream(method, path, events=as_adapter(result), **options)
        del options  # there are tools that show local variables with a traceback
        async with stream:
            async for answer in stream:
                return answer
        raise DecodeError(f"the answer is of a type that {result!r} does not know")

    @property
    def _own_remote_error(self) -> Callable[[Any], RemoteError | None] | None:
        is_own = type(self).remote_error is not AsyncSession.remote_error
        return self.remote_error if is_own else None

    @classmethod
    def _event_reader(cls) -> EventReader[EventT]:
        reader = cls._reader or EventReader(TypeAdapter(cls._event_type))
        cls._reader = reader
        return reader

    @classmethod
    def _declared_event_type(cls) -> Any:
        """The event type that this class gives its generic parent; None if it gives none."""
        for base in get_original_bases(cls):
            origin = get_origin(base)
            if origin is AsyncSession:
                return get_args(base)[0]
            # A generic subclass passes its own variable on; which one, it has kept itself.
            parameters: tuple[Any, ...] = getattr(origin, "__parameters__", ())
            passed_on = getattr(origin, "_event_type", None)
            if passed_on in parameters:
                return get_args(base)[parameters.index(passed_on)]
        return None


def _new_transport(limits: Limits) -> Transport:
    from ._transport import HTTPTransport  # noqa: PLC0415 - loads httpcore, as late as httpx does

    return HTTPTransport(limits)


def _revealed(secret: str | SecretStr) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


_reader_for = lru_cache(maxsize=128)(EventReader[Any])
