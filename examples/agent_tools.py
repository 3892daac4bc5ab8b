"""Tools: typed async functions, described to a model by their signatures. No I/O of its own."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import Parameter, getdoc, iscoroutinefunction, signature
from typing import Any, Final, Protocol, TypeAlias

from pydantic import ConfigDict, JsonValue, ValidationError, create_model
from pydantic_core import to_json

from streamsession import ToolCall

ToolFunction: TypeAlias = Callable[..., Awaitable[object]]

_STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Progress(Protocol):
    """Annotate a tool's parameter with it, and await it with anything JSON-able as the tool goes.

    The model knows nothing of the parameter. The call waits until the agent's user has taken the
    event; once the run is being left it does nothing.
    """

    async def __call__(self, progress: JsonValue, /) -> None:
        """Tell it."""
        ...


class ToolError(Exception):
    """What the model is told instead of a result; a tool may raise it to say just this."""


class Tool:
    """A function that a model may call, described by its docstring and its signature.

    `Annotated[int, Field(description=...)]` describes a parameter; pydantic makes the JSON schema.

    Args:
        function: An async function whose parameters are annotated and can be passed by name.
        name: What the model calls it; None is the function's name.

    Raises:
        TypeError: The function is none such.
    """

    def __init__(self, function: ToolFunction, *, name: str | None = None) -> None:
        own_name: str = getattr(function, "__name__", type(function).__name__)
        self.name = name or own_name
        if not iscoroutinefunction(function):
            raise TypeError(f"{self.name} is no async function: a tool would block all others")
        self._function = function
        parameters = signature(function, eval_str=True).parameters.values()
        self._progress = [each.name for each in parameters if each.annotation is Progress]
        fields: dict[str, Any] = {
            each.name: self._field(each) for each in parameters if each.name not in self._progress
        }
        self._arguments = create_model(self.name, __config__=_STRICT, **fields)
        self.parameters = self._arguments.model_json_schema()

    @property
    def definition(self) -> dict[str, Any]:
        """How Chat Completions tell a model of it."""
        about = {"name": self.name, "description": getdoc(self._function) or ""}
        return {"type": "function", "function": {**about, "parameters": self.parameters}}

    def read(self, call: ToolCall) -> dict[str, Any]:
        """The arguments of a call, by name.

        Raises:
            ToolError: They are no JSON object, not whole, or not as the signature says.
        """
        try:
            if call.arguments is not None:
                # From the JSON, not from what was parsed: only there a date may be a string.
                return dict(self._arguments.model_validate_json(call.raw_arguments or "{}"))
            why = "they are not a JSON object"
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
            why = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors)
        schema = to_json(self.parameters).decode()
        raise ToolError(f"{self.name} was not run for its arguments: {why}. Expected: {schema}")

    async def run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """What the function returns: text as it is, anything else as JSON.

        Raises:
            ToolError: The function raised, or what it returned has no JSON form.
        """
        try:
            result = await self._function(**arguments, **dict.fromkeys(self._progress, progress))
            return result if isinstance(result, str) else to_json(result).decode()
        except ToolError:
            raise
        except Exception as exc:
            raise ToolError(f"{type(exc).__name__}: {exc}") from exc

    def _field(self, parameter: Parameter) -> tuple[Any, Any]:
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        if parameter.kind not in by_name or parameter.annotation is Parameter.empty:
            raise TypeError(f"{self.name}: annotate {parameter}, and let it be passed by name")
        default = parameter.default
        return parameter.annotation, ... if default is Parameter.empty else default
