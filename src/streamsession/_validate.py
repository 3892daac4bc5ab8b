"""From frame to event: decides by the discriminator, straight from the bytes. No I/O, no clock."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Generic, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypeIs

from ._errors import DecodeError, RemoteError
from ._events import EventT, UnknownEvent
from ._explain import errors_of, explain
from ._framing import payload_of, payloads_of
from ._json import is_object, parse_json
from ._reports import ERROR_MENTION, reported_error

__all__ = ["EventIterator", "EventReader"]


_OWN_KINDS: Final = ("call", "function-", "generator")  # the last is read only once
_OWN_CODE: Final = ("custom_init", "default_factory", "post_init")
_ASIDE: Final = frozenset({"computed_fields", "metadata", "serialization"})


class EventReader(Generic[EventT]):
    """Makes events of one declared type from payloads.

    A union of models is decided by the field that is a `Literal` in each of them, `type` by custom;
    where the JSON lacks it, the type that the framing named stands in.

    Raises:
        TypeError: The union's members have no such field, so that one could pass for another.
    """

    def __init__(self, adapter: TypeAdapter[EventT]) -> None:
        members = list(dict.fromkeys(_members(adapter.core_schema, {})))
        known = [each for each in members if each is not None and each is not UnknownEvent]
        self.keeps_unknown = UnknownEvent in members
        self._tags: frozenset[str] = frozenset()
        self._key = ""
        self._is_union = len(known) > 1
        validator = adapter.validator
        found = None if None in members else _discriminator(known)
        if found is not None:
            name, self._key, self._tags = found
            if len(members) > 1:
                union: Any = Union[tuple(known)]  # noqa: UP007 - of as many as there are
                union = Annotated[union, Discriminator(name)] if self._is_union else union
                validator = TypeAdapter[Any](union).validator
        elif len(members) > 1:
            raise TypeError(
                "the events of a stream are models told apart by a field: give "
                f"{', '.join(model.__name__ for model in known)} each a "
                '`type: Literal["..."] = "..."` of its own'
            )
        self.validate: Callable[[str | bytes], EventT] = validator.validate_json
        self.is_repeatable = _is_repeatable(adapter.core_schema)
        mention = f'"{self._key}"'
        self._type_mention: dict[type, Any] = {str: mention, bytes: mention.encode()}

    def mentions_type(self, payload: Any) -> bool:
        """Whether a payload, valid by itself, needs no type that its frame names."""
        return self._is_union and self._type_mention[type(payload)] in payload

    def read(self, payload: str | bytes, name: str = "") -> EventT | UnknownEvent:
        """The event in a payload, or an `UnknownEvent` if its type is none of the declared.

        Args:
            payload: JSON text.
            name: The type that the framing named; "" if it named none.

        Raises:
            DecodeError: It is not JSON or not of its type's shape; the message names the field.
        """
        text = self._named(payload, name) if name and self._key else payload
        try:
            event: EventT = self.validate(text)
        except ValidationError as exc:
            unknown = self._unknown_type(exc, payload, name)
            if unknown is not None:
                data = payload if isinstance(payload, str) else payload.decode(errors="replace")
                return UnknownEvent(type=unknown, data=data)
            reason = explain(exc, self._tags if self._is_union else frozenset())
            raise DecodeError(f"not an event of the stream: {reason}", reason=reason) from exc
        return event

    def _named(self, payload: str | bytes, name: str) -> str | bytes:
        """The object with the framing's name as its first member; its own, later one wins."""
        try:
            text = payload if isinstance(payload, str) else payload.decode()
        except UnicodeDecodeError:
            return payload  # which the validation refuses
        head, brace, rest = text.partition("{")
        if not brace or head.strip(" \t\r\n"):
            return payload
        comma = "" if rest.lstrip().startswith("}") else ","
        return f'{{"{self._key}":{to_json(name).decode()}{comma}{rest}'

    def _unknown_type(self, exc: ValidationError, payload: str | bytes, name: str) -> str | None:
        """The type that made the validation fail, if that is what did."""
        for error in errors_of(exc):
            tag = error["input"]
            if error["type"] == "union_tag_invalid" and not error["loc"]:
                tag = tag.get(self._key)
            elif error["type"] != "literal_error" or error["loc"] != (self._key,):
                tag = None
            if isinstance(tag, str):
                return tag
        if name and self._tags and name not in self._tags and not is_object(parse_json(payload)):
            return name  # what an unknown event carries need not be an object, nor JSON
        return None


