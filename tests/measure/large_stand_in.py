"""A stand-in for Label Studio with a million tasks it does not hold in memory, in a process of its own."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from everylabel.backend.regions import region_tasks
from tests.stand_in_label_studio import StandIn, label_config, png

PROJECT, PICTURES, CROPS_TO = 1, 2, 3
"""The project of crops; pictures with twenty regions each; and the project whose crops these regions are."""
REGIONS_EACH = 20
CLASSES = tuple("0123456789")
LABELS = 200
REGIONS = """
<View>
  <Image name="photo" value="$photo"/>
  <RectangleLabels name="part" toName="photo"><Label value="digit"/></RectangleLabels>
  <Choices name="kind" toName="photo" perRegion="true"><Choice value="0"/><Choice value="1"/></Choices>
</View>
"""


def class_of(task: int) -> str:
    return CLASSES[(task * 2_654_435_761 >> 16) % len(CLASSES)]


class Tasks(dict[int, dict[str, Any]]):
    """Tasks that are made when they are asked for; `values` are those that were."""

    def __init__(self, count: int, address: str) -> None:
        super().__init__()
        self.count, self.address = count, address

    def __missing__(self, id_: int) -> dict[str, Any]:
        self[id_] = task = {**self.plain(id_), "project": PROJECT, "annotations": []}
        return task

    def get(self, id_: int, default: Any = None) -> Any:
        return self[id_] if id_ in self or 0 < id_ <= self.count else default

    def plain(self, id_: int) -> dict[str, Any]:
        return {"id": id_, "data": {"image": f"{self.address}/{id_}.png"}}


class LargeStandIn(StandIn):
    """The stand-in with tasks it does not hold in memory."""

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.tasks = tasks
        self.add_project(PROJECT, label_config(*CLASSES))
        self.add_project(PICTURES, REGIONS)
        self.add_project(CROPS_TO, region_tasks.parse(REGIONS).config())
        for i in range(LABELS):
            task = 1 + i * (tasks.count // LABELS)
            self.annotate(
                task, class_of(task), updated_at=f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}.000000Z"
            )

    def _project(self, method: str, query: Any, body: Any, id_: int) -> tuple[int, Any]:
        status, answer = super()._project(method, query, body, id_)
        return status, {**answer, "task_number": self.tasks.count}

    def _tasks(self, method: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        items = json.loads(query["query"][0])["filters"]["items"]
        if items[0]["filter"] != "filter:tasks:id":
            return super()._tasks(method, query, body)
        after, project = items[0]["value"], int(query["project"][0])
        # A picture more than there are tasks for its regions: twenty are new.
        count = self.tasks.count // REGIONS_EACH + 1 if project == PICTURES else self.tasks.count
        last = min(after + int(query["page_size"][0]), count)
        make = {PROJECT: self.tasks.plain, PICTURES: picture, CROPS_TO: region_task}[project]
        return 200, {"tasks": [make(id_) for id_ in range(after + 1, last + 1)], "total": count - after}

    def _import(self, method: str, query: Any, body: Any, id_: int) -> tuple[int, Any]:
        return 201, {"task_count": len(body)}

    def _routes(self) -> list[tuple[str, Callable[..., tuple[int, Any]]]]:
        return [*super()._routes(), (r"/api/projects/(\d+)/import", self._import)]


def picture(id_: int) -> dict[str, Any]:
    """A picture on which a detector has drawn regions."""
    names = {"from_name": "part", "to_name": "photo", "type": "rectanglelabels"}
    drawn = [
        {**names, "id": f"r{i}", "value": {"x": 5 * i, "y": 0, "width": 5, "height": 50, "rotation": 0}}
        for i in range(REGIONS_EACH)
    ]
    found = [{"model_version": "detector", "result": drawn}]
    return {"id": id_, "data": {"photo": f"/{id_}.png"}, "annotations": [], "predictions": found}


def region_task(id_: int) -> dict[str, Any]:
    """The task of a region."""
    of, which = divmod(id_ - 1, REGIONS_EACH)
    data = {
        region_tasks.TASK: of + 1,
        region_tasks.REGION: f"r{which}",
        "image": f"/{of + 1}.png",
        "x": 5 * which,
    }
    return {"id": id_, "data": {**data, "y": 0, "width": 5, "height": 50}}


class Picture(BaseHTTPRequestHandler):
    """Answers every address with the same picture."""

    content = png(np.zeros((8, 8)))

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args: Any) -> None:
        pass


def stand_in(connection: Any, crops: int, port: int) -> None:
    """Stand in for Label Studio until the other end is closed."""
    pictures = ThreadingHTTPServer(("127.0.0.1", port), Picture)
    threading.Thread(target=pictures.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{pictures.server_port}"
    server = LargeStandIn(Tasks(crops, address))
    connection.send((server.url, pictures.server_port))
    while (asked := connection.recv()) is not None:
        connection.send(server.annotate(asked, class_of(asked), updated_at="2026-02-01T00:00:00.000000Z"))


@contextmanager
def label_studio(crops: int, port: int) -> Iterator[tuple[str, int, Callable[[int], dict[str, Any]]]]:
    """A stand-in in a process of its own: its address, that of the pictures, and what annotates a task."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=stand_in, args=(there, crops, port), daemon=True)
    process.start()

    def annotate(task: int) -> dict[str, Any]:
        here.send(task)
        return dict(here.recv())

    try:
        yield (*here.recv(), annotate)
    finally:
        here.send(None)
        process.join(10)
        process.kill()
