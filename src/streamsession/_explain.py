"""What is wrong with some data, in one line. No I/O."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

__all__ = ["errors_of", "explain"]

_MOST_ERRORS = 1000  # each takes a dict, where 2 bytes of JSON may be one


def explain(exc: Exception, tags: frozenset[str] = frozenset()) -> str:
    """The field, what was expected, what came.

    Args:
        exc: What reading the data raised.
        tags: Those of the union that was read, which pydantic puts in front of the field.
    """
    if not isinstance(exc, ValidationError):
        return f"{type(exc).__name__}: {exc}"
    errors = errors_of(exc)
    if not errors:
        return f"{exc.error_count()} fields are not as declared"
    first = errors[0]
    loc = first["loc"][1:] if first["loc"][:1] and first["loc"][0] in tags else first["loc"]
    field = f"field {'.'.join(map(str, loc))!r}: " if loc else ""
    came = "" if first["type"] in ("missing", "json_invalid") else f", got {first['input']!r:.80}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{field}{first['msg']}{came}{more}"


def errors_of(exc: ValidationError) -> list[ErrorDetails]:
    """The errors of a validation; none if they are so many that to list them would take memory."""
    return exc.errors(include_url=False) if exc.error_count() <= _MOST_ERRORS else []