def _is_repeatable(schema: Any) -> bool:
    """Whether a text always makes the same event: no code of the models' own takes part in it."""
    parts: Iterable[Any] = ()
    if is_object(schema):
        kind = schema.get("type")
        if not isinstance(kind, str):  # fields by their names, or choices by their tags
            parts = schema.values()
        elif kind.startswith(_OWN_KINDS) or any(map(schema.get, _OWN_CODE)):
            return False
        else:
            parts = (part for key, part in schema.items() if key not in _ASIDE)
    elif _is_list(schema):
        parts = schema
    return all(map(_is_repeatable, parts))


def _is_list(value: object) -> TypeIs[list[Any] | tuple[Any, ...]]:
    return isinstance(value, list | tuple)


def _members(schema: Any, definitions: dict[str, Any]) -> Iterator[type[BaseModel] | None]:
    """What a pydantic core schema chooses between; None for all that is not a model."""
    match schema["type"]:
        case "definitions":
            definitions = {each["ref"]: each for each in schema["definitions"]}
            yield from _members(schema["schema"], definitions)
        case "definition-ref":
            yield from _members(definitions[schema["schema_ref"]], definitions)
        case "union":
            for choice in schema["choices"]:
                yield from _members(choice[0] if isinstance(choice, tuple) else choice, definitions)
        case "tagged-union":
            for choice in schema["choices"].values():
                yield from _members(choice, definitions)
        case "model":
            yield schema["cls"]
        case _:
            yield _model_of_its_own_validators(schema)


def _model_of_its_own_validators(schema: Any) -> type[BaseModel] | None:
    """The model within a schema that only its own `model_validator`s wrap; None if others do."""
    wrappers, inner = _unwrapped(schema)
    if inner["type"] != "model":
        return None
    model: type[BaseModel] = inner["cls"]
    return model if _unwrapped(model.__pydantic_core_schema__)[0] == wrappers else None


def _unwrapped(schema: Any) -> tuple[int, Any]:
    """How many validators wrap a schema, and what they wrap."""
    wrappers = 0
    while schema["type"].startswith("function-") and "schema" in schema:
        wrappers, schema = wrappers + 1, schema["schema"]
    return wrappers, schema


def _discriminator(models: list[type[BaseModel]]) -> tuple[str, str, frozenset[str]] | None:
    """The field in which the models differ, its key in JSON, and all its values."""
    names = [name for name in (models[0].model_fields if models else ()) if name != "type"]
    for name in ("type", *names):
        fields = [model.model_fields.get(name) for model in models]
        values = [_literals(field.annotation) if field else () for field in fields]
        tags = frozenset(value for each in values for value in each)
        if models and all(values) and len(tags) == sum(map(len, values)):
            alias = models[0].model_fields[name].validation_alias
            return name, alias if isinstance(alias, str) else name, tags
    return None


