"""One answer to what a crop's label is, also where annotators disagree."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.app import create_app
from everylabel.backend.label_studio.acceptance_mark import is_accepted
from everylabel.backend.regions.region_tasks import parse
from everylabel.backend.rounds.labels import counted_annotations, resolve_labels, weigh_disagreements
from everylabel.backend.store import Annotation, ResolvedDisagreement, pool_map
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.session import ActiveLearningSession
from everylabel.scripts import cli
from tests.stand_in_label_studio import choice

CAREFUL, SECOND, CARELESS = 1, 2, 3


def said(id_, task, person, choice):
    return Annotation(
        id_, task, person, choice, cancelled=False, updated_at=f"2026-01-01T00:00:{id_ % 60:02d}Z"
    )


def crowd():
    """Sixty crops of two kinds; one annotator in three errs every other time, and is always the latest."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    pool = (np.random.default_rng(1).standard_normal((2, 32))[codes] + rng.standard_normal((60, 32))).astype(
        "f4"
    )
    truth = {task: "ab"[code] for task, code in enumerate(codes)}
    annotations = []
    for task, right in truth.items():
        wrong = "b" if right == "a" else "a"
        annotations.append(said(len(annotations), task, CAREFUL if task % 3 else SECOND, right))
        annotations.append(said(len(annotations), task, CARELESS, wrong if rng.random() < 0.5 else right))
        if task % 5 == 0:
            annotations.append(said(len(annotations), task, SECOND if task % 3 else CAREFUL, right))
    return annotations, truth, pool


def weighed(annotations, pool, classifier=None):
    rows = {task: task for task in range(len(pool))}
    found = weigh_disagreements(
        counted_annotations(annotations, ("a", "b")), rows, pool, classifier or EmbeddingClassifier()
    )
    return {task: answer.label for task, answer in found.resolved.items()}


def test_the_careful_annotator_is_believed_against_the_careless_one():
    annotations, truth, pool = crowd()
    found = weighed(annotations, pool)
    assert len(found) > 20
    right = sum(truth[task] == label for task, label in found.items())
    assert right > 0.9 * len(found)  # the latest word, which ties go to otherwise, is always wrong here


def test_only_disputed_tasks_are_answered():
    annotations, truth, pool = crowd()
    found = weighed(annotations, pool)
    for task in truth:
        choices = {a.choice for a in annotations if a.task_id == task}
        assert (task in found) == (len(choices) > 1)


def test_one_person_who_changed_their_mind_is_no_dispute():
    pool = np.eye(4, dtype="f4")
    annotations = [said(0, 0, CAREFUL, "a"), said(1, 1, CAREFUL, "b"), said(2, 0, CAREFUL, "b")]
    assert weighed(annotations, pool) == {}


def test_a_crop_without_an_embedding_is_left_to_the_majority():
    annotations = [said(0, 9, CAREFUL, "a"), said(1, 9, CARELESS, "b")]
    assert weighed(annotations, np.eye(4, dtype="f4")) == {}


def answer_to(label, *choices, classes=("a", "b")):
    """The label of task 1 after these choices of annotators 1, 2, ..., where a round decided on `label` for a, b, b."""
    resolved = {1: ResolvedDisagreement(label, {"1": "a", "2": "b", "3": "b"})}
    annotations = [said(n, 1, n, given) for n, given in enumerate(choices, start=1)]
    return resolve_labels(annotations, classes, resolved).get(1)


def test_what_a_round_decided_holds_until_a_vote_changes():
    assert answer_to("a", "a", "b", "b") == "a"
    assert answer_to("a", "b", "b", "b") == "b", "an annotator has changed their mind"
    assert answer_to("a", "a", "b", "b", "b") == "b", "one more annotator has labeled it"
    assert answer_to("a", "a", "b") == "b", "one has deleted their annotation: of equals the most recent"
    assert answer_to("a") is None, "a label needs an annotation"


def test_what_a_round_decided_goes_with_the_class_it_decided_on():
    assert answer_to("c", "a", "b", "b", classes=("a", "b", "c")) == "c"
    assert answer_to("c", "a", "b", "b") == "b"
    assert answer_to("a", "a", "b", "b", classes=("b",)) == "b"


# --- one disagreement, and everybody who is asked about it


PICTURES, CROPS = 1, 2
PER_REGION = """
<View>
  <Image name="photo" value="$photo"/>
  <RectangleLabels name="part" toName="photo"><Label value="digit"/></RectangleLabels>
  <Choices name="kind" toName="photo" perRegion="true">
    <Choice value="0"/><Choice value="1"/><Choice value="2"/><Choice value="3"/>
  </Choices>
</View>
"""
N_CROPS, N_LABELED = 120, 60


