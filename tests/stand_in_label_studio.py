"""A stand-in for Label Studio on loopback, for tests of the backend that need one which is down, wrong or quick."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from everylabel.backend.label_studio.versions import NEWEST

TOKEN = "0123456789abcdef"
CLASSES = ("0", "1", "2", "3")


class Server(ThreadingHTTPServer):
    """A server that lets more connections wait than five, beyond which they are dropped."""

    request_queue_size = 128


def label_config(*classes: str) -> str:
    choices = "".join(f'<Choice value="{name}"/>' for name in classes or CLASSES)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="digit" toName="image">{choices}</Choices></View>'
    )


def png(pixels: Any) -> bytes:
    picture = Image.fromarray((255 - pixels * 15).astype("uint8")).resize((32, 32))
    stored = io.BytesIO()
    picture.convert("RGB").save(stored, "PNG")
    return stored.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


class StandIn:
    """As much of Label Studio as the backend speaks with, on loopback and in memory.

    `down`: connections are answered by nobody's Label Studio (503). `token`: what it accepts. `release`: what it
    says its version is.
    """

    def __init__(self) -> None:
        self.token = TOKEN
        self.people: dict[str, int] = {}
        """The user of each further token; `token` is user 1's."""
        self.unique_ids: dict[str, int] = {}
        """The annotation of each `unique_id`."""
        self.before_annotation: Callable[[], object] = lambda: None
        """Called before an annotation is created."""
        self.after_annotation: Callable[[], object] = lambda: None
        """Called when one was created, and before that is answered."""
        self.before_task_change: Callable[[int], object] = lambda _: None
        """Called with a task before it is changed."""
        self.refused_tasks: set[int] = set()
        """Tasks whose changes are refused."""
        self.down = False
        self.release = NEWEST
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.predictions: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = [{"id": 1}]
        self.tabs: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.backends: dict[int, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.clock: Callable[[], float] = time.time
        self._seen: dict[int, tuple[str, str]] = {}
        self._next_annotation = self._next_update = 0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet: two would wait for each other

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                url = urlsplit(self.path)
                stand_in.calls.append((self.command, url.path))
                status, answer = stand_in.answer(
                    self.command, url.path, parse_qs(url.query), body, self.headers.get("Authorization")
                )
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - its names

            def log_message(self, *args: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what a person does in its interface

    def add_project(self, id_: int, config: str | None = None) -> None:
        self.projects[id_] = {
            "id": id_,
            "title": f"project {id_}",
            "label_config": config or label_config(),
            "sampling": "Sequential sampling",
            "model_version": "",
        }

    def add_tasks(self, project: int, *images: Any) -> list[int]:
        ids = [max(self.tasks, default=0) + 1 + i for i in range(len(images))]
        for id_, image in zip(ids, images, strict=True):
            self.tasks[id_] = {"id": id_, "project": project, "data": {"image": image}, "annotations": []}
            self.changed_at(self.tasks[id_])
        return ids

    def annotate(self, task: int, label: str | None, **fields: Any) -> dict[str, Any]:
        """Submit an annotation; returns the webhook's body."""
        self._next_annotation += 1
        annotation = {
            "id": self._next_annotation,
            "task": task,
            "project": self.tasks[task]["project"],
            "completed_by": 1,
            "result": [] if label is None else choice(label),
            "was_cancelled": False,
            "updated_at": f"2026-01-01T00:00:{self._next_annotation:09.6f}Z",
        } | fields
        self.tasks[task]["annotations"].append(annotation)
        self.tasks[task].pop("is_labeled", None)  # it is counted anew
        self.changed_at(self.tasks[task])
        plain = self.plain(task)
        return self.webhook("ANNOTATION_CREATED", plain["project"], annotation=annotation, task=plain)

    def update(self, annotation: int, label: str | None) -> dict[str, Any]:
        """Submit an annotation again (*Update*), with another class or none; returns the webhook's body."""
        found = next(a for task in self.tasks.values() for a in task["annotations"] if a["id"] == annotation)
        self._next_update += 1
        found |= {
            "result": [] if label is None else choice(label),
            "updated_at": f"2026-02-01T00:00:{self._next_update:09.6f}Z",
        }
        self.changed_at(self.tasks[found["task"]])
        plain = self.plain(found["task"])
        return self.webhook("ANNOTATION_UPDATED", plain["project"], annotation=dict(found), task=plain)

    def plain(self, task: int) -> dict[str, Any]:
        return {key: value for key, value in self.tasks[task].items() if key != "annotations"}

    def webhook(self, action: str, project: int = 1, **body: Any) -> dict[str, Any]:
        return {"action": action, "project": dict(self.projects[project]), **body}

    def annotated(self) -> list[int]:
        """Tasks somebody has labelled."""
        return [task["id"] for task in self.tasks.values() if task["annotations"]]

    def queue(self, project: int) -> list[int]:
        """What *Label All Tasks* serves: unlabelled tasks with a prediction of the project's version."""
        version = self.projects[project]["model_version"]
        found = [
            p
            for p in self.predictions
            if p["model_version"] == version
            and self.tasks[p["task"]]["project"] == project
            and not self.tasks[p["task"]]["annotations"]
        ]
        return [p["task"] for p in sorted(found, key=lambda p: p["score"])]

    # --- its API

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: Any, authorization: str | None
    ) -> tuple[int, Any]:
        if self.down:
            return 503, {"detail": "Service unavailable"}
        if path == "/api/version/":
            return 200, {"release": self.release}
        user = ({self.token: 1} | self.people).get((authorization or "").removeprefix("Token "))
        if user is None:
            return 401, {"detail": "Invalid token."}
        query = {**query, "user": [str(user)]}
        for pattern, handler in self._routes():
            if match := re.fullmatch(pattern, path):
                return handler(method, query, body, *(int(group) for group in match.groups() if group))
        return 404, {"detail": "Not found."}

    def _routes(self) -> list[tuple[str, Callable[..., tuple[int, Any]]]]:
        return [
            (r"/api/users/", lambda *_: (200, self.users)),
            (r"/api/projects/", lambda *_: (200, {"results": list(self.projects.values())})),
            (r"/api/projects/(\d+)/", self._project),
            (r"/api/current-user/whoami", self._whoami),
            (r"/api/tasks/", self._tasks),
            (r"/api/tasks/(\d+)/", self._task),
            (r"/api/tasks/(\d+)/annotations/", self._task_annotations),
            (r"/api/projects/(\d+)/import/predictions", self._import_predictions),
            (r"/api/predictions/(\d+)/", self._prediction),
            (r"/api/projects/(\d+)/model-versions/", self._versions),
            (r"/api/dm/actions/", self._action),
            (r"/api/annotations/(\d+)/", self._annotation),
            (r"/api/dm/views/(?:(\d+)/)?", self._kept(self.tabs)),
            (r"/api/webhooks/(?:(\d+)/)?", self._kept(self.webhooks)),
            (r"/api/ml/?(?:(\d+))?", self._kept(self.backends, readable_state="Connected")),
        ]

    def _project(self, method: str, _: Any, body: Any, id_: int) -> tuple[int, Any]:
        if id_ not in self.projects:
            return 404, {"detail": "No Project matches the given query."}
        if method == "PATCH":
            version = body.get("model_version")
            if version and not any(p["model_version"] == version for p in self.predictions):
                return 400, {"validation_errors": {"model_version": ["there are no predictions with it"]}}
            before = self._overlap(id_)
            self.projects[id_] |= body
            self._rearrange(id_, *before)
        return 200, {
            **self.projects[id_],
            "task_number": sum(t["project"] == id_ for t in self.tasks.values()),
            "total_annotations_number": len([a for a in self._annotations(id_) if not a["was_cancelled"]]),
            "skipped_annotations_number": len([a for a in self._annotations(id_) if a["was_cancelled"]]),
        }

    def _overlap(self, project: int) -> tuple[int, int]:
        settings = self.projects[project]
        return settings.get("maximum_annotations", 1), settings.get("overlap_cohort_percentage", 100)

    def _rearrange(self, project: int, was_most: int, was_share: int) -> None:
        """Say anew of how many people each task is asked, as Label Studio 1.23.2 does (`Project._update_tasks_states`)."""
        most, share = self._overlap(project)
        tasks = [task for task in self.tasks.values() if task["project"] == project]
        if (most, share) == (was_most, was_share) or (most, was_most) == (1, 1):
            return
        several = [task for task in tasks if task.get("overlap", 1) > 1]
        n = {task["id"]: sum(not one["was_cancelled"] for one in task["annotations"]) for task in tasks}
        done = [task for task in tasks if n[task["id"]] >= most]
        left = max(0, int(len(tasks) * share / 100 + 0.5) - len(done))
        others = sorted((task for task in tasks if task not in done), key=lambda task: -n[task["id"]])
        if most == 1:
            several = []
        elif share != was_share or not several:
            several = [*done, *others[:left]]
        else:  # of the others nothing is changed
            tasks = several
        for task in tasks:
            task["overlap"] = most if task in several else 1
            task.pop("is_labeled", None)  # it is counted anew
            self.changed_at(task)

    def _whoami(self, _: str, query: dict[str, list[str]], __: Any) -> tuple[int, Any]:
        number = int(query["user"][0])
        return 200, {"id": number, "email": f"{number}@example.org", "first_name": "", "last_name": ""}

    def _task_annotations(
        self, method: str, query: dict[str, list[str]], body: Any, task: int
    ) -> tuple[int, Any]:
        if task not in self.tasks:
            return 404, {"detail": "No Task matches the given query."}
        if method == "GET":
            return 200, [a for a in self.tasks[task]["annotations"] if not a["was_cancelled"]]
        self.before_annotation()
        if (unique_id := body.pop("unique_id", None)) in self.unique_ids:
            return 409, {"detail": "Annotation with this unique id already exists"}
        now = datetime.fromtimestamp(self.clock(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        times = {"created_at": now, "updated_at": now}
        made = self.annotate(task, None, completed_by=int(query["user"][0]), **times, **body)["annotation"]
        if unique_id is not None:
            self.unique_ids[unique_id] = made["id"]
        self.after_annotation()
        return 201, made

    def _annotations(self, project: int) -> list[dict[str, Any]]:
        tasks = [task for task in self.tasks.values() if task["project"] == project]
        return [annotation for task in tasks for annotation in task["annotations"]]

    def _tasks(self, _: str, query: dict[str, list[str]], __: Any) -> tuple[int, Any]:
        found = [t for t in self.tasks.values() if t["project"] == int(query["project"][0])]
        changed_at = {t["id"]: self.changed_at(t) for t in found}
        items = json.loads(query.get("query", ["{}"])[0]).get("filters", {}).get("items", [])
        if any("annotations" in item["filter"] for item in items):
            found = [t for t in found if t["annotations"]]
        for item in items:
            if item["filter"] == "filter:tasks:updated_at":
                found = [t for t in found if changed_at[t["id"]] > item["value"]]
        for item in items:
            if item["filter"] == "filter:tasks:id":
                among = item["operator"] == "in_list"
                found = [t for t in found if (t["id"] in item["value"] if among else t["id"] > item["value"])]
        size, page = int(query["page_size"][0]), int(query["page"][0])
        shown = found[(page - 1) * size : page * size]
        if not shown and page > 1:
            return 404, {"detail": "Invalid page."}
        return 200, {"tasks": [self._with_counts(task) for task in shown], "total": len(found)}

    def _task(self, _: str, __: Any, body: Any, id_: int) -> tuple[int, Any]:
        """Change a task as it is told to: `overlap` alone leaves `is_labeled` as it was counted last."""
        self.before_task_change(id_)
        if id_ in self.refused_tasks:
            return 400, {"detail": "refused"}
        self.tasks[id_] |= {"is_labeled": self._with_counts(self.tasks[id_])["is_labeled"], **body}
        return 200, self._with_counts(self.tasks[id_])

    def _with_counts(self, task: dict[str, Any]) -> dict[str, Any]:
        """A task as it is told of: an annotation completes it, an empty one too, and a skip does not."""
        skips = sum(annotation["was_cancelled"] for annotation in task["annotations"])
        return task | {
            "is_labeled": task.get("is_labeled", len(task["annotations"]) - skips >= task.get("overlap", 1)),
            "total_annotations": len(task["annotations"]) - skips,
            "cancelled_annotations": skips,
            "predictions": [
                *task.get("predictions", ()),
                *({"id": id(p), **p} for p in self.predictions if p["task"] == task["id"]),
            ],
        }

    def changed_at(self, task: dict[str, Any]) -> str:
        """When a task was first seen as it is."""
        as_it_is = json.dumps(task)
        if self._seen.get(task["id"], ("", ""))[0] != as_it_is:
            now = datetime.fromtimestamp(self.clock(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self._seen[task["id"]] = (as_it_is, now)
        return self._seen[task["id"]][1]

    def _import_predictions(self, _: str, __: Any, body: Any, id_: int) -> tuple[int, Any]:
        for prediction in body:
            task = prediction["task"]
            if self.tasks.get(task, {}).get("project") != id_:
                return 400, {"detail": f"task ID {task} not found in project"}
            self.predictions.append(prediction)
        return 201, {"created": len(body)}

    def _action(self, _: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if query.get("id") == ["delete_tasks_predictions"]:
            among = body["selectedItems"]["included"]
            self.predictions = [p for p in self.predictions if p["task"] not in among]
            return 200, {"processed_items": len(among)}
        return self._predictions_to_annotations(body)

    def _predictions_to_annotations(self, body: Any) -> tuple[int, Any]:
        for prediction in list(self.predictions):
            wanted = prediction["task"] in body["selectedItems"]["included"]
            if wanted and prediction["model_version"] == body["model_version"]:
                made = {"created_at": "2026-01-01T01:00:00Z", "updated_at": "2026-01-01T01:00:00Z"}
                self.annotate(prediction["task"], None, result=prediction["result"], **made)
        return 200, {}

    def _annotation(self, method: str, _: Any, body: Any, id_: int) -> tuple[int, Any]:
        for task in self.tasks.values():
            for annotation in task["annotations"]:
                if annotation["id"] == id_:
                    if method == "DELETE":
                        task["annotations"].remove(annotation)
                        task.pop("is_labeled", None)
                        kept = {known: made for known, made in self.unique_ids.items() if made != id_}
                        self.unique_ids = kept
                    if method == "PATCH":
                        self._next_update += 1
                        now = f"2026-02-02T00:00:{self._next_update:09.6f}Z"
                        annotation |= {"result": body["result"], "updated_at": now}
                    return 200, annotation
        return 404, {"detail": "Not found."}

    def _prediction(self, _: str, __: Any, ___: Any, id_: int) -> tuple[int, Any]:
        self.predictions = [p for p in self.predictions if id(p) != id_]
        return 200, {}

    def _versions(self, method: str, _: Any, body: Any, id_: int) -> tuple[int, Any]:
        ours = [p for p in self.predictions if self.tasks.get(p["task"], {}).get("project") == id_]
        if method == "DELETE":
            gone = [p for p in ours if p["model_version"] == body["model_version"]]
            self.predictions = [p for p in self.predictions if p not in gone]
            return 200, {"deleted_predictions": len(gone)}
        versions = [p["model_version"] for p in ours]
        return 200, {version: versions.count(version) for version in versions}

    def _kept(self, kept: dict[int, dict[str, Any]], **extra: Any) -> Callable[..., tuple[int, Any]]:
        def handle(
            method: str, query: dict[str, list[str]], body: Any, id_: int | None = None
        ) -> tuple[int, Any]:
            if method == "GET":
                project = int(query["project"][0])
                return 200, [item for item in kept.values() if item["project"] == project]
            if method == "POST":
                id_ = len(kept) + 1
                kept[id_] = {"id": id_, **extra}
            kept[int(id_ or 0)] |= body
            return 200, kept[int(id_ or 0)]

        return handle


def choice(label: str, from_name: str = "digit") -> list[dict[str, Any]]:
    return [
        {
            "from_name": from_name,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [label]},
            "id": "x",
        }
    ]