def _literals(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is not Literal:
        return ()
    return tuple(value for value in get_args(annotation) if isinstance(value, str))


class EventIterator(AsyncIterator[EventT | UnknownEvent]):
    """Each frame as an event, until the final event or marker: what `AsyncSession.decode` does.

    Not a generator: one that a `decode` leaves early would have to be closed by the event loop.

    Attributes:
        is_complete: Whether the final event or marker has come.
        unknown: How many of the events that `read` returned last are of an unknown type.
        texts: What they are made of; none if some of them are made of more than a text.
    """

    def __init__(
        self,
        frames: AsyncIterator[Any],
        *,
        reader: EventReader[EventT],
        remote_error: Callable[[Any], RemoteError | None] | None,
        final_events: tuple[type[Any], ...],
        final_marker: str | None,
    ) -> None:
        """Read these frames; a `remote_error` of None is `reported_error`."""
        self.is_complete = False
        self.unknown = 0
        self.texts: Sequence[Any] = ()
        self._frames = frames
        self._reader = reader
        self._remote_error = remote_error
        self._final_events = final_events
        self._marker = () if final_marker is None else (final_marker, final_marker.encode())

    @property
    def remake(self) -> Callable[[Any], EventT] | None:
        """Makes the same event of a text once more; None if it may be another."""
        return self._reader.validate if self._reader.is_repeatable else None

    async def __anext__(self) -> EventT | UnknownEvent:
        if self.is_complete:
            raise StopAsyncIteration
        frame = await anext(self._frames)
        payload, name = payload_of(frame)
        if self._is_marker(payload):
            self.is_complete = True
            raise StopAsyncIteration
        if error := (self._remote_error or reported_error)(frame):
            raise error
        event = self._reader.read(payload, name)
        self.is_complete = isinstance(event, self._final_events)
        return event

    def read(self, frames: Sequence[Any]) -> list[EventT | UnknownEvent]:
        """The events in frames that came together, one for each, until the final event.

        The first that is none, whatever it is instead, and all behind it are left out: iterate over
        them, to see what it is.
        """
        self.unknown, self.texts = 0, ()
        events = self._read_plain(frames) if len(frames) > 1 else []
        if events:
            return events
        validate, finals = self._reader.validate, self._final_events
        texts: list[Any] = []
        event: EventT | UnknownEvent | None
        try:
            for frame in frames:
                payload, name = payload_of(frame)
                if self._needs_a_look(payload, name):
                    event = self._judge(frame, payload, name)
                else:
                    try:
                        event = validate(payload)
                        texts.append(payload)
                    except ValidationError:
                        event = self._judge(frame, payload, name)
                if event is None:
                    break
                events.append(event)
                if isinstance(event, finals):
                    self.is_complete = True
                    break
        except Exception:  # noqa: BLE001, S110 - raised again when it is this frame's turn
            pass
        if len(texts) == len(events):
            self.texts = texts
        return events

    def _needs_a_look(self, payload: Any, name: str) -> bool:
        """Whether a frame may be something else than an event whose payload says its own type."""
        if self._remote_error is not None or payload in self._marker:
            return True
        if name and (name == "error" or not self._reader.mentions_type(payload)):
            return True
        return ERROR_MENTION[type(payload)] in payload

    def _read_plain(self, frames: Sequence[Any]) -> list[EventT | UnknownEvent]:
        """The same, at half the cost; nothing if any of the frames needs a closer look."""
        payloads, names = payloads_of(frames)
        if not payloads or self._remote_error is not None or "error" in names:
            return []
        mention = ERROR_MENTION[type(payloads[0])]
        if mention in mention[:0].join(payloads) or any(each in payloads for each in self._marker):
            return []
        if names and not all(map(self._reader.mentions_type, payloads)):
            return []
        try:
            events = [*map(self._reader.validate, payloads)]
        except ValidationError:
            return []
        if any(issubclass(kind, self._final_events) for kind in {*map(type, events[:-1])}):
            return []
        self.is_complete = isinstance(events[-1], self._final_events)
        self.texts = payloads
        return [*events]

    def _judge(self, frame: Any, payload: Any, name: str) -> EventT | UnknownEvent | None:
        """The event in a frame; None if it is none."""
        if self._is_marker(payload) or (self._remote_error or reported_error)(frame):
            return None
        event = self._reader.read(payload, name)
        self.unknown += isinstance(event, UnknownEvent)
        return event

    def _is_marker(self, payload: Any) -> bool:
        return bool(self._marker) and payload == self._marker[isinstance(payload, bytes)]
