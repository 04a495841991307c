"""`POST /projects/<id>/classify`: pictures in, what `/predict` would say of them out, within limits."""

from __future__ import annotations

import base64
import io
import threading

import pytest
from PIL import Image

from everylabel.backend import app, classify
from everylabel.backend.app import create_app
from everylabel.backend.classify import MOST_CROPS
from everylabel.model import encoders
from tests.several_classes import several  # noqa: F401 - a fixture
from tests.stand_in_label_studio import label_config

TONES = (
    '<View><Text name="text" value="$words"/><Choices name="tone" toName="text">'
    '<Choice value="praise"/><Choice value="complaint"/></Choices></View>'
)


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def taught(stand_in, services, project, client):
    """Project 1 after 12 labels and a round."""
    for task in list(project)[:12]:
        assert client.post("/webhook", json=stand_in.annotate(task, project[task])).status_code == 201
    services.loop.catch_up(1)
    return client


def ask(client, *images, project=1):
    return client.post(f"/projects/{project}/classify", json={"images": list(images)})


def test_pictures_get_what_predict_says_of_their_crops(taught, stand_in, project):
    tasks = [stand_in.plain(id_) for id_ in list(project)[12:24]]
    urls = [task["data"]["image"] for task in tasks]
    body = {"tasks": tasks, "project": "1.1", "label_config": label_config(), "params": {"context": None}}
    expected = taught.post("/predict", json=body).json["results"]
    answer = ask(taught, *urls)
    assert answer.status_code == 200, answer.text
    files = [(io.BytesIO(base64.b64decode(url.partition(",")[2])), "digit.png") for url in urls]
    uploaded = taught.post("/projects/1/classify", data={"images": files})
    assert uploaded.json == answer.json
    assert answer.json["model_version"].startswith("round ")
    for found, prediction in zip(answer.json["results"], expected, strict=True):
        assert [found["class"]] == prediction["result"][0]["value"]["choices"]
        assert abs(found["confidence"] - prediction["score"]) < 1e-3
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert found["unlike"] is False


def test_of_several_classes_a_crop_the_class_is_a_set_as_in_predict(client, services, stand_in, several):  # noqa: F811
    tasks = [stand_in.plain(id_) for id_ in list(several)[24:36]]
    body = {"tasks": tasks, "project": "1.1", "label_config": stand_in.projects[1]["label_config"]}
    expected = client.post("/predict", json=body | {"params": {"context": None}}).json["results"]
    answer = ask(client, *[task["data"]["image"] for task in tasks])
    assert answer.status_code == 200, answer.text
    for found, prediction in zip(answer.json["results"], expected, strict=True):
        assert found["class"].split(" + ") == prediction["result"][0]["value"]["choices"]
        assert abs(found["confidence"] - prediction["score"]) < 1e-3
    assert any("above one + odd" in found["probabilities"] for found in answer.json["results"])


