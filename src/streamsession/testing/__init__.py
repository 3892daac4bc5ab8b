"""A test kit for streaming clients: exact bytes over real sockets, without sleeping.

`ScriptedServer` plays `ScriptedResponse`s, whose steps are bytes, a `Pause`, a `Gate` that the test
opens, and the ways a response can end badly. `sse` and `json_lines` build bodies, `every_split`
cuts them, and `mock_stream` plays steps without a server. `record` keeps what a real server sent in
a file, and `replay` makes responses of it. The pytest fixtures are in
`streamsession.testing.fixtures`. All that tests any client.

`SessionContract` tests a session of this package: subclass it for yours.
"""

from ._builders import chunks_of, every_split, json_array, json_lines, json_seq, sse, sse_event
from ._connection import ConnectionRecord
from ._contract import BrokenPromise, SessionContract
from ._event_stream import event_stream, event_stream_message
from ._mock import MockStream, mock_stream
from ._recording import SecretFound, record, replay
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
    "BrokenPromise",
    "ConnectionRecord",
    "Ending",
    "Gate",
    "MockStream",
    "Pause",
    "RecordedRequest",
    "ScriptedResponse",
    "ScriptedServer",
    "SecretFound",
    "SessionContract",
    "Step",
    "chunks_of",
    "event_stream",
    "event_stream_message",
    "every_split",
    "json_array",
    "json_lines",
    "json_seq",
    "mock_stream",
    "record",
    "replay",
    "sse",
    "sse_event",
]
