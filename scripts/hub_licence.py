"""Say the licence of a model from a hub before it is downloaded and used."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from everylabel.model import encoders
from everylabel.scripts.console import console


def say_licence(encoder: str, on: Console = console) -> None:
    """Print the licence that the model card of a `hf:` encoder names; of any other encoder nothing."""
    licence = encoders.hub_licence(encoder)
    if licence is not None:
        on.print(f"Licence of {escape(encoder)}: {escape(licence)}.", highlight=False, soft_wrap=True)
