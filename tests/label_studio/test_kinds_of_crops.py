"""Boxes on larger pictures, several classes on a crop, and texts: the same loop on a real Label Studio."""

import base64
import io
import random

import httpx
import pytest
from PIL import Image

from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.regions.region_projects import put_back, spread_out
from everylabel.model import label_set
from everylabel.model.exported.model_file import ExportedModel
from everylabel.scripts.commands.connect import connect_project
from tests.conftest import Project
from tests.everylabel_process import EveryLabel

BOXES = """
<View>
  <Image name="sheet" value="$sheet" crop="$x $y $width $height" cropUnit="percent"/>
  <Rectangle name="box" toName="sheet"/>
  <Choices name="digit" toName="sheet">
    <Choice value="0"/><Choice value="1"/><Choice value="2"/><Choice value="3"/>
  </Choices>
</View>
"""
SEVERAL = """
<View>
  <Image name="image" value="$image"/>
  <Choices name="seen" toName="image" choice="multiple">
    <Choice value="even"/><Choice value="above four"/><Choice value="odd"/>
  </Choices>
</View>
"""
REGIONS = """
<View>
  <Image name="photo" value="$sheet"/>
  <RectangleLabels name="part" toName="photo"><Label value="digit"/></RectangleLabels>
  <Choices name="kind" toName="photo" perRegion="true">
    <Choice value="0"/><Choice value="1"/><Choice value="2"/><Choice value="3"/>
  </Choices>
</View>
"""
TEXTS = """
<View>
  <Text name="line" value="$text"/>
  <Choices name="topic" toName="line"><Choice value="cooking"/><Choice value="football"/></Choices>
</View>
"""
COLUMNS, ROWS, CELL = 5, 4, 48


def imported(label_studio, project, tasks):
    answer = label_studio.api(
        "POST", f"/api/projects/{project}/import", params={"return_task_ids": "true"}, json=tasks
    )
    return tuple(int(task) for task in answer["task_ids"])


def annotate(label_studio, task, result):
    return label_studio.api("POST", f"/api/tasks/{task}/annotations/", json={"result": result})


def label_at_once(backend, project, results):
    """People's labels in two calls instead of one each; no mark of ours is on them."""
    client = backend.services.label_studio
    answers = [{"task": task, "result": result} for task, result in results.items()]
    client.import_predictions(project, [{**answer, "model_version": "people"} for answer in answers])
    client.create_annotations(project, list(results), "people")


def picked(label_studio, project, version):
    """What Label Studio pre-fills: the classes of a version's predictions by task, for those that have some."""
    found = {}
    for task, prediction in label_studio.predictions(project, version).items():
        chosen = [r["value"]["choices"] for r in prediction["result"] if r["type"] == "choices"]
        if chosen:
            (found[task],) = chosen
    return found


def stream(label_studio, backend, project, number, result_of):
    """Label the next crops as the label stream serves them, each in its turn."""
    for _ in range(number):
        before = backend.round(project.id)
        task = label_studio.next_task(project.id)
        assert task in {*before.queue, *before.pre_annotated}
        annotate(label_studio, task, result_of(task))
        backend.wait_for_round(project.id, after=before.number)


def right_share(backend, label_studio, project, tasks, label_of):
    """How many of these crops the backend's `/predict` is right about."""
    config = label_studio.api("GET", f"/api/projects/{project.id}/")["label_config"]
    body = {"tasks": [{"id": task} for task in tasks], "project": f"{project.id}.0", "label_config": config}
    answers = httpx.post(f"{backend.settings.public_url}/predict", json=body, timeout=60).json()["results"]
    chosen = [
        next((r["value"]["choices"] for r in answer["result"] if r["type"] == "choices"), [])
        for answer in answers
    ]
    return sum(
        label_set.join(names) == label_of(task) for task, names in zip(tasks, chosen, strict=True)
    ) / len(tasks)


