"""What the commands raise."""

__all__ = ["Refused"]


class Refused(Exception):
    """A command cannot be run; the message says why and what to do, in one line."""
