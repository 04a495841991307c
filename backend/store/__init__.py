"""The backend's memory: projects, tasks, annotations, events and rounds in SQL, one module each.

SQLite in WAL mode by default, with webhooks in a database of their own; PostgreSQL if a URL names one.
Embeddings and models are files beside it (`backend/store/files.py`). Every method is one transaction: a crash
leaves all of it or nothing.
"""

from __future__ import annotations

from everylabel.backend.store.annotations import Annotation
from everylabel.backend.store.annotators import Annotator, Annotators
from everylabel.backend.store.asked_next import AskedNext
from everylabel.backend.store.certificates import CertificateRecord, Certificates
from everylabel.backend.store.database import LARGEST_ID, StorageError
from everylabel.backend.store.disagreements import ResolvedDisagreement
from everylabel.backend.store.events import Event, Events
from everylabel.backend.store.fast_pages import FastPages
from everylabel.backend.store.label_pages import LabelPage, LabelPages, Review
from everylabel.backend.store.other_embeddings import OtherEmbeddings
from everylabel.backend.store.page_labels import PageLabel
from everylabel.backend.store.projects import Project, Projects
from everylabel.backend.store.rounds import RoundRecord, RoundRecords
from everylabel.backend.store.sign_ins import Person, PersonTokens, SignIns
from everylabel.backend.store.state import LONG_WAIT_SECONDS, ProjectState, ProjectStates
from everylabel.backend.store.tasks import Task

__all__ = [
    "LARGEST_ID",
    "LONG_WAIT_SECONDS",
    "Annotation",
    "Annotator",
    "CertificateRecord",
    "Event",
    "FastPages",
    "LabelPage",
    "PageLabel",
    "Person",
    "PersonTokens",
    "Project",
    "ProjectState",
    "ResolvedDisagreement",
    "Review",
    "RoundRecord",
    "StorageError",
    "Store",
    "Task",
]


class Store(
    Projects,
    OtherEmbeddings,
    LabelPages,
    Annotators,
    RoundRecords,
    Certificates,
    AskedNext,
    SignIns,
    ProjectStates,
    Events,
):
    """The backend's memory in one SQL database.

    Safe to share between threads; several processes may open the same database.
    """

    def delete_project(self, project_id: int) -> None:
        """Delete a project and everything that belongs to it."""
        # The webhook that told of its deletion goes last: after a crash in between it asks for this again.
        super().delete_project(project_id)
        self.forget_events(project_id)
