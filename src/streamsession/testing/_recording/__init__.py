"""Recordings of live streams: made once against the real API, played in every test."""

from ._record import record
from ._replay import replay
from ._secrets import SecretFound

__all__ = ["SecretFound", "record", "replay"]
