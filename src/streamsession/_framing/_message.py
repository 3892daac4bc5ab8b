"""What an AWS event stream is made of. Data only: how it is cut is not known here.

The format: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias
from uuid import UUID

__all__ = ["EventStreamMessage", "HeaderValue"]

HeaderValue: TypeAlias = bool | int | bytes | str | UUID


class EventStreamMessage(NamedTuple):
    """One message as it was sent.

    Attributes:
        headers: By name. An `int` is a byte, short, integer or long, or else a timestamp: that is
            in milliseconds since the epoch.
        payload: What it carries, mostly JSON; b"" if nothing.
    """

    headers: Mapping[str, HeaderValue]
    payload: bytes = b""

    @property
    def message_type(self) -> str:
        """What it is: "event", "exception" or "error", or another word; "" if it does not say."""
        return self._text(":message-type")

    @property
    def event_type(self) -> str:
        """The name of the event, of the exception, or the code of the error; "" if it has none."""
        match self.message_type:
            case "exception":
                return self._text(":exception-type")
            case "error":
                return self._text(":error-code")
            case _:
                return self._text(":event-type")

    @property
    def error_message(self) -> str:
        """What an "error" says for people; "" for others: an "exception" says it in its payload."""
        return self._text(":error-message")

    def _text(self, name: str) -> str:
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""
