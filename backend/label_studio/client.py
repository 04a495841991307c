"""The Label Studio client: everything that everylabel reads from Label Studio and writes into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import httpx

from everylabel.backend.label_studio.annotation_requests import AnnotationRequests
from everylabel.backend.label_studio.task_pages import (
    ANNOTATED,
    NOT_ANNOTATED,
    PAGE_SIZE,
    all_of,
    condition,
    read_pages,
)

IMPORT_SIZE = 1000


class LabelStudio(AnnotationRequests):
    """A Label Studio server, used with one user's token.

    Safe to share between threads. Every method raises `LabelStudioUnreachableError`, `TokenRefusedError` or another
    `LabelStudioError`.
    """

    # --- server and project

    def version(self) -> str:
        """Return Label Studio's own version, such as `1.23.2`."""
        return str(self.request_object("GET", "/api/version/").get("release", "unknown"))

    def users(self) -> list[dict[str, Any]]:
        """Return the users of the token owner's organization, including those who were removed."""
        return self.request_list("GET", "/api/users/")

    def project(self, project_id: int) -> dict[str, Any]:
        """Return a project as Label Studio describes it.

        Raises:
            ProjectNotFoundError: there is none with this id.
        """
        return self.request_object("GET", f"/api/projects/{project_id}/")

    def projects(self) -> list[dict[str, Any]]:
        """Return every project that the token's owner sees."""
        return list(
            self.request_object("GET", "/api/projects/", "results", params={"page_size": 1000})["results"]
        )

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        """Create a project."""
        return self.request_object(
            "POST", "/api/projects/", json={"title": title, "label_config": label_config, **fields}
        )

    def update_project(self, project_id: int, **fields: Any) -> dict[str, Any]:
        """Change a project's settings."""
        return self.request_object("PATCH", f"/api/projects/{project_id}/", json=fields)

    # --- tasks

    def tasks(
        self,
        project_id: int,
        *,
        annotated: bool = False,
        after: int = 0,
        changed_since: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Read a project's tasks by id, page by page.

        Args:
            project_id: the project.
            annotated: only tasks that a person has annotated or skipped, with their annotations; otherwise all tasks,
                without (1.1 ms a task).
            after: only tasks with a larger id.
            changed_since: only tasks that are new, or whose data or annotations have changed, since this time in
                seconds since 1970, by this machine's clock.
            progress: called with (tasks read, tasks in all) after every page.
        """
        items = [ANNOTATED] if annotated else []
        if changed_since is not None:
            there = datetime.fromtimestamp(changed_since - self.clock_lead, timezone.utc)
            since = there.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            items.append(condition("updated_at", "greater", "Datetime", since))
        return read_pages(self, project_id, "all" if annotated else "task_only", items, progress, after)

    def annotated(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """Return those of these tasks, 500 at most, that a person has annotated or skipped."""
        among = condition("id", "in_list", "List", list(task_ids))
        params = {
            "project": project_id,
            "page_size": PAGE_SIZE,
            "fields": "task_only",
            "query": json.dumps({"filters": all_of(ANNOTATED, among)}),
        }
        answer = self.request_object("GET", "/api/tasks/", "tasks", params={**params, "page": 1})
        return {int(task["id"]) for task in answer["tasks"]}

    def update_task(self, task_id: int, **fields: Any) -> dict[str, Any]:
        """Change a task, and none of its annotations (0.2 s)."""
        return self.request_object("PATCH", f"/api/tasks/{task_id}/", json=fields)

    def tasks_among(self, project_id: int, task_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Read those of these tasks that exist, with all their annotations and predictions."""
        for start in range(0, len(task_ids), PAGE_SIZE):
            among = condition("id", "in_list", "List", list(task_ids[start : start + PAGE_SIZE]))
            yield from read_pages(self, project_id, "all", [among], None)

    def predicted_tasks(
        self, project_id: int, model_version: str, *, unlabelled: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Read the tasks that have a prediction of a version, with all their predictions.

        Label Studio compares parts of the name: asking for `round 1` gives those of `round 12` too.

        Args:
            project_id: the project.
            model_version: the version.
            unlabelled: leave out tasks that a person has annotated or skipped.
        """
        items = [condition("predictions_model_versions", "contains", "List", [model_version])]
        if unlabelled:
            items.append(NOT_ANNOTATED)
        return read_pages(self, project_id, "all", items, None)

    def whole_tasks(
        self, project_id: int, *, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Read a project's tasks by id, with all their annotations and predictions."""
        return read_pages(self, project_id, "all", (), progress)

    def upload_files(self, project_id: int, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Upload files without making tasks of them.

        Args:
            project_id: the project.
            files: `(name, bytes)` of each, at most 100.

        Returns:
            The address of each file, in the same order, for a task's data to name.
        """
        parts = [(f"file-{i}", (name, data)) for i, (name, data) in enumerate(files)]
        path = f"/api/projects/{project_id}"
        ids = self.request_object("POST", f"{path}/import?commit_to_project=false", files=parts)[
            "file_upload_ids"
        ]
        uploads = self.request_list("GET", f"{path}/file-uploads", params={"ids": json.dumps(ids)})
        stored = {upload["id"]: str(upload["file"]) for upload in uploads}
        return [f"/data/{quote(stored[id_])}" for id_ in ids]

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Create tasks in bulk, each with `data` and perhaps `annotations`."""
        for start in range(0, len(tasks), IMPORT_SIZE):
            chunk = list(tasks[start : start + IMPORT_SIZE])
            self.request_object("POST", f"/api/projects/{project_id}/import", json=chunk)

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """Return the task that *Label All Tasks* shows next to the token's owner; None when nothing is left."""
        path = f"/api/projects/{project_id}/next/"
        response = self.request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self.decode(response, "GET", path))

    # --- predictions

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Write predictions in bulk (1 ms each): `task`, `result`, `score` and `model_version` are kept."""
        for start in range(0, len(predictions), IMPORT_SIZE):
            chunk = list(predictions[start : start + IMPORT_SIZE])
            self.request_object("POST", f"/api/projects/{project_id}/import/predictions", json=chunk)

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Return how many predictions of each model version a project holds."""
        return dict(self.request_object("GET", f"/api/projects/{project_id}/model-versions/"))

    def delete_predictions(self, project_id: int, model_version: str) -> int:
        """Delete the predictions of one version (6.7 ms each); of one that is open a submit is refused then (400)."""
        path = f"/api/projects/{project_id}/model-versions/"
        answer = self.request_object(
            "DELETE", path, "deleted_predictions", json={"model_version": model_version}
        )
        return int(answer["deleted_predictions"])

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction; one that is gone already is passed over."""
        self.request("DELETE", f"/api/predictions/{prediction_id}/", missing_ok=True)

    def delete_task_predictions(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Delete all predictions of these tasks, whoever made them (12 ms each, in one call)."""
        self.request_object(
            "POST",
            "/api/dm/actions/",
            params={"id": "delete_tasks_predictions", "project": project_id},
            json={"selectedItems": {"all": False, "included": list(task_ids)}},
        )

    # --- what `connect` sets up

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """Return the project's webhooks."""
        return self.request_list("GET", "/api/webhooks/", params={"project": project_id})

    def save_webhook(self, webhook_id: int | None, **fields: Any) -> dict[str, Any]:
        """Create a webhook, or change one."""
        if webhook_id is None:
            return self.request_object("POST", "/api/webhooks/", json=fields)
        return self.request_object("PATCH", f"/api/webhooks/{webhook_id}/", json=fields)

    def ml_backends(self, project_id: int) -> list[dict[str, Any]]:
        """Return the ML backends connected to a project; Label Studio calls `/setup` on each."""
        return self.request_list("GET", "/api/ml/", params={"project": project_id})

    def save_ml_backend(self, backend_id: int | None, **fields: Any) -> dict[str, Any]:
        """Connect an ML backend, or change one."""
        if backend_id is None:
            return self.request_object("POST", "/api/ml/", json=fields)
        return self.request_object("PATCH", f"/api/ml/{backend_id}", json=fields)

    def tabs(self, project_id: int) -> list[dict[str, Any]]:
        """Return the Data Manager's tabs."""
        return self.request_list("GET", "/api/dm/views/", params={"project": project_id})

    def save_tab(self, tab_id: int | None, project_id: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create a tab, or change one."""
        body = {"project": project_id, "data": dict(data)}
        if tab_id is None:
            return self.request_object("POST", "/api/dm/views/", json=body)
        return self.request_object("PATCH", f"/api/dm/views/{tab_id}/", json=body)

    # --- the token's owner

    def whoami(self) -> dict[str, Any]:
        """Return the user whose token this is: `id`, `email`, `first_name`, `last_name` and more."""
        return self.request_object("GET", "/api/current-user/whoami", "id")

    def hotkeys(self) -> dict[str, Any] | None:
        """Return the user's own hotkeys by name, `{"key", "active"}` each; None before Label Studio 1.21."""
        path = "/api/current-user/hotkeys/"
        response = self.request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self.decode(response, "GET", path).get("custom_hotkeys") or {})

    def save_hotkeys(self, hotkeys: Mapping[str, Any]) -> None:
        """Replace all of the user's own hotkeys."""
        self.request_object("PATCH", "/api/current-user/hotkeys/", json={"custom_hotkeys": dict(hotkeys)})
