"""A test kit for streaming clients: exact bytes over real sockets, without sleeping.

`ScriptedServer` plays `ScriptedResponse`s, whose steps are bytes, a `Pause`, a `Gate` that the test
opens, and the ways a response can end badly. `sse` and `json_lines` build bodies, `every_split`
cuts them, and `mock_stream` plays steps without a server. The pytest fixtures are in
`streamsession.testing.fixtures`.

Nothing here needs the rest of this package: it tests any client.
"""

from ._builders import chunks_of, every_split, json_lines, sse, sse_event
from ._connection import ConnectionRecord
from ._mock import MockStream, mock_stream
from ._script import (
    HANG_UP,
    HOLD,
    RESET,
    Answer,
    Ending,
    Pause,
    RecordedRequest,
    ScriptedResponse,
    Step,
)
from ._server import ScriptedServer
from ._waiting import Gate

__all__ = [
    "HANG_UP",
    "HOLD",
    "RESET",
    "Answer",
    "ConnectionRecord",
    "Ending",
    "Gate",
    "MockStream",
    "Pause",
    "RecordedRequest",
    "ScriptedResponse",
    "ScriptedServer",
    "Step",
    "chunks_of",
    "every_split",
    "json_lines",
    "mock_stream",
    "sse",
    "sse_event",
]
