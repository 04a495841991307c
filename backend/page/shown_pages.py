"""Pages of crops as the browser gets them, and what became of the labels of earlier ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import url_for

from everylabel.backend.label_studio import label_config
from everylabel.backend.store.label_pages import SUSPECTS
from everylabel.backend.store.page_labels import TO_DO

if TYPE_CHECKING:
    from everylabel.backend.label_pages.pages import Pages
    from everylabel.backend.store import LabelPage, PageLabel, Person, Store

TROUBLE_SECONDS = 12 * 3600.0
"""How long a person is told of labels of theirs that did not become annotations."""
TROUBLE_SHOWN = 24
TEXT_SHOWN = 1200


class ShownPages:
    """Pages of crops as the browser gets them.

    Args:
        store: Knows tasks, and what became of labels.
        pages: Know what is suggested instead of a suspect label.
        task_address: Returns the address of a task in Label Studio, given the project and the task.
    """

    def __init__(self, store: Store, pages: Pages, task_address: Callable[[int, int], str]) -> None:
        self._store = store
        self._pages = pages
        self._task_address = task_address

    def sending(self, project_id: int, person: Person) -> dict[str, Any]:
        """Return which of a person's labels are on their way, and which did not become annotations."""
        trouble = self._store.troubled_labels(project_id, person.id, time.time() - TROUBLE_SECONDS)
        return {
            "waiting": self._store.count_labels(project_id, person.id, TO_DO),
            "trouble": [self._told(project_id, label) for label in reversed(trouble[-TROUBLE_SHOWN:])],
        }

    def _told(self, project_id: int, label: PageLabel) -> dict[str, Any]:
        return {
            "task": label.task_id,
            "label": label.label,
            "state": label.state,
            "reason": label.reason,
            "address": self._task_address(project_id, label.task_id),
        }

    def page(self, page: LabelPage) -> dict[str, Any]:
        """Return a page of crops, and the crop they were chosen by; of several classes a crop, labels are lists."""
        like = page.like
        shown = page.tasks if like is None else (*page.tasks, like)
        tasks = {task.id: task for task in self._store.tasks(page.project_id, shown)}
        suspect = self._pages.suggested(page) if page.kind == SUSPECTS else {}
        urls = {id_: task.image_url or "" for id_, task in tasks.items()}
        control = self._pages.control(page.project_id)

        def shown_as(label: str | None) -> str | list[str] | None:
            return list(control.names(label)) if label is not None and control.multiple else label

        def crop(id_: int, label: str | None) -> dict[str, Any]:
            return {
                "task": id_,
                "label": shown_as(label),
                "text": (label_config.text_of(urls.get(id_, "")) or "")[:TEXT_SHOWN] or None,
                "picture": url_for("page.crop", project_id=page.project_id, task_id=id_, size="large"),
                "address": self._task_address(page.project_id, id_),
            }

        return {
            "id": page.id,
            "kind": page.kind,
            "class_name": page.class_name,
            "like": None if like is None else crop(like, self._pages.label_of_like(page)),
            "crops": [
                {
                    **crop(id_, page.preset.get(id_)),
                    "given": shown_as(given),
                    "suggested": shown_as(suggested),
                }
                for id_ in page.tasks
                for given, suggested in [suspect.get(id_, (None, None))]
            ],
        }