@pytest.fixture
def crowded(stand_in, services, digit_crops):
    """Digits as regions of pictures, 60 of 120 labeled by one careful annotator and two careless ones.

    Of the digit 2 there are two labels by the majority: one that all three gave, and that of the disputed crop, which
    the careful annotator alone calls by its right name.

    Returns:
        The disputed task in the project of crops, and its right label.
    """
    control = parse(PER_REGION)
    stand_in.add_project(PICTURES, PER_REGION)
    stand_in.add_project(CROPS, control.config())
    sources = stand_in.add_tasks(PICTURES, *(image for image, _ in digit_crops[:N_CROPS]))
    crops = stand_in.add_tasks(CROPS, *(image for image, _ in digit_crops[:N_CROPS]))
    truth = dict(zip(crops, (label for _, label in digit_crops), strict=False))
    for source, crop in zip(sources, crops, strict=True):
        picture = stand_in.tasks[source]["data"]["image"]
        box = {"x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0}
        drawn = {
            **{"id": "r", "from_name": "part", "to_name": "photo", "type": "rectanglelabels"},
            "value": {**box, "rectanglelabels": ["digit"]},
        }
        stand_in.tasks[source] |= {
            "data": {"photo": picture},
            "predictions": [{"model_version": "detector", "result": [drawn]}],
        }
        stand_in.tasks[crop]["data"] = {"image": picture, **box, "from_task": source, "region": "r"}
    twos = [crop for crop in crops if truth[crop] == "2"]
    labeled = [crop for crop in crops if truth[crop] != "2"][:N_LABELED]
    disputed = labeled[N_LABELED // 2]
    rng = np.random.default_rng(0)
    for crop in [*labeled, twos[0]]:
        others = [name for name in "013" if name != truth[crop]]
        stand_in.annotate(crop, None, completed_by=CAREFUL, result=choice(truth[crop], "kind"))
        for annotator in (SECOND, CARELESS):
            errs = crop in labeled and rng.random() < 0.4
            given = "2" if crop == disputed else others[rng.integers(len(others))] if errs else truth[crop]
            stand_in.annotate(crop, None, completed_by=annotator, result=choice(given, "kind"))
    services.store.save_project(CROPS, connected=True)
    return disputed, truth[disputed]


@pytest.fixture
def command(services, monkeypatch):
    """Runs a command as a person would, on the services' own folder."""
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", services.settings.label_studio_url)
    key = services.settings.label_studio_api_key.get_secret_value()
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*words):
        done = CliRunner().invoke(cli.app, [*map(str, words)])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_label_is_the_same_for_the_round_the_page_and_every_command(
    stand_in, services, crowded, command, monkeypatch
):
    disputed, right = crowded
    learned, add_labels = {}, ActiveLearningSession.add_labels

    def watched(session, rows, labels):
        learned.update(zip(rows, labels, strict=True))
        add_labels(session, rows, labels)

    monkeypatch.setattr(ActiveLearningSession, "add_labels", watched)
    services.loop.catch_up(CROPS)
    tasks, rows = services.store.embedding_rows(CROPS)
    row_of = dict(zip(tasks.tolist(), rows.tolist(), strict=True))
    given = [a.choice for a in services.store.annotations(CROPS) if a.task_id == disputed]
    assert sorted(given) == sorted([right, "2", "2"])

    # The round has learned from the careful annotator's label.
    assert learned[row_of[disputed]] == right
    n_right = sum(label == right for label in learned.values())
    assert list(learned.values()).count("2") == 1
    assert services.store.latest_round(CROPS).single_classes == ("2",)

    # The page counts that label, colours the map by it, and says of which class there is only one.
    pool_map.draw(services.files(CROPS).folder, "rows", services.embeddings.read(CROPS), np.sort(rows))
    client = create_app(services).test_client()
    page = client.get(f"/projects/{CROPS}", headers={"Accept": "text/html"}).text
    assert "Classes with one label: 2:" in page
    points, colours = (client.get(f"/projects/{CROPS}/{what}").data for what in ("points", "colours"))
    (count,) = np.frombuffer(points, "<u4", 1)
    on_map = np.frombuffer(points, "<f8", count, 8).astype(int).tolist()
    coloured = np.frombuffer(colours, "<u2", count, 8)
    assert "0123"[coloured[on_map.index(disputed)]] == right
    assert {task for task, code in zip(on_map, coloured, strict=True) if code == 2} == {
        task for task in on_map if learned.get(row_of[task]) == "2"
    }

    # So does `status`.
    said_by_status = command("status", "--project", CROPS)
    assert f"{right} {n_right}" in said_by_status.split("labels", 1)[1].splitlines()[0]
    assert ", 2 1," in said_by_status
    assert "2: a label error cannot be found among single labels" in said_by_status

    # `regions` writes it back to where the region came from.
    command("regions", "--project", PICTURES, "--to", CROPS, "--back")
    source = stand_in.tasks[disputed]["data"]["from_task"]
    (written,) = [p for p in stand_in.predictions if p["task"] == source and p["model_version"] != "detector"]
    assert [item["value"]["choices"] for item in written["result"] if item["type"] == "choices"] == [[right]]

    # `accept` takes no crop that people have labeled, and none of the class with a single label.
    accepted = command("accept", "--project", CROPS, "--min-confidence", 0.5)
    assert "crop" in accepted
    made = [
        (annotation, task["id"])
        for task in stand_in.tasks.values()
        for annotation in task["annotations"]
        if is_accepted(annotation)
    ]
    assert made
    assert disputed not in {task for _, task in made}
    labels = {
        item["value"]["choices"][0]
        for annotation, _ in made
        for item in annotation["result"]
        if "choices" in item["value"]
    }
    assert labels <= {"0", "1", "3"}
