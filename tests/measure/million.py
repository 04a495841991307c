"""A project of a million crops in every command and on every page: what each costs.

    python -m tests.measure.million --crops 1000000

It builds the project (tasks straight into the store, random embeddings of the default encoder's size, 200 labels),
stands in for Label Studio, runs every command that takes a project in a process of its own, has the map drawn,
starts `everylabel serve`, and asks every route. Of each it prints seconds, seconds of processor, and the most memory
the process held. What Label Studio itself would take (1.1 ms a task it lists) is not in it. The folder takes 5 KB a
crop and is deleted afterwards; `--folder` keeps it, and finds what was built there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from everylabel.backend.bootstrap import build as build_backend
from everylabel.backend.store import Task, pool_map
from tests.everylabel_process import REPOSITORY, EveryLabel, descendants, wait_until
from tests.measure.large_stand_in import CLASSES, CROPS_TO, PICTURES, PROJECT, Tasks, class_of, label_studio
from tests.measure.measured_command import cost
from tests.stand_in_label_studio import TOKEN, label_config

TOGETHER = 20_000
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Cost:
    """What a command or a request took."""

    what: str
    seconds: float
    worked: float
    """Seconds of processor."""
    peak: float
    """Megabytes of memory the process held at most, its program and what it has mapped of the embeddings included."""
    note: str = ""


# --- the project


def build(backend: EveryLabel, tasks: Tasks) -> None:
    """Fill the store and the embedding file."""
    services = build_backend(backend.settings)
    encoder = services.embeddings.encoder(PROJECT)
    services.store.save_project(PROJECT, label_config=label_config(*CLASSES), encoder=encoder.signature)
    random = np.random.default_rng(0)
    centres = 0.3 * random.standard_normal((len(CLASSES), encoder.dim), dtype=np.float32) + 0.5
    path = services.embeddings.file(PROJECT).path
    with path.open("wb") as file:
        for start in range(0, tasks.count, TOGETHER):
            ids = range(start + 1, min(start + TOGETHER, tasks.count) + 1)
            heaps = [int(class_of(id_)) for id_ in ids]
            rows = random.standard_normal((len(ids), encoder.dim), dtype=np.float32) + centres[heaps]
            file.write(np.maximum(rows, 0).astype(encoder.dtype).tobytes())
            services.store.save_tasks(PROJECT, [Task(id_, tasks.plain(id_)["data"]["image"]) for id_ in ids])
            digests = {id_: id_.to_bytes(16, "big") for id_ in ids}
            services.store.save_embedded(PROJECT, {id_: id_ - 1 for id_ in ids}, digests=digests)
    services.store.close()


# --- measuring


@dataclass
class Measured:
    """What was measured, printed as it comes."""

    backend: EveryLabel
    costs: list[Cost]

    def add(self, found: Cost) -> None:
        self.costs.append(found)
        print(  # noqa: T201
            f"{found.what:45}{found.seconds:8.2f} s{found.worked:8.2f} s{found.peak:7.0f} MB  {found.note}",
            flush=True,
        )

    def command(self, *arguments: str, project: int = PROJECT) -> None:
        """Run a command in a process of its own."""
        arguments = (*arguments, "--project", str(project))
        written = self.backend.settings.model_dir.parent / "cost.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.measure.measured_command", str(written), *arguments],
            env=self.backend.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        found = json.loads(written.read_text())
        lines = (done.stdout + done.stderr).strip().splitlines()
        note = lines[-1][:60] if done.returncode else ""
        self.add(Cost(" ".join(arguments), found["seconds"], found["worked"], found["peak"], note))

    def map(self) -> None:
        """Draw the map as the trainer has it drawn."""
        services = build_backend(self.backend.settings)
        file, folder = services.embeddings.file(PROJECT), services.files(PROJECT).folder
        began = time.perf_counter()
        code = (
            # At the usual priority: beside other work it would hardly get on.
            "import os, runpy; from tests.measure.measured_command import cost; os.nice = abs; "
            "runpy.run_module('everylabel.backend.worker.map_drawing', run_name='__main__'); "
            "print(cost()['peak'], sum(os.times()[:4]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(file.path), str(file.dim), file.dtype.str],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=3 * LIMIT_SECONDS,
            check=True,
        )
        peak, worked = map(float, done.stdout.split())
        drawn = pool_map.load(folder)
        note = "" if drawn is None else f"laid out for {drawn.laid_out:,}"
        self.add(Cost("the map, in the background", time.perf_counter() - began, worked, peak, note))
        services.store.close()

    def of_process(self, what: str, pid: int, act: Callable[[], str]) -> None:
        """Do something, and see what a process does meanwhile."""
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak begins anew
        worked, began = _worked(pid), time.perf_counter()
        note = act()
        seconds = time.perf_counter() - began
        self.add(Cost(what, seconds, _worked(pid) - worked, cost(pid)["peak"], note))


def _worked(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def commands(measured: Measured) -> None:
    """Every command that takes a project."""
    measured.command("connect")
    measured.command("connect")
    measured.command("status")
    measured.command("doctor")
    measured.command("rounds")
    measured.command("embed")
    measured.command("sync", "--dry-run")
    measured.command("sync")
    measured.command("accept", "--dry-run", "--min-confidence", "0.9")
    measured.command("accept", "--min-confidence", "0.9")
    measured.command("status")
    measured.command("undo", "--dry-run")
    measured.command("undo")
    measured.command("rollback", "--to", "1")
    measured.command("rollback", "--newest")
    measured.command("regions", "--to", str(CROPS_TO), project=PICTURES)


def served(measured: Measured, annotate: Callable[[int], dict[str, Any]], crops: int) -> None:
    """Every route of a running backend, and a webhook to its round."""
    backend = measured.backend
    store = backend.services.store
    began, worked = time.perf_counter(), 0.0
    backend.start()
    wait_until(lambda: not store.events(PROJECT), "the trainer has looked at the project", LIMIT_SECONDS)
    trainer, web = backend.trainer_pid, _web(backend)
    worked = _worked(trainer)
    measured.add(
        Cost("serve: the trainer's first look", time.perf_counter() - began, worked, cost(trainer)["peak"])
    )
    page = f"/projects/{PROJECT}"
    task = crops // 2
    with httpx.Client(base_url=backend.settings.public_url, trust_env=False, timeout=LIMIT_SECONDS) as client:

        def get(path: str, what: str = "", **headers: str) -> httpx.Response:
            answers: list[httpx.Response] = []

            def ask() -> str:
                answers.append(client.get(path, headers={"Accept": "text/html", **headers}))
                return f"{answers[0].status_code}, {len(answers[0].content):,} bytes"

            measured.of_process(f"GET {path}{what}", web, ask)
            return answers[0]

        def post(path: str, what: str, body: Any) -> None:
            def ask() -> str:
                answer = client.post(path, json=body)
                return f"{answer.status_code}, {len(answer.content):,} bytes"

            measured.of_process(f"POST {path}{what}", web, ask)

        for path in ("/health", "/", page, f"{page}/points", f"{page}/colours"):
            get(path)
            if path.startswith(page):
                get(path, ", again")
        get(page, ", unchanged", **{"If-None-Match": get(page, ", again").headers["ETag"]})
        get(f"{page}/crops/{task}")
        get(f"{page}/crops/{task}", ", again")
        get("/metrics")
        get("/versions")
        asked = {"project": f"{PROJECT}.1", "label_config": label_config(*CLASSES)}
        post("/setup", "", {"project": f"{PROJECT}.1", "schema": label_config(*CLASSES)})
        plain = Tasks(crops, "").plain
        held = {found.id: found.image_url for found in store.tasks(PROJECT, range(task, task + 100))}
        tasks = [{**plain(id_), "data": {"image": url}} for id_, url in held.items()]
        post("/predict", " of a task", {**asked, "tasks": tasks[:1]})
        post("/predict", " of a task, again", {**asked, "tasks": tasks[:1]})
        post("/predict", " of 100 tasks", {**asked, "tasks": tasks})
        for what in ("POST /webhook to its round", "POST /webhook to its round, again"):
            task += 1
            before = backend.number(PROJECT)

            def learn(task: int = task, before: int = before) -> str:
                client.post("/webhook", json=annotate(task)).raise_for_status()
                wait_until(lambda: backend.number(PROJECT) > before, "a round comes", LIMIT_SECONDS)
                found = backend.round(PROJECT)
                return f"{found.model_version}, {sum(found.seconds.values()):.2f} s of learning"

            measured.of_process(what, trainer, learn)
        get(page, ", a new round")
        get("/", ", a new round")
    for name, pid in (("web server", web), ("trainer", trainer)):
        held_now = cost(pid)["holds"]
        measured.add(Cost(f"the {name} at rest holds", 0, 0, held_now))


def _web(backend: EveryLabel) -> int:
    """The process that answers requests: of gunicorn's two, the one that was started by the other."""
    return max(
        pid for pid in descendants(backend.pid) if "gunicorn" in Path(f"/proc/{pid}/cmdline").read_text()
    )


def measure(folder: Path, crops: int) -> list[Cost]:
    """Build the project and measure all of it."""
    os.environ["EVERYLABEL_ALLOW_PRIVATE_ADDRESSES"] = "true"
    built = folder / "built.json"
    known = json.loads(built.read_text()) if built.exists() else {"crops": crops, "port": 0}
    with label_studio(known["crops"], known["port"]) as (url, port, annotate):
        backend = EveryLabel(url, TOKEN, folder)
        measured = Measured(backend, [])
        if not built.exists():
            build(backend, Tasks(crops, f"http://127.0.0.1:{port}"))
            built.write_text(json.dumps({"crops": crops, "port": port}))
        try:
            commands(measured)
            measured.map()
            served(measured, annotate, known["crops"])
        finally:
            backend.stop()
        return measured.costs


def main() -> None:
    """Measure, and print it once more as JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--crops", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="everylabel-million-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        costs = measure(folder, given.crops)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(found) for found in costs], indent=2))


if __name__ == "__main__":
    main()
