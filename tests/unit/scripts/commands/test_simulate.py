"""`everylabel simulate` on real crops: what it measures, writes and says when it cannot."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from everylabel.backend.settings import Settings
from everylabel.model import encoders
from everylabel.model.session import ActiveLearningSession
from everylabel.scripts.cli import app
from everylabel.scripts.cli.simulate import LIVE_SHARE
from everylabel.scripts.replay import embedding_cache, labelled_data
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.labelled_data import load, split_sources, thin
from everylabel.scripts.replay.learning_curves import (
    Interval,
    Summary,
    interval,
    labels_needed,
    labels_saved,
)
from everylabel.scripts.replay.learning_tables import audit_table, table
from everylabel.scripts.replay.names import BASELINE
from everylabel.scripts.replay.replay import Task, balanced_accuracy, flip, hold_out, replay


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """120 threes and eights as an .npz."""
    path = tmp_path_factory.mktemp("data") / "pair.npz"
    bunch = load_digits()
    kept = np.flatnonzero(np.isin(bunch.target, (3, 8)))[:120]
    np.savez(path, x=(bunch.images[kept] * 15).astype(np.uint8), y=bunch.target[kept])
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def simulate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    return result.exit_code, result.output


def run(crops, cache, out, *more: object) -> dict:
    code, output = simulate(
        "--data", crops, "--cache", cache, "--seeds", 2, "--budget", 20, "--json", out, "--jobs", 1, *more
    )
    assert code == 0, output
    return json.loads(out.read_text())


class TestResults:
    def test_the_json_has_the_promised_form(self, crops, cache, tmp_path):
        found = run(crops, cache, tmp_path / "out.json", "--strategy", "auto,margin")["results"]
        assert [entry["strategy"] for entry in found] == ["auto", "margin", "random"]
        for entry in found:
            assert set(entry) == {
                "data", "strategy", "encoder", "seeds", "accuracy", "aulc",
                "gain", "gain_low", "gain_high", "labels_saved",
                "audit_auroc", "audit_precision",
            }  # fmt: skip
            assert entry["data"] == "pair"
            assert entry["seeds"] == 2
            assert set(entry["accuracy"]) == {"5", "10", "20"}
            assert all(0.4 < value <= 1 for value in entry["accuracy"].values())
            assert entry["gain_low"] <= entry["gain"] <= entry["gain_high"]
        auto, _, random = found
        assert random["gain"] == random["labels_saved"] == 0
        assert auto["gain"] == pytest.approx(auto["aulc"] - random["aulc"], abs=1e-4)

    def test_jobs_change_nothing_but_the_time(self, crops, cache, tmp_path):
        one = run(crops, cache, tmp_path / "one.json")
        two = run(crops, cache, tmp_path / "two.json", "--jobs", 2)
        for results in (one, two):
            for entry in results["details"]:
                del entry["slowest_selection_seconds"]
        assert one["results"] == two["results"]
        assert one["details"] == two["details"]

    def test_the_curves_are_drawn(self, crops, cache, tmp_path):
        pytest.importorskip("matplotlib")
        run(crops, cache, tmp_path / "out.json", "--plot", tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as image:
            assert image.width > 300

    def test_wrong_answers_bring_the_audit_into_the_report(self, crops, cache, tmp_path):
        noisy = run(crops, cache, tmp_path / "out.json", "--label-noise", 0.2, "--budget", 60)
        auto = noisy["results"][0]
        assert auto["audit_auroc"] > 0.6
        assert 0 < auto["audit_precision"] <= 1

    def test_pseudo_labels_can_be_trained_on(self, crops, cache, tmp_path):
        off = run(crops, cache, tmp_path / "off.json", "--budget", 40)
        on = run(crops, cache, tmp_path / "on.json", "--budget", 40, "--pseudo-labels", "on")
        assert off["results"][0]["accuracy"] != on["results"][0]["accuracy"]


class TestTables:
    def test_names_and_the_gain_hold_at_80_columns(self):
        gain = Interval(0.041, 0.032, 0.05)
        summaries = [
            Summary(
                *("solar-cells", strategy, "efficientnet-lite0", 10, np.array([10, 25, 50, 100])),
                *((Interval(0.8, 0.7, 0.9),) * 4, 0.9, gain, {}, 3.0, 1.0, 0.91, 0.82, 0.1),
            )
            for strategy in ("margin", BASELINE)
        ]
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(table(summaries))
        results = console.export_text()
        assert any(line.endswith("saved ┃") for line in results.splitlines())
        console.print(audit_table(summaries))
        audit = console.export_text()
        assert all(text in results for text in ("margin", "random", "+4.1", "(+3.2", "+5.0)", "80.0", "90.0"))
        assert all(text in audit for text in ("solar-cells", "margin", "AUROC", "0.91", "precision", "0.82"))


class TestReplay:
    def test_it_runs_the_session_round_by_round_in_whole_batches(self):
        bunch = load_digits()
        rows, labels = bunch.data[:200].astype(np.float32), tuple(bunch.target[:200].astype(str))
        encoder = encoders.create()
        curve = replay(Task(labels=labels, budget=33, seed=3), rows, encoder.make_classifier)
        assert curve.n_labels == (5, 10, 15, 20, 25, 30, 33)
        session = ActiveLearningSession(
            rows, classifier=encoder.make_classifier(), train_on_pseudo_labels=False, seed=3
        )
        while len(session.labels) < 30:
            found = session.run_round()
            asked = [*found.check, *found.batch][:5]
            session.add_labels(asked, [labels[index] for index in asked])
        found = session.run_round()
        free = [index for index in range(200) if index not in session.labels]
        guesses = np.asarray(found.classes)[found.probabilities[free].argmax(axis=1)]
        assert curve.accuracy[5] == pytest.approx(balanced_accuracy(np.asarray(labels)[free], guesses))

    def test_crops_held_out_are_never_asked_for_and_hold_every_class(self):
        labels = np.array(["a"] * 90 + ["b"] * 10)
        held = hold_out(labels, 0.3, seed=0)
        assert held.sum() == 30
        assert (labels[held] == "b").sum() == 3
        assert not np.array_equal(held, hold_out(labels, 0.3, seed=1))

    def test_a_pool_smaller_than_the_budget_is_labelled_up_to_one_crop(self):
        rows = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
        curve = replay(Task(labels=("a", "b") * 6, budget=100), rows, encoders.create().make_classifier)
        assert curve.n_labels == (5, 10, 11)

    def test_flips_are_wrong_and_about_as_many_as_asked(self):
        labels = np.array(["a", "b", "c"])[np.arange(3000) % 3]
        flipped = flip(labels, 0.1, seed=0)
        assert 0.08 < (flipped != labels).mean() < 0.12
        assert set(flipped) == {"a", "b", "c"}


class TestCurves:
    def test_labels_saved_is_what_random_needs_more(self):
        n = np.array([5, 10, 15, 20])
        assert labels_needed(n, np.array([0.5, 0.6, 0.7, 0.8]), 0.65) == pytest.approx(12.5)
        assert labels_saved(
            n, np.array([0.5, 0.7, 0.8, 0.9]), np.array([0.5, 0.5, 0.6, 0.7])
        ) == pytest.approx(10)
        assert labels_saved(n, np.array([0.4, 0.5, 0.5, 0.6]), np.array([0.5, 0.6, 0.7, 0.8])) < 0

    def test_the_interval_is_students(self):
        found = interval(np.array([1.0, 2.0, 3.0]))
        assert found.mean == 2
        assert found.high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3)


class TestEmbeddings:
    def test_a_crop_is_encoded_once_and_an_interrupted_run_goes_on(self, crops, tmp_path, monkeypatch):
        encoder = encoders.create()
        monkeypatch.setattr(embedding_cache, "CHUNK", 50)
        seen: list[int] = []
        plain = encoder.encode

        def failing(batch):
            if len(seen) == 1:
                raise KeyboardInterrupt
            seen.append(len(batch))
            return plain(batch)

        monkeypatch.setattr(encoder, "encode", failing)
        with pytest.raises(KeyboardInterrupt):
            embed(load(str(crops), tmp_path), encoder, tmp_path)
        monkeypatch.setattr(encoder, "encode", lambda batch: seen.append(len(batch)) or plain(batch))
        path = embed(load(str(crops), tmp_path), encoder, tmp_path)
        assert seen == [50, 50, 20]
        rows = np.load(path, allow_pickle=False)
        assert rows.dtype == np.float16
        crop = load(str(crops), tmp_path)
        expected = plain(np.stack([encoder.prepare(crop.open_image(row)) for row in (0, 119)]))
        assert np.allclose(rows[[0, 119]], expected, atol=0.05)
        assert embed(load(str(crops), tmp_path), encoder, tmp_path) == path
        assert seen == [50, 50, 20]


class TestData:
    def test_sources_are_split_at_commas_and_classes_are_kept_together(self):
        given = ["digits,fashion:shirt,coat", "solar-cells"]
        assert split_sources(given) == ["digits", "fashion:shirt+coat", "solar-cells"]

    def test_one_class_is_thinned(self, crops, tmp_path):
        thinned, kept = thin(load(str(crops), tmp_path), "8=10")
        whole = load(str(crops), tmp_path)
        assert thinned.labels.count("3") == whole.labels.count("3")
        assert thinned.labels.count("8") == -(-whole.labels.count("8") // 10)
        assert thinned.labels == tuple(whole.labels[row] for row in kept)
        assert thinned.digest(0) == whole.digest(kept[0])

    def test_a_csv_and_a_folder_of_class_folders_hold_the_same_crops(self, tmp_path):
        lines = ["path,label"]
        for number in range(6):
            path = tmp_path / "crops" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number * 30, 0, 0)).save(path)
            lines.append(f"crops/{'ab'[number % 2]}/{number}.png,{'ab'[number % 2]}")
        (tmp_path / "labels.csv").write_text("\n".join(lines))
        from_csv = load(str(tmp_path / "labels.csv"), tmp_path / "cache")
        from_folder = load(str(tmp_path / "crops"), tmp_path / "cache")
        assert sorted(from_csv.labels) == sorted(from_folder.labels) == ["a"] * 3 + ["b"] * 3
        assert {from_csv.digest(row) for row in range(6)} == {from_folder.digest(row) for row in range(6)}

    def test_the_built_in_digits_have_ten_classes_to_choose_from(self, tmp_path):
        assert set(load("digits:3,8", tmp_path).labels) == {"3", "8"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--data", "nonsense"], "no data set and no file 'nonsense'"),
            (["--data", "digits:3,x"], "has no class 'x'"),
            (["--data", "digits:3"], "one class only"),
            (["--data", "digits", "--keep-every", "8=none"], "CLASS=K"),
            (["--data", "digits", "--strategy", "bogus"], "unknown query strategy 'bogus'"),
        ],
    )
    def test_what_cannot_be_done_is_said_with_the_way_out(self, arguments, says, tmp_path, monkeypatch):
        monkeypatch.setattr("everylabel.scripts.replay.pools.embed", lambda *_: tmp_path)
        code, output = simulate(*arguments, "--cache", tmp_path)
        assert code == 1
        assert says in " ".join(output.split())

    def test_an_npz_is_told_what_it_lacks(self, tmp_path):
        cases = {
            "x and y": {"a": np.zeros(2)},
            "must be uint8": {"x": np.zeros((2, 4, 4)), "y": np.zeros(2)},
            "one label a crop": {"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(3)},
            "Python objects": {"x": np.zeros((2, 4, 4), np.uint8), "y": np.array(["a", None], dtype=object)},
        }
        for says, arrays in cases.items():
            np.savez(tmp_path / "bad.npz", **arrays)
            with pytest.raises(DatasetError, match=says):
                load(str(tmp_path / "bad.npz"), tmp_path)

    def test_a_missing_package_is_named_with_its_command(self, tmp_path, monkeypatch):
        monkeypatch.setattr(labelled_data, "FASHION_FOLDERS", (tmp_path / "nowhere",))
        with pytest.raises(DatasetError, match="apt-get install dataset-fashion-mnist"):
            load("fashion", tmp_path)
        monkeypatch.setattr(labelled_data, "find_spec", lambda _: None)
        with pytest.raises(DatasetError, match="pip install --no-deps animal-mnist"):
            load("animals", tmp_path)


def test_estimates_are_simulated_with_as_many_pre_filled_crops_as_the_live_loop_shows():
    assert Settings.model_fields["pre_annotated_share"].default == LIVE_SHARE
