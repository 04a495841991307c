"""Set the key that submits a crop in Label Studio: a class's key and Enter, instead of Ctrl and Enter together.

Label Studio keeps hotkeys for each user since 1.21, at `/api/current-user/hotkeys/`. A change replaces all of a
user's own hotkeys, so the others are read and sent along.
"""

from __future__ import annotations

from typing import Any

from everylabel.backend.label_studio.client import LabelStudio

SUBMIT = "annotation:annotation:submit"
"""Label Studio's name of *Submit*: its section, then the action."""
ENTER = {"key": "enter,ctrl+enter", "active": True, "description": "Submit the current annotation"}
"""Enter, and still Ctrl and Enter: a comma stands between two keys that do the same."""
UNDO = "To undo it: Account & Settings, Hotkeys, Submit Annotation."
TOO_OLD = "This Label Studio has no hotkeys of a user's own: they came with 1.21. Submit with Ctrl and Enter."


def submit_with_enter(label_studio: LabelStudio) -> bool:
    """Let Enter submit for the token's user, whose other hotkeys stay.

    Returns:
        Whether Label Studio can do that; before 1.21 it cannot.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    own = label_studio.hotkeys()
    if own is None:
        return False
    if own.get(SUBMIT) != ENTER:
        label_studio.save_hotkeys({**own, SUBMIT: ENTER})
    return True


def submits_with_enter(hotkeys: dict[str, Any] | None) -> bool:
    """Return whether these hotkeys of a user submit with Enter alone."""
    submit = (hotkeys or {}).get(SUBMIT) or {}
    keys = str(submit.get("key", "")).lower().replace(" ", "").split(",")
    return bool(submit.get("active", True)) and "enter" in keys
