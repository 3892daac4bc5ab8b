"""JSON texts: written, read, and told from their beginnings. No I/O."""

from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json
from typing_extensions import TypeIs

from ._errors import InvalidRequest

__all__ = ["as_adapter", "encode_json", "encode_text", "is_cut_short", "is_object", "parse_json"]

T = TypeVar("T")


def as_adapter(kind: TypeAdapter[T] | type[T]) -> TypeAdapter[T]:
    """What validates JSON as a type."""
    return kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)


def encode_json(value: Any) -> bytes:
    """A JSON body from anything JSON-able; Pydantic models go by their aliases.

    Raises:
        InvalidRequest: Some part of it has no JSON form.
    """
    try:
        body = to_json(value, by_alias=True)
        if b"NaN" in body or b"Infinity" in body:
            from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidRequest(f"json= cannot be sent: {exc}") from exc
    return body


def encode_text(text: str) -> bytes:
    """A body from text.

    Raises:
        InvalidRequest: It holds half a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"content= cannot be sent: {exc.reason}") from None


def is_cut_short(text: Any) -> bool:
    """Whether it is the beginning of a JSON text, but not a whole one."""
    if not isinstance(text, str | bytes) or not text.strip():
        return False
    try:
        from_json(text)
    except ValueError as exc:
        return "EOF while parsing" in str(exc)
    return False


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; None if it is none."""
    try:
        return from_json(text)
    except ValueError:
        return None


def is_object(value: object) -> TypeIs[dict[str, Any]]:
    """Whether a parsed value is a JSON object."""
    return isinstance(value, dict)