@pytest.fixture(scope="module")
def boxes(label_studio, everylabel_backend, digits):
    """80 digits on four sheets, a task for each digit's box; 24 are labelled before it is connected."""
    few = [i for i, label in enumerate(digits.labels) if label in "0123"][:80]
    tasks, labels = [], []
    for start in range(0, len(few), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL), "gray")
        places = []
        for place, i in enumerate(few[start : start + COLUMNS * ROWS]):
            column, row = place % COLUMNS, place // COLUMNS
            cell = Image.open(digits.images[i]).convert("RGB").resize((CELL - 4, CELL - 4))
            sheet.paste(cell, (column * CELL + 2, row * CELL + 2))
            places.append({"x": 20 * column, "y": 25 * row, "width": 20, "height": 25})
            labels.append(digits.labels[i])
        content = io.BytesIO()
        sheet.save(content, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
        tasks += [{"sheet": uri, **place} for place in places]
    number = label_studio.create_project("boxes on sheets", BOXES)
    ids = imported(label_studio, number, tasks)
    project = Project(number, ids, dict(zip(ids, labels, strict=True)))
    label_at_once(everylabel_backend, number, {task: digit(project.labels[task]) for task in ids[:24]})
    everylabel_backend.connect(number)
    return project, dict(zip(ids, tasks, strict=True))


def digit(label):
    return [{"from_name": "digit", "to_name": "sheet", "type": "choices", "value": {"choices": [label]}}]


def test_each_box_is_a_crop_of_its_own_and_is_learned(label_studio, everylabel_backend, boxes):
    project, _ = boxes
    store = everylabel_backend.services.store
    assert store.count_tasks(project.id) == {"embedded": 80, "missing": 0, "unreadable": 0}
    rest = project.task_ids[24:]
    # Whole sheets look alike for twenty tasks: nobody could be this right about them.
    assert right_share(everylabel_backend, label_studio, project, rest, project.labels.__getitem__) > 0.7


def test_predictions_draw_the_box_in_its_place_also_where_nothing_is_pre_filled(
    label_studio, everylabel_backend, boxes
):
    project, data = boxes
    latest = everylabel_backend.round(project.id)
    shown = label_studio.predictions(project.id, latest.model_version)
    assert shown
    for task, prediction in shown.items():
        drawn = [region for region in prediction["result"] if region["type"] == "rectangle"]
        assert len(drawn) == 1
        assert drawn[0]["from_name"] == "box"
        assert {side: drawn[0]["value"][side] for side in ("x", "y", "width", "height")} == {
            side: data[task][side] for side in ("x", "y", "width", "height")
        }
    filled = picked(label_studio, project.id, latest.model_version)
    assert not set(filled) & set(latest.check), "check crops are blind"
    assert set(latest.pre_annotated) <= set(filled)


def test_a_box_is_labelled_in_the_stream_with_its_box_submitted_along(
    label_studio, everylabel_backend, boxes
):
    project, _ = boxes
    version = everylabel_backend.round(project.id).model_version
    before = len(everylabel_backend.labels(project.id))

    def as_the_form_sends_it(task):
        shown = label_studio.prediction(task, version) or {"result": []}
        return [r for r in shown["result"] if r["type"] == "rectangle"] + digit(project.labels[task])

    stream(label_studio, everylabel_backend, project, 2, as_the_form_sends_it)
    assert len(everylabel_backend.labels(project.id)) == before + 2


def test_a_task_whose_box_is_wrong_is_told_and_never_asked_for(label_studio, everylabel_backend, boxes):
    project, data = boxes
    sheet = data[project.task_ids[0]]["sheet"]
    before = everylabel_backend.round(project.id)
    (wrong,) = imported(
        label_studio, project.id, [{"sheet": sheet, "x": 90, "y": 0, "width": 20, "height": 25}]
    )
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    (task,) = everylabel_backend.services.store.tasks(project.id, [wrong])
    assert "the box is not on the picture: it reaches from 90 to 110 % across" in task.problem
    assert wrong not in after.queue


def test_connect_says_what_a_config_with_boxes_lacks(label_studio, everylabel_backend):
    no_unit = label_studio.create_project("no unit", BOXES.replace(' cropUnit="percent"', ""))
    with pytest.raises(LabelConfigError, match='cropUnit="percent"'):
        connect_project(everylabel_backend.services, no_unit)


def test_each_region_of_a_picture_is_a_crop_and_its_class_comes_back_to_it(
    label_studio, everylabel_backend, boxes
):
    """A detector has drawn twenty regions on each of four pictures."""
    services, (places, data) = everylabel_backend.services, boxes
    sheets, truth = {}, {}
    for number, (task, place) in enumerate(data.items()):
        value = {side: place[side] for side in ("x", "y", "width", "height")}
        rectangle = {"id": f"r{number}", "from_name": "part", "to_name": "photo", "type": "rectanglelabels"}
        value |= {"rotation": 0, "rectanglelabels": ["digit"]}
        size = {"original_width": COLUMNS * CELL, "original_height": ROWS * CELL}
        sheets.setdefault(place["sheet"], []).append({**rectangle, **size, "value": value})
        truth[f"r{number}"] = places.labels[task]
    source = label_studio.create_project("regions on sheets", REGIONS)
    detected = [{"model_version": "detector", "result": drawn} for drawn in sheets.values()]
    tasks = [
        {"data": {"sheet": sheet}, "predictions": [found]}
        for sheet, found in zip(sheets, detected, strict=True)
    ]
    imported(label_studio, source, tasks)

    with pytest.raises(LabelConfigError, match="everylabel regions"):
        connect_project(services, source)
    to, new, left_out = spread_out(services, source, None)
    assert (new, left_out) == (80, 0)
    crops = {task["id"]: task["data"]["region"] for task in label_studio.tasks(to, fields="task_only")}
    names = {"from_name": "kind", "to_name": "image", "type": "choices"}
    known = {task: [{**names, "value": {"choices": [truth[crops[task]]]}}] for task in sorted(crops)[::3]}
    label_at_once(everylabel_backend, to, known)
    everylabel_backend.connect(to)
    assert spread_out(services, source, to) == (to, 0, 0), "none has two tasks"

    classified, pictures = put_back(services, source, to, min_confidence=0.5)
    assert pictures == 4
    assert 27 < classified <= 80
    project = label_studio.api("GET", f"/api/projects/{source}/")
    written = label_studio.predictions(source, project["model_version"])
    right = 0
    for prediction in written.values():
        by_type = {
            kind: {item["id"]: item["value"] for item in prediction["result"] if item["type"] == kind}
            for kind in ("rectanglelabels", "choices")
        }
        assert by_type["rectanglelabels"].keys() == by_type["choices"].keys()
        for region, value in by_type["choices"].items():
            right += value["choices"] == [truth[region]]
    assert right / classified > 0.8
    before = {project["model_version"]}
    for _ in range(2):
        put_back(services, source, to, min_confidence=0.5)
        versions = label_studio.api("GET", f"/api/projects/{source}/model-versions/")
        shown = label_studio.api("GET", f"/api/projects/{source}/")["model_version"]
        assert shown not in before
        assert sorted(versions.values()) == [4, 4, 4], "the detector's, ours, and the one perhaps still open"
        before.add(shown)
    assert project["model_version"] not in versions


@pytest.fixture(scope="module")
def several(label_studio, everylabel_backend, digits):
    """120 digits, of which several things may hold; 60 are labelled before it is connected."""
    project = label_studio.digits_project(digits, 120, "several classes", SEVERAL)
    labelled = {task: things(said_of(project.labels[task])) for task in project.task_ids[:60]}
    label_at_once(everylabel_backend, project.id, labelled)
    everylabel_backend.connect(project.id)
    return project


def said_of(digit):
    names = ["even" if int(digit) % 2 == 0 else "odd"]
    return [*names, "above four"] if int(digit) > 4 else names


def things(names):
    return [{"from_name": "seen", "to_name": "image", "type": "choices", "value": {"choices": names}}]


def test_several_classes_are_learned_and_pre_filled_together(label_studio, everylabel_backend, several):
    latest = everylabel_backend.round(several.id)
    assert set(latest.classes) >= {"above four + even", "above four + odd", "even", "odd"}
    truth = {task: label_set.join(said_of(label)) for task, label in several.labels.items()}
    rest = several.task_ids[60:]
    assert right_share(everylabel_backend, label_studio, several, rest, truth.__getitem__) > 0.5
    filled = picked(label_studio, several.id, latest.model_version)
    assert latest.pre_annotated
    assert set(latest.pre_annotated) <= set(filled)
    assert any(len(names) == 2 for names in filled.values())


def test_several_classes_are_labelled_in_the_stream(label_studio, everylabel_backend, several):
    def as_the_form_sends_it(task):
        return things(said_of(several.labels[task]))

    stream(label_studio, everylabel_backend, several, 1, as_the_form_sends_it)
    held = everylabel_backend.labels(several.id)
    assert len(held) == 61
    assert all(held[task] == label_set.join(said_of(several.labels[task])) for task in held)


@pytest.fixture(scope="module")
def text_backend(label_studio, tmp_path_factory):
    """A backend whose encoder reads texts."""
    home = tmp_path_factory.mktemp("texts")
    backend = EveryLabel(label_studio.url, label_studio.token, home, encoder="all-minilm-l6-v2")
    backend.start()
    yield backend
    backend.stop()


def sentences():
    """60 sentences with their topics, mixed."""
    cooks, dishes = ("My aunt", "The chef", "Our neighbour"), ("soup", "bread", "a stew", "pasta", "curry")
    clubs, deeds = ("The striker", "Our goalkeeper", "The away side"), ("the match", "a penalty", "the cup")
    made = [(f"{who} is cooking {what} with garlic and salt.", "cooking") for who in cooks for what in dishes]
    made += [(f"{who} slowly stirs {what} in a large pan.", "cooking") for who in cooks for what in dishes]
    ways = ("in extra time", "before half-time", "at home")
    made += [(f"{who} decided {what} {how}.", "football") for who in clubs for what in deeds for how in ways]
    random.Random(0).shuffle(made)
    return made


def test_texts_are_learned_asked_for_pre_filled_and_taken_away(label_studio, text_backend, tmp_path):
    lines = sentences()
    number = label_studio.create_project("texts", TEXTS)
    ids = imported(label_studio, number, [{"text": text} for text, _ in lines])
    project = Project(number, ids, dict(zip(ids, (topic for _, topic in lines), strict=True)))

    def topic(task):
        choices = {"choices": [project.labels[task]]}
        return [{"from_name": "topic", "to_name": "line", "type": "choices", "value": choices}]

    label_at_once(text_backend, number, {task: topic(task) for task in ids[:24]})
    text_backend.connect(number)
    stream(label_studio, text_backend, project, 1, topic)
    assert right_share(text_backend, label_studio, project, ids[24:], project.labels.__getitem__) > 0.9
    latest = text_backend.round(number)
    assert latest.n_labels == 25
    filled = picked(label_studio, number, latest.model_version)
    assert latest.pre_annotated
    assert set(latest.pre_annotated) <= set(filled)
    said = text_backend.command("doctor", "--project", str(number))
    assert said.returncode == 0, said.stdout
    assert "is a text of" in said.stdout

    path = tmp_path / "texts.onnx"
    said = text_backend.command("export", "--project", str(number), "-o", str(path))
    assert said.returncode == 0, said.stderr
    exported, text_of = ExportedModel(path), dict(zip(ids, (text for text, _ in lines), strict=True))
    found = exported.predict([exported.prepare_text(text_of[task]) for task in ids]).probabilities
    best = {task: exported.classes[place] for task, place in zip(ids, found.argmax(axis=1), strict=True)}
    assert right_share(text_backend, label_studio, project, ids, best.__getitem__) == 1.0, "as /predict says"


def test_a_backend_of_the_other_kind_says_which_one_is_needed(
    label_studio, everylabel_backend, text_backend, digits
):
    texts = label_studio.create_project("texts, images' backend", TEXTS)
    with pytest.raises(LabelConfigError, match="EVERYLABEL_ENCODER=all-minilm-l6-v2"):
        connect_project(everylabel_backend.services, texts)
    images = label_studio.digits_project(digits, 1, "an image, texts' backend").id
    with pytest.raises(LabelConfigError, match="EVERYLABEL_ENCODER=efficientnet-lite0"):
        connect_project(text_backend.services, images)
