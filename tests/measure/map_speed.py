"""How fast the map of the pool is: `python -m tests.measure.map_speed [crops]`, in a real Chromium without a GPU.

First paint counts from the click on the page's address to the first picture of the map; a pan is a drag of three
seconds with a step a frame, and its rate is that of the pictures really painted.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, CDPSession, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from everylabel.backend.app import create_app
from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.settings import Settings
from everylabel.backend.store import Annotation, Task, pool_map, round_snapshot
from everylabel.backend.store.pool_map import PoolMap
from everylabel.model.round import Round
from tests.stand_in_label_studio import label_config

CLASSES = tuple("0123456789")
LABELLED = 500
RUNS = 5
PAN_SECONDS = 3
COUNT_PICTURES = """
const paint = CanvasRenderingContext2D.prototype.putImageData;
window.pictures = [];
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  const began = performance.now();
  paint.apply(this, given);
  window.pictures.push(began);
};
"""

PAN = """
(milliseconds) => new Promise((done) => {
  const canvas = document.querySelector(".map-view canvas");
  const box = canvas.getBoundingClientRect();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const mouse = (type, dx, dy) => (type === "mousedown" ? canvas : window).dispatchEvent(
    new MouseEvent(type, { clientX: x + dx, clientY: y + dy, view: window, bubbles: true, cancelable: true }));
  mouse("mousedown", 0, 0);
  window.pictures = [];
  const began = performance.now();
  const step = () => {
    const now = (performance.now() - began) / 400;
    mouse("mousemove", 150 * Math.sin(now), 100 * Math.cos(now));
    if (performance.now() - began < milliseconds) return requestAnimationFrame(step);
    mouse("mouseup", 0, 0);
    done(window.pictures);
  };
  step();
})
"""


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        pass


def pool(services: Backend, crops: int) -> None:
    """Project 1: as many crops in 40 heaps, some labelled, with a round's opinion and a map."""
    random = np.random.default_rng(0)
    services.store.save_project(1, connected=True, label_config=label_config(*CLASSES), encoder="none")
    services.store.save_tasks(1, [Task(i + 1, f"/data/upload/1/{i}.png") for i in range(crops)])
    services.store.save_embedded(1, {i + 1: i for i in range(crops)})
    services.store.save_annotations(
        1,
        [
            Annotation(i + 1, i + 1, 1, CLASSES[i % 10], False, f"2026-01-01T00:00:{i:09.6f}Z")
            for i in random.choice(crops, min(LABELLED, crops), replace=False).tolist()
        ],
    )
    heap = random.integers(0, 40, crops)
    middle = random.uniform(-40, 40, (40, 2))
    probabilities = random.dirichlet(np.full(10, 0.2), crops).astype(np.float32)
    probabilities = np.roll(np.sort(probabilities, axis=1), 1, axis=1)[
        np.arange(crops)[:, None], (np.arange(10) - heap[:, None]) % 10
    ]
    outcome = Round(1, LABELLED, CLASSES, (), (), probabilities, 0.9, (), (), None, {})
    folder = services.files(1).folder
    folder.mkdir(parents=True, exist_ok=True)
    round_snapshot.save(folder, outcome, np.arange(1, crops + 1))
    positions = (middle[heap] + random.normal(0, 3, (crops, 2))).astype(np.float32)
    pool_map.save(
        folder, PoolMap("none", crops, positions, np.zeros((0, 2), np.intp), np.zeros(0, np.float32))
    )


def measure(browser: Browser, url: str) -> tuple[float, float, float, float]:
    """Milliseconds to the first paint; pictures a second of a pan; its longest wait; processor time a picture."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(COUNT_PICTURES)
    page.goto(url)
    page.wait_for_function(
        "() => window.pictures.length && performance.getEntriesByName('map-painted').length"
    )
    first = float(page.evaluate("window.pictures[0]"))
    page.locator(".map-view canvas").scroll_into_view_if_needed()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = busy(session)
    painted = page.evaluate(PAN, PAN_SECONDS * 1000)
    worked = busy(session) - before
    context.close()
    waits = np.diff(painted)
    return first, 1000 * len(waits) / (painted[-1] - painted[0]), float(waits.max()), worked / len(painted)


def busy(session: CDPSession) -> float:
    """Milliseconds of processor time the page's own thread has had, whatever else the machine does."""
    found = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(float(metric["value"]) for metric in found if metric["name"] == "TaskDuration")


def main(crops: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        services = build(Settings(model_dir=Path(home)))
        pool(services, crops)
        server = make_server("127.0.0.1", 0, create_app(services), threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        url = f"http://127.0.0.1:{server.server_port}/projects/1"
        measure(browser, url)  # the server's own first reading of its files is not the browser's
        found = [measure(browser, url) for _ in range(RUNS)]
        first, rate, wait, worked = (list(figures) for figures in zip(*found, strict=True))
        browser.close()
        server.shutdown()
        services.store.close()
    print(  # noqa: T201
        json.dumps(
            {
                "crops": crops,
                "first_paint_ms": {"median": round(statistics.median(first)), "worst": round(max(first))},
                "pan_pictures_per_second": {
                    "median": round(statistics.median(rate), 1),
                    "worst": round(min(rate), 1),
                },
                "longest_wait_ms": round(max(wait)),
                "processor_ms_a_picture": round(statistics.median(worked), 1),
                "runs": RUNS,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
