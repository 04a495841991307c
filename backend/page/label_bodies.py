"""The bodies of the requests that label on the page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, SecretStr
from pydantic_core import PydanticCustomError

from everylabel.backend.label_studio.request_bodies import RequestBody

MOST_CHARACTERS = 4000
MOST_SELECTED = 2000
MOST_WORDS = 400
"""Characters of a search: text towers read 64 or 77 tokens."""
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
PageId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
TaskKey = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _label(value: object) -> str | list[str]:
    """Return a label as it was sent: a class, or a list of several.

    Raises:
        ValueError: It is a list of something else, names a class twice or none at all.
    """
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and len(name) <= MOST_CHARACTERS for name in names):
        raise PydanticCustomError("no_label", "It is no label.")
    if isinstance(value, list) and not 0 < len({*names}) == len(names):
        raise ValueError(
            "A list of classes in 'labels' names each class once, and at least one. A crop without a class is left out of "
            "'labels'."
        )
    return value  # type: ignore[return-value]


Label = Annotated[str | list[str], PlainValidator(_label)]


class SignInBody(RequestBody):
    """A person's token."""

    token: SecretStr


class GiveBody(RequestBody):
    """A wish for a page."""

    kind: Text
    class_name: Text | None = None
    like: TaskKey | None = None
    """The task whose crop the crops of the page are most similar to."""
    selected: Annotated[list[TaskKey], Field(max_length=MOST_SELECTED, default_factory=list)]
    """The tasks that somebody has selected on the map."""
    words: Annotated[str, Field(max_length=MOST_WORDS)] | None = None
    """What the crops of the page show, as somebody has typed it."""
    resume: PageId | None = None
    """A page that the browser was on before it was loaded again."""


class GiveBackBody(RequestBody):
    """Pages that a person does not label now."""

    pages: Annotated[list[PageId], Field(max_length=100)]


class UndoBody(RequestBody):
    """A wish to have the last page once more."""

    page: PageId | None = None
    """The id that the page is to have: sent again after a lost answer, it takes back no second page."""


class AskNextBody(RequestBody):
    """Crops to ask for next."""

    tasks: Annotated[list[TaskKey], Field(max_length=100)]
    withdraw: bool = False
    """They are to be asked for no more."""


class ConfirmBody(RequestBody):
    """The labels of a page."""

    labels: Annotated[dict[TaskKey, Label], Field(max_length=200)]
    """By task: a class, or a list of them where a crop may have several. A task that is missing stays unlabelled."""
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
