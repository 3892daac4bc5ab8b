"""A new SDK from the template in this folder, and later what is new in the template.

Knows nothing of the core, which it copies as text. Copier is needed only when a command is run.
"""

from ._commands import prepare_new, prepare_update

__all__ = ["prepare_new", "prepare_update"]
