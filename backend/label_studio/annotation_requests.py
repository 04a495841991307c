"""The part of the Label Studio client that reads, submits and deletes annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from everylabel.backend.label_studio.connection import Connection
from everylabel.backend.label_studio.errors import RequestRefusedError


class AnnotationRequests(Connection):
    """Requests for annotations, each with the token's owner as its annotator."""

    def annotate(self, task_id: int, result: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """Submit an annotation."""
        return self.request_object(
            "POST", f"/api/tasks/{task_id}/annotations/", json={"result": result, **fields}
        )

    def annotate_once(
        self, task_id: int, result: list[dict[str, Any]], unique_id: str, **fields: Any
    ) -> dict[str, Any] | None:
        """Submit an annotation under an id of ours; None if Label Studio has one with this id already.

        Args:
            task_id: The task.
            result: The annotation's result.
            unique_id: A UUID, which Label Studio never shows again.
            fields: Further fields, such as `lead_time`.
        """
        try:
            return self.annotate(task_id, result, unique_id=unique_id, **fields)
        except RequestRefusedError as error:
            if error.status == httpx.codes.CONFLICT:
                return None
            raise

    def task_annotations(self, task_id: int) -> list[dict[str, Any]] | None:
        """Return the annotations of a task, skips left out; None if the task is gone."""
        path = f"/api/tasks/{task_id}/annotations/"
        response = self.request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return list(self.decode(response, "GET", path))

    def create_annotations(self, project_id: int, task_ids: Sequence[int], model_version: str) -> None:
        """Turn these tasks' predictions of a version into annotations, in bulk (8 ms each).

        Their `result` stays as it is, `origin` and `meta` too. A prediction that already has an annotation is
        skipped.
        """
        self.request_object(
            "POST",
            "/api/dm/actions/",
            params={"id": "predictions_to_annotations", "project": project_id},
            json={
                "selectedItems": {"all": False, "included": list(task_ids)},
                "model_version": model_version,
            },
        )

    def annotation(self, annotation_id: int) -> dict[str, Any] | None:
        """Return one annotation; None if it is gone."""
        path = f"/api/annotations/{annotation_id}/"
        response = self.request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self.decode(response, "GET", path))

    def change_annotation(self, annotation_id: int, result: Sequence[object]) -> dict[str, Any]:
        """Give an annotation another result; whose it is stays as it is."""
        return self.request_object(
            "PATCH", f"/api/annotations/{annotation_id}/", json={"result": list(result)}
        )

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation (150 ms); nothing happens if it is already gone."""
        self.request("DELETE", f"/api/annotations/{annotation_id}/", missing_ok=True)
