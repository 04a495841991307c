"""How soon a page of crops to label is there: `python -m tests.measure.label_page_speed [crops]`.

Project 1 has as many crops as said, with a round and a map, in SQLite. A person confirms a page of 24 and asks for
the next, again and again, through the routes as a browser does; Label Studio is a stand-in, and pictures are left out. The
browser asks for the next page while the last is looked at: what is measured is how long that takes, and how long a
confirmation does.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from everylabel.backend.app import create_app
from everylabel.backend.bootstrap import build
from everylabel.backend.settings import Settings
from tests.measure.map_speed import CLASSES, pool
from tests.stand_in_label_studio import TOKEN, StandIn, label_config

PAGES = 30
BASE = "/projects/1/label"


def signed_in(client: FlaskClient) -> dict[str, str]:
    """Sign a person in, and return the headers that a browser sends with what writes."""
    found = re.search(
        'name="page-token" content="([0-9a-f]{64})"', client.get("/", headers={"Accept": "text/html"}).text
    )
    assert found is not None
    headers = {"X-Everylabel-Token": found[1]}
    assert client.post(f"{BASE}/sign-in", json={"token": "anns-token"}, headers=headers).status_code == 200
    return headers


def labelled(
    client: FlaskClient, headers: dict[str, str], kind: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """Return how many milliseconds each page and each confirmation took."""
    given, confirmed = [], []
    for _ in range(PAGES):
        started = time.perf_counter()
        page = client.post(f"{BASE}/pages", json=kind, headers=headers).json["page"]
        given.append(1000 * (time.perf_counter() - started))
        labels = {str(crop["task"]): crop["label"] or CLASSES[0] for crop in page["crops"]}
        started = time.perf_counter()
        answer = client.post(
            f"{BASE}/pages/{page['id']}/confirm", json={"labels": labels, "seconds": 12.0}, headers=headers
        )
        confirmed.append(1000 * (time.perf_counter() - started))
        assert answer.status_code == 200, answer.text
        assert answer.json["confirmed"] == len(labels) == 24
    return given, confirmed


def told(milliseconds: list[float]) -> str:
    """Return the median and the worst of some times."""
    return f"{statistics.median(milliseconds):.0f} ms (worst {max(milliseconds):.0f})"


def main(crops: int) -> None:
    """Measure pages of one class, and of crops alike."""
    with tempfile.TemporaryDirectory() as folder:
        stand_in = StandIn()
        stand_in.add_project(1, label_config(*CLASSES))
        stand_in.people |= {"anns-token": 7}
        settings = Settings(
            model_dir=Path(folder),
            label_studio_url=stand_in.url,
            label_studio_api_key=TOKEN,
            encoder="direct-cnn",
        )
        services = build(settings)
        try:
            pool(services, crops)
            client = create_app(services).test_client()
            headers = signed_in(client)
            given, confirmed = labelled(client, headers, {"kind": "class"})
            print(  # noqa: T201
                f"{crops:,} crops, {PAGES} pages: the next page {told(given)}, a confirmation {told(confirmed)}"
            )
        finally:
            services.store.close()
            stand_in.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
