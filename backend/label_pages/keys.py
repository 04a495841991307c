"""The key of each class on a page: as the labeling config says, or else as Label Studio would give them."""

from __future__ import annotations

from functools import lru_cache

from everylabel.backend.label_studio import label_config

KEYS = "1234567890qwertasdfgzxcvb"
"""The keys that Label Studio gives to classes without one of their own, in this order."""


@lru_cache(maxsize=256)
def class_keys(config: str) -> dict[str, str]:
    """Return the key of each class of a labeling config; a class beyond the keys there are has none.

    Args:
        config: A labeling config that can be read.
    """
    from label_studio_sdk.label_interface import LabelInterface  # noqa: PLC0415 - takes long to load

    control = label_config.parse(config)
    found = next(one for one in LabelInterface(config).controls if one.name == control.from_name)
    attributes = getattr(found, "labels_attrs", None) or {}
    keys: dict[str, str] = {}
    for name in control.classes:
        tag = attributes.get(name)
        key = str((getattr(tag, "attr", None) or {}).get("hotkey", "")).strip().lower()
        if len(key) == 1 and key.isalnum() and key not in keys.values():
            keys[name] = key
    free = [key for key in KEYS if key not in keys.values()]
    keys |= dict(zip((name for name in control.classes if name not in keys), free, strict=False))
    return {name: keys[name] for name in control.classes if name in keys}
