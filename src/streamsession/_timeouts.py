"""How long to wait for the server. Arithmetic only: no I/O, no clock."""

from dataclasses import dataclass, fields

__all__ = ["Timeouts"]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """The four clocks of a request, in seconds; None never runs out.

    They count waiting for the server, never the consumer's own time between two events.

    Attributes:
        connect: To reach the server: TCP, then TLS. A failure here is tried again.
        first_event: From the start of an attempt, waiting for a free connection included, to its
            first event. Models that think before they answer need minutes.
        idle: From one event to the next. Comments, pings and parts of an event do not feed it.
        total: All the waiting of a stream, its retries and the waits between them included.
    """

    connect: float | None = 10.0
    first_event: float | None = 300.0
    idle: float | None = 120.0
    total: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no time to wait."""
        for field in fields(self):
            seconds = getattr(self, field.name)
            if seconds is not None and not seconds > 0:
                raise ValueError(
                    f"Timeouts.{field.name} must be more than 0 seconds, or None for no limit; "
                    f"got {seconds!r}"
                )
