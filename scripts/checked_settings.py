"""The settings of a command: those of the environment, or one sentence about the variable that is wrong."""

from __future__ import annotations

from pydantic import ValidationError

from everylabel.backend.settings import Settings
from everylabel.model import encoders, query
from everylabel.scripts.console import fail


def load_settings(**changes: object) -> Settings:
    """Read the settings from the environment, or exit with the variable whose value is invalid.

    Args:
        changes: settings that replace those of the environment, by field name.
    """
    try:
        settings = Settings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        fail(f"A setting has a value it cannot have. {wrong}")
    try:
        encoders.require_known(settings.encoder)
    except ValueError as error:
        fail(f"EVERYLABEL_ENCODER: {error}")
    try:
        query.require_known(settings.strategy or query.DEFAULT)
    except ValueError as error:
        fail(f"EVERYLABEL_STRATEGY: {error}")
    return settings