@pytest.fixture
def texts(make_services, stand_in):
    """A client of a backend for texts, and project 1 after 12 labels and a round: true class by task."""
    name = encoders.DEFAULT_TEXT
    services = make_services(encoder=name, encoder_object=encoders.create(name, device="cpu"))
    stand_in.add_project(1, TONES)
    said = {
        "praise": "We love the {}, it works very well",
        "complaint": "The {} is broken, we want our money back",
    }
    things = ("lamp", "chair", "kettle", "phone", "bicycle", "coat", "tent", "radio", "book", "piano")
    ids = stand_in.add_tasks(1, *[""] * 20)
    truth = dict(zip(ids, [*said] * 10, strict=True))
    for number, id_ in enumerate(ids):
        stand_in.tasks[id_]["data"] = {"words": said[truth[id_]].format(things[number // 2])}
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    client = create_app(services).test_client()
    for id_ in ids[:12]:
        choices = {
            "from_name": "tone",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [truth[id_]]},
        }
        client.post("/webhook", json=stand_in.annotate(id_, None, result=[choices]))
    services.loop.catch_up(1)
    return client, truth


def test_texts_get_what_predict_says_of_them(texts, stand_in):
    client, truth = texts
    tasks = [stand_in.plain(id_) for id_ in list(truth)[12:]]
    body = {"tasks": tasks, "project": "1.1", "label_config": TONES, "params": {"context": None}}
    expected = client.post("/predict", json=body).json["results"]
    words = [task["data"]["words"] for task in tasks]
    answer = client.post("/projects/1/classify", json={"texts": [*words, "  ", words[0] + " \n"]})
    assert answer.status_code == 200, answer.text
    *found, empty, same = answer.json["results"]
    for one, prediction, id_ in zip(found, expected, list(truth)[12:], strict=True):
        assert [one["class"]] == prediction["result"][0]["value"]["choices"] == [truth[id_]]
        assert abs(one["confidence"] - prediction["score"]) < 1e-3
    assert empty == {"error": "The text is empty"}
    assert same == found[0]


def test_pictures_are_refused_where_a_project_has_texts(texts):
    client, _ = texts
    good = "data:image/png;base64,AAAA"
    files = {"images": (io.BytesIO(b"x"), "x.png")}
    for refused in (
        ask(client, good),
        client.post("/projects/1/classify", data=files),
        client.post("/projects/1/classify", json={"texts": ["a"] * (MOST_CROPS + 1)}),
        client.post("/projects/1/classify", json={"texts": ["a"], "images": [good]}),
    ):
        assert (refused.status_code, "texts" in refused.json["error"]) == (400, True), refused.text


def test_pictures_are_asked_for_where_a_project_has_pictures(taught):
    refused = taught.post("/projects/1/classify", json={"texts": ["a"]})
    assert (refused.status_code, '{"images": ["data:image/png;base64,…"]}' in refused.json["error"]) == (
        400,
        True,
    )


def test_a_picture_unlike_the_pool_is_flagged_and_a_bad_one_costs_no_other(taught, stand_in, project):
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 120).convert("RGB").save(noise, "PNG")
    png = "data:image/png;base64,"
    good = stand_in.plain(next(iter(project)))["data"]["image"]
    answer = ask(
        taught,
        png + base64.b64encode(b"no image").decode(),
        good,
        "http://example.org/a.png",
        png + "%%%",
        png + base64.b64encode(noise.getvalue()).decode(),
    )
    broken, fine, address, garbled, unlike = answer.json["results"]
    assert broken.keys() == address.keys() == garbled.keys() == {"error"}
    assert "not an image" in broken["error"]
    assert "data:image/png" in address["error"]
    assert (fine["unlike"], unlike["unlike"]) == (False, True)


def test_what_cannot_be_answered_says_why(taught, services, stand_in, project, monkeypatch):
    good = stand_in.plain(next(iter(project)))["data"]["image"]
    assert ask(taught, good, project=99).status_code == 404
    assert ask(taught, good, project=10**30).status_code == 404
    services.store.save_project(2, label_config=label_config())
    early = ask(taught, good, project=2)
    assert (early.status_code, "two classes" in early.json["error"]) == (409, True)
    many = ask(taught, *[good] * (MOST_CROPS + 1))
    assert (many.status_code, f"up to {MOST_CROPS}" in many.json["error"]) == (400, True)
    for body in ({}, {"images": "x"}, {"images": [1]}, []):
        assert taught.post("/projects/1/classify", json=body).status_code == 400
    form = taught.post(
        "/projects/1/classify", data={"texts": "We love it"}, content_type="multipart/form-data"
    )
    assert (form.status_code, '{"texts": ["…"]}' in form.json["error"]) == (400, True)
    files = [(io.BytesIO(b"x"), "x.png") for _ in range(MOST_CROPS + 1)]
    assert taught.post("/projects/1/classify", data={"images": files}).status_code == 400


def test_a_request_for_nothing_is_checked_as_any_other(taught):
    nothing = [
        taught.post(f"/projects/{project}/classify", json={kind: []})
        for project, kind in ((99, "images"), (1, "texts"), (1, "images"))
    ]
    assert [answer.status_code for answer in nothing] == [404, 400, 200]
    assert nothing[-1].json["results"] == []


def test_an_image_above_the_limit_is_refused_before_it_is_decoded(make_services, stand_in, project, taught):
    small = create_app(make_services(max_image_megabytes=0.0001)).test_client()
    good = stand_in.plain(next(iter(project)))["data"]["image"]
    (found,) = ask(small, good).json["results"]
    assert "EVERYLABEL_MAX_IMAGE_MEGABYTES" in found["error"]


def test_one_request_at_a_time_takes_the_cores_and_the_next_is_told_to_come_back(
    taught, services, stand_in, project, monkeypatch
):
    good = stand_in.plain(next(iter(project)))["data"]["image"]
    monkeypatch.setattr(classify, "PATIENCE", 0.05)
    encoder, entered, go_on = services.embeddings.encoder(1), threading.Event(), threading.Event()
    encode = encoder.encode

    def slow(crops):
        entered.set()
        assert go_on.wait(20)
        return encode(crops)

    monkeypatch.setattr(encoder, "encode", slow)
    first = threading.Thread(target=ask, args=(taught.application.test_client(), good))
    first.start()
    try:
        assert entered.wait(20)
        busy = ask(taught, good)
        assert (busy.status_code, "try again" in busy.json["error"]) == (503, True)
    finally:
        go_on.set()
        first.join()
    assert ask(taught, good).status_code == 200


def test_while_every_place_is_taken_no_body_is_read(services, taught, stand_in, project, monkeypatch):
    monkeypatch.setattr(classify, "MOST_REQUESTS", 1)
    client = create_app(services).test_client()
    good = stand_in.plain(next(iter(project)))["data"]["image"]
    read, entered, go_on = [], threading.Event(), threading.Event()
    crops_in = app.crops_in

    def slow(body):
        read.append(body)
        entered.set()
        assert go_on.wait(20)
        return crops_in(body)

    monkeypatch.setattr(app, "crops_in", slow)
    first = threading.Thread(target=ask, args=(client.application.test_client(), good))
    first.start()
    try:
        assert entered.wait(20)
        assert ask(client, good).status_code == 503
        assert client.post("/projects/1/classify", data=b"no JSON").status_code == 503
        assert len(read) == 1
    finally:
        go_on.set()
        first.join()
    assert ask(client, good).status_code == 200
