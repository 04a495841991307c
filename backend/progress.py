"""How long work tells how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is done, how much of it, out of how much)."""
