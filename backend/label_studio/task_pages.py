"""Task pages of Label Studio's Data Manager: conditions on tasks, and reading all tasks that meet them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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


def condition(field: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    """Return one condition of a Data Manager query."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _with_larger_ids(last: int, filters: dict[str, Any] | None) -> dict[str, Any]:
    """Return a Data Manager query's filters, limited to tasks with a larger id."""
    larger = condition("id", "greater", "Number", last)
    if filters is None:
        return {"conjunction": "and", "items": [larger]}
    # Whatever joins the conditions, each holds together with its `child_filter`.
    return {**filters, "items": [{**item, "child_filter": larger} for item in filters["items"]]}


def read_pages(
    connection: Connection,
    project_id: int,
    fields: str,
    filters: dict[str, Any] | None,
    progress: Callable[[int, int], None] | None,
    after: int = 0,
) -> Iterator[dict[str, Any]]:
    """Read tasks by rising id, each page from where the last one ended.

    Pages by number would skip a task for each one that leaves an earlier page meanwhile.
    """
    params = {"project": project_id, "page_size": PAGE_SIZE, "fields": fields, "page": 1}
    read, last, left = 0, after, 1
    while left > 0:
        query = json.dumps({"filters": _with_larger_ids(last, filters)})
        answer = connection.request_object(
            "GET", "/api/tasks", "tasks", "total", params={**params, "query": query}
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
                f"Label Studio gave tasks up to {last} when asked for those after {before}. Is it 1.23.2 or later?"
            )
