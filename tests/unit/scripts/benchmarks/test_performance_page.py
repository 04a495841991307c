"""`everylabel benchmark --pool --out` writes its figures into a page, and leaves alone what stands around them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everylabel.scripts.benchmarks import performance_page
from everylabel.scripts.benchmarks.performance_tables import (
    EXTRAPOLATED,
    largest_round,
    request_ratios,
    why_not,
)
from everylabel.scripts.generated_text import END, insert, start

DOCS = Path(__file__).resolve().parents[4] / "docs"
MACHINE = {
    "processor": "Some processor",
    "cores": 2,
    "memory_bytes": 25_000_000_000,
    "load_before": 0.1,
    "load_after": 1.5,
    "others": 0.02,
    "stolen": 0.0,
    "seconds": 100.0,
}


def parts() -> dict:
    """Figures of every part, with one strategy out of time and one out of memory."""
    shape = {"name": "384", "dim": 384, "standardized": 0}
    phases = {"train": 0.1, "score": 0.1, "select": 0.1, "pseudo_label": 0.1, "audit": 0.01}
    cost = {"seconds": 0.5, "processor_seconds": 0.6, "phases": phases, "peak_bytes": 9e8, "file_bytes": 7e8}
    rounds = [{"crops": n, "batch": b, **cost} for n in (1000, EXTRAPOLATED) for b in (5, 50, 200, 500)]
    scan = {"seconds": 0.2, "processor_seconds": 0.3, "copy_seconds": 0.1, "copy_again_seconds": 0.05}
    scoring = [{"crops": n, "file_bytes": 7e8, **scan} for n in (1000, EXTRAPOLATED)]
    given = {"batch": 50, "score_seconds": None, "note": ""}
    classic = [
        {"name": f"classic hybrid, {k} x batch", "score_seconds": 1.0, "select_seconds": 3.0} for k in (3, 10)
    ]
    chosen = [
        ("auto", 1000, 0.01),
        ("auto", 10_000, 0.02),
        ("classic hybrid, 3 x batch", 1000, 0.2),
        ("Badge", 1000, 1.0),
    ]
    stopped = [
        ("Badge", "more than 60 s"),
        ("MaxHerding", "MemoryError: Unable to allocate 74.5 GiB for an array"),
    ]
    choosing = [{**given, "name": name, "crops": n, "select_seconds": s} for name, n, s in chosen]
    choosing += [
        {**given, "name": name, "crops": 10_000, "select_seconds": None, "note": note}
        for name, note in stopped
    ]
    path = {"name": "encodes", "page": 250, "tasks": 1000, "seconds": 4.0, "tasks_per_second": 250.0}
    rates = {"bare": [500.0], "at_most": [550.0], "pipeline": [450.0], "processor_ms": [3.0, 3.0, 4.0]}
    about = {
        "encoder": "efficientnet-lite0",
        "device_name": "2 CPU cores",
        "crops": 64,
        "picture": "256 x 256",
    }
    found = {
        "rounds": {
            **{"labels": 100, "classes": 10, "compared": 200},
            "pools": [{**shape, "rounds": rounds, "scoring": scoring, "classic": classic, "ratios": {}}],
        },
        "strategies": {
            **shape,
            "batch": 50,
            "seconds_given": 60.0,
            "bytes_given": 10 << 30,
            "choosing": choosing,
        },
        "requests": {"version": "2.0.1", "paths": [path]},
        "embedding": {**about, **rates, "ratios": [0.9], "ratios_at_most": [0.8]},
    }
    return {
        name: {"command": f"everylabel benchmark {name}", "machine": MACHINE, **part}
        for name, part in found.items()
    }


def test_a_page_gets_its_figures_between_its_comments_and_keeps_the_rest(tmp_path):
    page = tmp_path / "performance.md"
    words = "# Performance\n\nBefore.\n\n{}\nold figures\n{}\n\nBetween.\n\n{}\n{}\n\nAfter.\n"
    page.write_text(words.format(start("--pool: rounds"), END, start("--embed"), END))
    performance_page.write(parts(), tmp_path)
    text = page.read_text()
    assert "old figures" not in text
    places = [
        text.index(part)
        for part in (
            "Before.",
            "A round on embeddings of 384",
            "Between.",
            "pipeline from JPEG files",
            "After.",
        )
    ]
    assert places == sorted(places)
    assert (
        "Some processor, 2 cores, 25 GB of memory; load average 0.10 before and 1.50 after, other processes on 0.02"
        in text
    )


def test_writing_the_same_figures_twice_changes_nothing(tmp_path):
    performance_page.write(parts(), tmp_path)
    once = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    performance_page.write(parts(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == once
    assert set(once) == {
        "performance.json",
        "performance.md",
        "performance-rounds.png",
        "performance-choosing.png",
    }


def test_a_part_that_is_not_measured_keeps_the_figures_and_the_machine_it_had(tmp_path):
    performance_page.write(parts(), tmp_path)
    again = {"embedding": {**parts()["embedding"], "machine": {**MACHINE, "processor": "Another"}}}
    performance_page.write(again, tmp_path)
    kept = json.loads((tmp_path / "performance.json").read_text())
    assert kept["requests"]["machine"]["processor"] == "Some processor"
    assert kept["embedding"]["machine"]["processor"] == "Another"
    text = (tmp_path / "performance.md").read_text()
    assert text.count("Another") == 1
    assert text.count("Some processor") == 3


def test_ranking_by_requests_is_extrapolated_and_named_so_beside_the_round_that_was_measured(tmp_path):
    performance_page.write(parts(), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "1,000,000 tasks, extrapolated" in text
    assert "| encodes | 250 | 250 | 1.1 h | 8,000 |" in text
    assert "| everylabel: a round of 50, embeddings of 384 numbers |  |  | 0.50 s, measured | 1 |" in text
    found = request_ratios(parts()["requests"], largest_round(parts()["rounds"]))
    assert list(found.values()) == [8000.0]
    assert "extrapolated" in next(iter(found))


def test_what_did_not_choose_says_why_and_what_did_how_many_times_as_long(tmp_path):
    performance_page.write(parts(), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| scikit-activeml Badge | 1 (100.0 x) | more than 60 s |" in text
    assert "| scikit-activeml MaxHerding | not run | out of memory |" in text
    assert why_not("KeyError: 'x'") == "failed: KeyError"


def test_the_bare_network_of_a_card_stands_beside_what_was_measured_on_one(tmp_path):
    found = parts()
    without = performance_page.sections(found)["--embed"]
    found["embedding"] |= {"forward": [2000.0], "ratios_forward": [0.25], "batch_size": 1024}
    on_a_card = performance_page.sections(found)["--embed"]
    assert "bare network" not in without
    assert "| bare network on the card, batches of 1,024 | 2,000 | 2,000 … 2,000 |  |" in on_a_card
    assert "| pipeline / bare network | **0.25** | 0.25 … 0.25 |  |" in on_a_card


def test_a_part_that_begins_and_does_not_end_is_refused_and_the_page_stays(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"# Performance\n\n{start('--embed')}\nThe rest of the page.\n")
    with pytest.raises(ValueError, match="nothing that ends it"):
        performance_page.write(parts(), tmp_path)
    assert page.read_text().endswith("The rest of the page.\n")


def test_every_part_has_its_place_on_the_page_of_the_docs():
    text = (DOCS / "performance.md").read_text()
    for what in performance_page.sections(parts()):
        assert text.count(start(what)) == 1, f"docs/performance.md has no place for {what}"
        assert END in text.partition(start(what))[2]


def test_the_learning_curves_have_their_place_too():
    assert (DOCS / "learning.md").read_text().count(start("--learning")) == 1


def test_the_page_of_the_docs_is_what_its_results_make_it():
    """Figures between the comments come from performance.json, never by hand."""
    if not (DOCS / "performance.json").exists():
        pytest.skip("the command has not written the docs yet")
    results = json.loads((DOCS / "performance.json").read_text())
    text = page = (DOCS / "performance.md").read_text()
    for what, written in performance_page.sections(results).items():
        text = insert(text, what, written)
    assert text == page
