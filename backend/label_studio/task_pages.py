"""Task pages of Label Studio's Data Manager: conditions on tasks, and reading all tasks that meet them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from everylabel.backend.label_studio.connection import Connection
from everylabel.backend.label_studio.errors import LabelStudioError

PAGE_SIZE = 500
"""Of 1,000 uploaded images a page, Label Studio 1.23.2 on SQLite fails (500, expression tree too large)."""
ANNOTATED = {
    "filter": "filter:tasks:annotations_ids",
    "operator": "greater",
    "type": "Number",
    "value": 0,
}
"""Tasks that a person has annotated or skipped, by the annotations themselves.

Label Studio counts a task's annotations in a step after saving one: killed in between, it keeps a task with an
annotation and a count of 0 for good.
"""
NOT_ANNOTATED = {
    "filter": "filter:tasks:annotations_ids",
    "operator": "empty",
    "type": "List",
    "value": True,
}
"""Tasks without annotations, by the annotations themselves."""


def condition(field: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    """Return one condition of a Data Manager query."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def all_of(*conditions: dict[str, Any]) -> dict[str, Any]:
    """Return a Data Manager query's filters: tasks that meet every condition.

    As conditions side by side: a condition within another (`child_filter`) is ignored before 1.21.
    """
    return {"conjunction": "and", "items": list(conditions)}


def read_pages(
    connection: Connection,
    project_id: int,
    fields: str,
    conditions: Sequence[dict[str, Any]],
    progress: Callable[[int, int], None] | None,
    after: int = 0,
) -> Iterator[dict[str, Any]]:
    """Read tasks that meet all conditions by rising id, each page from where the last one ended.

    Pages by number would skip a task for each one that leaves an earlier page meanwhile.
    """
    params = {"project": project_id, "page_size": PAGE_SIZE, "fields": fields, "page": 1}
    read, last, left = 0, after, 1
    while left > 0:
        query = json.dumps({"filters": all_of(*conditions, condition("id", "greater", "Number", last))})
        answer = connection.request_object(
            "GET", "/api/tasks/", "tasks", "total", params={**params, "query": query}
        )
        tasks = answer["tasks"]
        if not tasks:
            return
        yield from tasks
        read, left = read + len(tasks), int(answer["total"]) - len(tasks)
        if progress is not None:
            progress(read, read + left)
        before, last = last, int(tasks[-1]["id"])
        if last <= before:
            raise LabelStudioError(
                f"Label Studio gave tasks up to {last} when asked for those after {before}. Is it 1.20.0 or later?"
            )
