"""Make the parts that label pages of crops, and connect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from everylabel.backend.label_pages.likeness import Likeness
from everylabel.backend.label_pages.pages import Pages
from everylabel.backend.label_pages.sending import PageSender
from everylabel.backend.label_pages.sign_in import SignIn
from everylabel.backend.label_pages.sketches import Sketches
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.store import PersonTokens
from everylabel.backend.store.pool_files import PoolFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_pages.crops import LabelsOf
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles

PERSON_SECONDS = 20.0
"""How long a request with a person's own token may take."""


@dataclass(frozen=True)
class LabelPageParts:
    """The parts that label pages of crops."""

    pool_files: PoolFiles
    pages: Pages
    sender: PageSender
    sign_in: SignIn


def make_label_page_parts(
    settings: Settings,
    store: Store,
    files: Callable[[int], ProjectFiles],
    embeddings: Embeddings,
    labels_of: LabelsOf,
) -> LabelPageParts:
    """Make the parts that label pages of crops.

    Args:
        settings: Where Label Studio is, and the folder that holds the tokens of the people who are signed in.
        store: Keeps pages, labels and sign-ins.
        files: Returns a project's files.
        embeddings: The embeddings of each project, which tell how alike crops are.
        labels_of: Returns the label of each of some tasks, given the project, the tasks and the classes.
    """
    tokens, pool_files = PersonTokens(settings.model_dir), PoolFiles(files)
    likeness = Likeness(store, pool_files, embeddings, Sketches(store, embeddings))

    def make_client(token: str) -> LabelStudio:
        return LabelStudio(settings.label_studio_url, token, timeout=PERSON_SECONDS)

    return LabelPageParts(
        pool_files,
        Pages(store, pool_files, likeness, labels_of),
        PageSender(store, tokens, make_client),
        SignIn(store, tokens, make_client),
    )
