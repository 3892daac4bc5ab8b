"""The framings that few APIs send; loaded when a name of theirs is first used."""

from ._event_stream import EventStreamDecoder
from ._json_array import JSONArrayDecoder
from ._json_seq import JSONSeqDecoder

__all__ = ["EventStreamDecoder", "JSONArrayDecoder", "JSONSeqDecoder"]
