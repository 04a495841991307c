"""The Label Studio client: what everylabel reads from Label Studio and writes into it.

Tokens are handled by `label-studio-sdk` (a personal access token is a refresh token that has to be exchanged);
requests are plain JSON, because a pool of 100,000 tasks has no use for 100,000 validated models.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    TokenRefusedError,
    failure,
    not_json,
    refused,
    unreachable,
)

if TYPE_CHECKING:
    from label_studio_sdk.tokens.client_ext import TokensClientExt

PAGE_SIZE = 500
"""Of 1,000 uploaded images a page, Label Studio 1.23.2 on SQLite fails (500, expression tree too large)."""
IMPORT_SIZE = 1000
RETRIES = 3
TOLD_WITHIN_SECONDS = 3.0
"""How far a server's `Date`, in whole seconds and some time on its way, may be from the time."""
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


class LabelStudio:
    """A Label Studio server, seen with one user's token.

    Safe to share between threads. Every method raises `LabelStudioUnreachableError`, `TokenRefusedError` or another
    `LabelStudioError`.

    Args:
        url: where Label Studio answers.
        token: a personal access token or a legacy token.
        transport: stands in for the network in tests.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 60.0, transport: httpx.BaseTransport | None = None
    ):
        self.url = url.rstrip("/")
        self._token = token
        self.calls = self.failures = 0
        """Requests sent, and those that were refused or not answered."""
        self._tokens: TokensClientExt | None = None
        self._lock = threading.Lock()
        self.ahead = 0.0
        """Seconds by which this machine's clock is ahead of Label Studio's."""
        self._http = httpx.Client(
            base_url=self.url, timeout=timeout, transport=transport, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def authorization(self) -> str:
        """The value of the `Authorization` header, with a personal access token exchanged and refreshed.

        Raises:
            TokenRefusedError: there is no token, or it has expired.
        """
        if not self._token:
            raise TokenRefusedError(
                "There is no token for Label Studio. Create a personal access token under Account & Settings and "
                "set LABEL_STUDIO_API_KEY."
            )
        from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - takes long to load
        from label_studio_sdk.tokens.client_ext import TokensClientExt  # noqa: PLC0415 - takes long to load

        with self._lock:
            try:
                if self._tokens is None:
                    # What it takes for an SDK client is asked for nothing but the httpx client inside.
                    client = SimpleNamespace(httpx_client=SimpleNamespace(httpx_client=self._http))
                    self._tokens = TokensClientExt(f"{self.url}/", self._token, client)
                key = self._tokens.api_key
            except ApiError as error:
                if error.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                    raise refused(error.status_code) from error
                raise LabelStudioError(
                    f"Label Studio did not exchange the personal access token ({error.status_code}). Is "
                    f"{self.url} the address of Label Studio itself?"
                ) from error
            except ValueError as error:
                raise not_json(self.url, "POST", "/api/token/refresh/") from error
            except httpx.HTTPError as error:
                raise unreachable(self.url, error) from error
        return f"Token {key}" if key == self._token else f"Bearer {key}"

    # --- server and project

    def version(self) -> str:
        """Label Studio's own version, such as `1.23.2`."""
        return str(self._json("GET", "/api/version").get("release", "unknown"))

    def users(self) -> list[dict[str, Any]]:
        """Return the users of the token owner's organization, those who were removed among them."""
        return self._list("GET", "/api/users/")

    def project(self, project_id: int) -> dict[str, Any]:
        """A project as Label Studio describes it.

        Raises:
            ProjectNotFoundError: there is none with this id.
        """
        return self._json("GET", f"/api/projects/{project_id}/")

    def projects(self) -> list[dict[str, Any]]:
        """Every project the token's owner sees."""
        return list(self._json("GET", "/api/projects/", "results", params={"page_size": 1000})["results"])

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        """Create a project."""
        return self._json(
            "POST", "/api/projects/", json={"title": title, "label_config": label_config, **fields}
        )

    def update_project(self, project_id: int, **fields: Any) -> dict[str, Any]:
        """Change a project's settings."""
        return self._json("PATCH", f"/api/projects/{project_id}/", json=fields)

    # --- tasks and annotations

    def tasks(
        self,
        project_id: int,
        *,
        annotated: bool = False,
        after: int = 0,
        changed_since: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A project's tasks by id, page by page.

        Args:
            after: only tasks of a larger id.
            annotated: only tasks a person has annotated or skipped, with their annotations; otherwise all of
                them, without (1.1 ms a task).
            changed_since: only tasks that are new, or whose data or annotations have changed, since this time in
                seconds since 1970, by this machine's clock.
            progress: called with (tasks read, tasks in all) after every page.
        """
        items = [ANNOTATED] if annotated else []
        if changed_since is not None:
            there = datetime.fromtimestamp(changed_since - self.ahead, timezone.utc)
            since = there.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            items.append(_filter("updated_at", "greater", "Datetime", since))
        filters = {"conjunction": "and", "items": items} if items else None
        return self._pages(project_id, "all" if annotated else "task_only", filters, progress, after)

    def annotated(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """Which of these tasks, 500 at most, a person has annotated or skipped."""
        among = _filter("id", "in_list", "List", list(task_ids))
        items = [{**ANNOTATED, "child_filter": among}]
        params = {
            "project": project_id,
            "page_size": PAGE_SIZE,
            "fields": "task_only",
            "query": json.dumps({"filters": {"conjunction": "and", "items": items}}),
        }
        answer = self._json("GET", "/api/tasks", "tasks", params={**params, "page": 1})
        return {int(task["id"]) for task in answer["tasks"]}

    def tasks_among(self, project_id: int, task_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Those of these tasks that exist, with all their annotations and predictions."""
        for start in range(0, len(task_ids), PAGE_SIZE):
            among = _filter("id", "in_list", "List", list(task_ids[start : start + PAGE_SIZE]))
            yield from self._pages(project_id, "all", {"conjunction": "and", "items": [among]}, None)

    def predicted_tasks(self, project_id: int, model_version: str) -> Iterator[dict[str, Any]]:
        """The tasks that have a prediction of a version, with all their predictions.

        Label Studio compares by parts of the name: asking for `round 1` gives those of `round 12` too.
        """
        item = _filter("predictions_model_versions", "contains", "List", [model_version])
        return self._pages(project_id, "all", {"conjunction": "and", "items": [item]}, None)

    def whole_tasks(
        self, project_id: int, *, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """A project's tasks by id, with all their annotations and predictions."""
        return self._pages(project_id, "all", None, progress)

    def _pages(
        self,
        project_id: int,
        fields: str,
        filters: dict[str, Any] | None,
        progress: Callable[[int, int], None] | None,
        after: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Tasks by rising id, each page from where the last one ended.

        Pages by number would pass over a task for each one that leaves an earlier page meanwhile.
        """
        params = {"project": project_id, "page_size": PAGE_SIZE, "fields": fields, "page": 1}
        read, last, left = 0, after, 1
        while left > 0:
            query = json.dumps({"filters": _after(last, filters)})
            answer = self._json("GET", "/api/tasks", "tasks", "total", params={**params, "query": query})
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

    def upload_files(self, project_id: int, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Upload files and make no tasks of them.

        Args:
            project_id: the project.
            files: `(name, bytes)` of each, at most 100.

        Returns:
            The address of each file, in the same order: what a task's data may name.
        """
        parts = [(f"file-{i}", (name, data)) for i, (name, data) in enumerate(files)]
        path = f"/api/projects/{project_id}"
        ids = self._json("POST", f"{path}/import?commit_to_project=false", files=parts)["file_upload_ids"]
        uploads = self._list("GET", f"{path}/file-uploads", params={"ids": json.dumps(ids)})
        stored = {upload["id"]: str(upload["file"]) for upload in uploads}
        return [f"/data/{quote(stored[id_])}" for id_ in ids]

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Make tasks, each with `data` and perhaps `annotations`, in bulk."""
        for start in range(0, len(tasks), IMPORT_SIZE):
            chunk = list(tasks[start : start + IMPORT_SIZE])
            self._json("POST", f"/api/projects/{project_id}/import", json=chunk)

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """The task *Label All Tasks* shows next to the token's owner; None when nothing is left."""
        path = f"/api/projects/{project_id}/next"
        response = self._request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self._decoded(response, "GET", path))

    def annotate(self, task_id: int, result: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """Submit an annotation."""
        return self._json("POST", f"/api/tasks/{task_id}/annotations/", json={"result": result, **fields})

    def create_annotations(self, project_id: int, task_ids: Sequence[int], model_version: str) -> None:
        """Make annotations of these tasks' predictions of a version, in bulk (8 ms each).

        What `result` holds stays as it is, `origin` and `meta` too. A prediction that has an annotation of its
        own already is passed over.
        """
        self._json(
            "POST",
            "/api/dm/actions",
            params={"id": "predictions_to_annotations", "project": project_id},
            json={
                "selectedItems": {"all": False, "included": list(task_ids)},
                "model_version": model_version,
            },
        )

    def annotation(self, annotation_id: int) -> dict[str, Any] | None:
        """One annotation; None where it is gone."""
        path = f"/api/annotations/{annotation_id}/"
        response = self._request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self._decoded(response, "GET", path))

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation (150 ms); nothing happens where it is gone already."""
        self._request("DELETE", f"/api/annotations/{annotation_id}/", missing_ok=True)

    # --- predictions

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Write predictions in bulk (1 ms each): `task`, `result`, `score` and `model_version` are kept."""
        for start in range(0, len(predictions), IMPORT_SIZE):
            chunk = list(predictions[start : start + IMPORT_SIZE])
            self._json("POST", f"/api/projects/{project_id}/import/predictions", json=chunk)

    def model_versions(self, project_id: int) -> dict[str, int]:
        """How many predictions of each model version a project holds."""
        return dict(self._json("GET", f"/api/projects/{project_id}/model-versions/"))

    def delete_predictions(self, project_id: int, model_version: str) -> int:
        """Delete the predictions of one version (6.7 ms each).

        A prediction an annotator has open must stay: with it gone, Label Studio 1.23.2 refuses their submit
        (400, `parent_prediction` does not exist).
        """
        path = f"/api/projects/{project_id}/model-versions/"
        answer = self._json("DELETE", path, "deleted_predictions", json={"model_version": model_version})
        return int(answer["deleted_predictions"])

    def delete_task_predictions(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Delete all predictions of these tasks, whoever made them (12 ms each, in one call)."""
        self._json(
            "POST",
            "/api/dm/actions",
            params={"id": "delete_tasks_predictions", "project": project_id},
            json={"selectedItems": {"all": False, "included": list(task_ids)}},
        )

    # --- what `connect` sets up

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """The project's webhooks."""
        return self._list("GET", "/api/webhooks/", params={"project": project_id})

    def save_webhook(self, webhook_id: int | None, **fields: Any) -> dict[str, Any]:
        """Create a webhook, or change one."""
        if webhook_id is None:
            return self._json("POST", "/api/webhooks/", json=fields)
        return self._json("PATCH", f"/api/webhooks/{webhook_id}/", json=fields)

    def ml_backends(self, project_id: int) -> list[dict[str, Any]]:
        """The ML backends connected to a project; Label Studio calls `/setup` on each."""
        return self._list("GET", "/api/ml/", params={"project": project_id})

    def save_ml_backend(self, backend_id: int | None, **fields: Any) -> dict[str, Any]:
        """Connect an ML backend, or change one."""
        if backend_id is None:
            return self._json("POST", "/api/ml/", json=fields)
        return self._json("PATCH", f"/api/ml/{backend_id}", json=fields)

    def tabs(self, project_id: int) -> list[dict[str, Any]]:
        """The Data Manager's tabs."""
        return self._list("GET", "/api/dm/views/", params={"project": project_id})

    def save_tab(self, tab_id: int | None, project_id: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create a tab, or change one."""
        body = {"project": project_id, "data": dict(data)}
        if tab_id is None:
            return self._json("POST", "/api/dm/views/", json=body)
        return self._json("PATCH", f"/api/dm/views/{tab_id}/", json=body)

    # --- the token's owner

    def hotkeys(self) -> dict[str, Any] | None:
        """Return the user's own hotkeys by name, `{"key", "active"}` each; None before Label Studio 1.21."""
        path = "/api/current-user/hotkeys/"
        response = self._request("GET", path, missing_ok=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return dict(self._decoded(response, "GET", path).get("custom_hotkeys") or {})

    def save_hotkeys(self, hotkeys: Mapping[str, Any]) -> None:
        """Replace all of the user's own hotkeys."""
        self._json("PATCH", "/api/current-user/hotkeys/", json={"custom_hotkeys": dict(hotkeys)})

    # --- the wire

    def _json(self, method: str, path: str, *needed: str, **options: Any) -> dict[str, Any]:
        body = self._body(method, path, **options)
        if not isinstance(body, dict) or not body.keys() >= set(needed):
            raise not_json(self.url, method, path)
        return body

    def _list(self, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
        body = self._body(method, path, **options)
        if not isinstance(body, list):
            raise not_json(self.url, method, path)
        return body

    def _body(self, method: str, path: str, **options: Any) -> Any:
        return self._decoded(self._request(method, path, **options), method, path)

    def _decoded(self, response: httpx.Response, method: str, path: str) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise not_json(self.url, method, path) from error

    def _request(self, method: str, path: str, *, missing_ok: bool = False, **options: Any) -> httpx.Response:
        for attempt in range(1, RETRIES + 1):
            self.calls += 1
            try:
                response = self._http.request(
                    method, path, headers={"Authorization": self.authorization()}, **options
                )
            except httpx.ConnectError as error:  # nothing was sent: trying again cannot do it twice
                self.failures += 1
                if attempt == RETRIES:
                    raise unreachable(self.url, error) from error
                time.sleep(0.2 * attempt)
                continue
            except httpx.HTTPError as error:
                self.failures += 1
                raise unreachable(self.url, error) from error
            self.ahead = _ahead(response)
            if response.is_success or (missing_ok and response.status_code == httpx.codes.NOT_FOUND):
                return response
            self.failures += 1
            raise failure(self.url, response, method, path)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _ahead(response: httpx.Response) -> float:
    """Seconds by which our clock is ahead of that of whoever answered; 0 where that does not tell the time."""
    try:
        ahead = time.time() - parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
    return ahead if abs(ahead) > TOLD_WITHIN_SECONDS else 0.0


def _filter(field: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    """One condition of a Data Manager query."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _after(last: int, filters: dict[str, Any] | None) -> dict[str, Any]:
    """A Data Manager query's filters, for tasks of a larger id alone."""
    larger = _filter("id", "greater", "Number", last)
    if filters is None:
        return {"conjunction": "and", "items": [larger]}
    # Whatever joins the conditions, each holds together with its `child_filter`.
    return {**filters, "items": [{**item, "child_filter": larger} for item in filters["items"]]}
