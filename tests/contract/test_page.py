"""The page's routes: who is let in, what a browser may do with the answers, and that nothing hostile gets through."""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from everylabel.backend.app import create_app
from everylabel.backend.page.routes import HEADERS
from everylabel.backend.store import Annotation, pool_map, round_snapshot
from everylabel.backend.store.pool_files import PoolFiles
from everylabel.model.evaluation.check_set import accuracy_interval
from tests.stand_in_label_studio import label_config

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PASSWORD = {"Authorization": "Basic " + base64.b64encode(b"ann:s3cret").decode()}
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def taught(services, project, teach):
    """Project 1 after 12 labels and a round, with a map."""
    teach(12)
    view = round_snapshot.load(services.files(1).folder)
    pool_map.draw(services.files(1).folder, "rows", services.embeddings.read(1), np.flatnonzero(view.tasks))
    return project


ROUTES = [
    "/",
    "/projects/1",
    "/projects/1/points",
    "/projects/1/colours",
    "/projects/1/crops/1",
    "/static/page/page.css",
]


def test_every_route_of_the_page_is_in_the_list_above(client):
    # Those that people label by are held to the same in test_label_routes.py.
    rules = {
        r.rule
        for r in client.application.url_map.iter_rules()
        if r.endpoint.startswith("page.") and not r.endpoint.startswith("page.label_")
    }
    shown = {rule.replace("<int:project_id>", "1").replace("<int:task_id>", "1") for rule in rules}
    assert {path.replace("<path:filename>", "page.css") for path in shown} == set(ROUTES)


@pytest.mark.parametrize(
    ("correct", "n", "headline", "words"),
    [
        (2, 2, "17\u2013100", "Too early to rely on."),
        (7, 7, "64\u2013100", "Still a rough figure."),
        (6, 7, "48\u2013100", "Too early to rely on."),
        (45, 50, "90", None),
    ],
)
def test_a_round_of_an_earlier_version_shows_the_count_and_the_interval_until_that_is_narrow(
    client, services, taught, correct, n, headline, words
):
    low, high = accuracy_interval(correct, n)
    check = {"estimate": correct / n, "low": low, "high": high, "n": n}
    latest = services.store.latest_round(1)
    earlier = replace(latest, number=latest.number + 1, check_set=check, accuracy=None)
    services.store.save_round(1, earlier, [])
    page = client.get("/projects/1", headers=BROWSER).text
    assert f'id="accuracy-now">{headline}<small>%' in page
    assert f"right on {correct} of {n}" in page
    assert [said in page for said in ("Too early to rely on.", "Still a rough figure.")] == [
        words == "Too early to rely on.",
        words == "Still a rough figure.",
    ]
    assert f'">{headline}<small>%' in client.get("/", headers=BROWSER).text


STATED = {
    "estimate": 0.93,
    "low": 0.88,
    "high": 0.97,
    "n_crops": 1540,
    "by_class": [
        {
            "name": "crack",
            "recall": {"estimate": 0.91, "low": 0.8, "high": 0.96},
            "precision": {"estimate": 0.95, "low": 0.9, "high": 0.98},
        }
    ],
    "confusions": [{"name": "crack", "predicted": "dirt", "share": 0.04, "crops": 21.0}],
    "contradicted": False,
}
CHECKED = {"estimate": 5 / 6, "low": 0.44, "high": 0.97, "n": 6}


def show(services, **changes):
    latest = services.store.latest_round(1)
    services.store.save_round(1, replace(latest, number=latest.number + 1, **changes), [])


def test_the_headline_is_the_estimate_for_the_crops_nobody_has_labelled(client, services, taught):
    show(services, check_set=CHECKED, accuracy=STATED)
    page = client.get("/projects/1", headers=BROWSER).text
    assert 'id="accuracy-now">93<small>%' in page
    assert "Between 88 and 97 % of the crops nobody has labelled, with 95&nbsp;% confidence" in page
    assert "right on 5 of 6 blind check crops" in page
    assert "crack taken for dirt: about 4 % of all crack, 21 crops" in page
    assert "91&nbsp;%</span> (80 to 96)" in page


def test_an_estimate_that_the_blind_check_crops_contradict_is_no_single_figure(client, services, taught):
    show(services, check_set=CHECKED | {"estimate": 0.5}, accuracy=STATED | {"contradicted": True})
    page = client.get("/projects/1", headers=BROWSER).text
    assert 'id="accuracy-now">88\u201397<small>%' in page
    assert "The blind check crops say otherwise" in page
    assert ">93<small>%" not in client.get("/", headers=BROWSER).text


def test_a_wide_estimate_is_shown_as_an_interval(client, services, taught):
    show(
        services,
        check_set=None,
        accuracy=STATED | {"low": 0.55, "high": 0.98, "by_class": [], "confusions": []},
    )
    page = client.get("/projects/1", headers=BROWSER).text
    assert 'id="accuracy-now">55\u201398<small>%' in page
    assert "Too early to rely on." in page
    assert 'id="class-accuracy"' not in page


def test_check_crops_that_say_otherwise_are_told(client, services, taught):
    show(services, check_set=CHECKED, accuracy=STATED | {"contradicted": True})
    page = client.get("/projects/1", headers=BROWSER).text
    assert "The blind check crops say otherwise" in page


def test_what_the_next_labels_and_a_certificate_would_take_is_told(client, services, taught):
    page = client.get("/projects/1", headers=BROWSER).text
    assert 'id="outlook"' not in page, "one round makes no curve"
    assert re.search(
        r'id="certificate-cost">(No set of crops|Certifying 2% of errors on) .*--max-error 2%', page
    )
    for labels in (10, 20, 30, 40, 50):
        accuracy = STATED | {
            "estimate": 0.95 - 2 / labels,
            "low": 0.92 - 2 / labels,
            "high": 0.98 - 2 / labels,
        }
        show(services, n_labels=labels, accuracy=accuracy)
    page = client.get("/projects/1", headers=BROWSER).text
    assert re.search(r'id="outlook">The next 50 labels buy about \d+\.\d points of accuracy\.<', page)


def test_labels_of_one_class_show_no_accuracy(client, services, taught):
    check = {"estimate": 1.0, "low": 0.2, "high": 1.0, "n": 2}
    latest = services.store.latest_round(1)
    services.store.save_round(
        1, replace(latest, number=latest.number + 1, check_set=check, classes=("0",)), []
    )
    services.store.save_project(1, model_round=None)
    page = client.get("/projects/1", headers=BROWSER).text
    assert 'id="accuracy-now">\u2013<' in page
    assert "There is no model to measure yet." in page


def test_an_annotation_without_a_class_is_shown_with_the_label_it_had(
    client, services, stand_in, taught, send
):
    first = stand_in.tasks[1]["annotations"][0]["id"]
    assert "without a class" not in client.get("/projects/1", headers=BROWSER).text
    send(stand_in.update(first, None))
    services.loop.catch_up(1)
    page = client.get("/projects/1", headers=BROWSER).text
    assert (
        f"1 without a class, 1 of which had a label, which counts as a skip: task 1 (was {taught[1]})" in page
    )


def test_nobody_sees_anything_without_the_password(make_services, taught):
    guarded = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret")).test_client()
    for path in [*ROUTES, "/projects/99", "/projects/1/crops/99", "/static/page/none"]:
        answer = guarded.get(path, headers=BROWSER)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Basic"), "a browser asks for the password"
        assert "task" not in answer.text
    for path in ROUTES:
        assert guarded.get(path, headers=BROWSER | PASSWORD).status_code == 200, path


def test_no_answer_lets_a_script_in(client, taught):
    for path in [*ROUTES, "/projects/99", "/projects/1/crops/99"]:
        answer = client.get(path, headers=BROWSER)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        if answer.mimetype == "text/html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
            fetched = re.findall(r"""<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]*)""", answer.text)
            assert fetched
            assert all(address.startswith("/") and address[1] != "/" for address in fetched), "no other host"


def test_a_probe_at_the_root_still_gets_the_health_and_a_browser_the_page(client):
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert client.get("/", headers=headers).json["status"] == "UP"
    assert "everylabel connect" in client.get("/", headers=BROWSER).text


def test_a_class_and_a_task_that_are_hostile_are_shown_as_text(stand_in, services, client, digit_crops):
    config = label_config(html.escape(HOSTILE, quote=True), "0")
    stand_in.add_project(1, config)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:20]), "javascript:alert(1)//.png")
    services.store.save_project(1, connected=True)
    for task in ids[:8]:
        stand_in.annotate(task, HOSTILE if task % 2 else "0")
    services.loop.catch_up(1)
    text = client.get("/projects/1", headers=BROWSER).text
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in text
    assert "<img src=x" not in text
    assert client.get(f"/projects/1/crops/{ids[-1]}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/projects/99",
        "/projects/0",
        f"/projects/{10**30}",
        "/projects/1/crops/99",
        f"/projects/1/crops/{10**30}",
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(client, project, path):
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == 404
    assert "text/html" in answer.content_type
    assert client.get(path).json["error"]


def test_nothing_is_sent_again_that_has_not_changed(client, stand_in, services, taught, send):
    for path in ("/", "/projects/1", "/projects/1/points", "/projects/1/colours"):
        tag = client.get(path, headers=BROWSER).headers["ETag"]
        again = client.get(path, headers=BROWSER | {"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
    tag = client.get("/projects/1", headers=BROWSER).headers["ETag"]
    send(stand_in.annotate(20, taught[20]))
    assert client.get("/projects/1", headers=BROWSER | {"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("path", ["/projects/1/points", "/projects/1/colours"])
def test_a_map_drawn_while_one_is_sent_is_asked_for_again(client, services, taught, monkeypatch, path):
    read, folder = PoolFiles.map, services.files(1).folder

    def drawn_meanwhile(self, project_id):
        found = read(self, project_id)
        monkeypatch.undo()
        newer = pool_map.load(folder)
        pool_map.save(folder, replace(newer, positions=newer.positions[::-1].copy()))
        return found

    monkeypatch.setattr(PoolFiles, "map", drawn_meanwhile)
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_a_private_picture_is_kept_by_the_browser_alone(client, taught):
    answer = client.get("/projects/1/crops/1")
    assert answer.mimetype == "image/webp"
    assert "private" in answer.headers["Cache-Control"]
    assert len(answer.data) < 8000


def test_the_map_travels_as_small_numbers_in_one_order(client, services, taught):
    points = client.get("/projects/1/points").data
    colours = client.get("/projects/1/colours").data
    count = int(np.frombuffer(points, "<u4", 1)[0])
    assert count == int(np.frombuffer(colours, "<u4", 1)[0]) == 40
    assert (len(points), len(colours)) == (8 + count * 12, 8 + count * 7)
    tasks = np.frombuffer(points, "<f8", count, 8)
    assert set(tasks) == set(taught)
    labels = np.frombuffer(colours, "<u2", count, 8)
    shown = {int(task): "0123"[code] for task, code in zip(tasks, labels, strict=True) if code != 65535}
    assert shown == {task: taught[task] for task in list(taught)[:12]}


def test_of_a_blind_check_crop_nothing_is_told_before_it_is_labelled(client, services, taught):
    blind = [task for task in services.store.project(1).check_tasks if task not in list(taught)[:12]]
    assert blind
    points, colours = client.get("/projects/1/points").data, client.get("/projects/1/colours").data
    tasks = np.frombuffer(points, "<f8", 40, 8).astype(int).tolist()
    predicted = np.frombuffer(colours, "<u2", 40, 8 + 80)
    for task in tasks:
        assert (predicted[tasks.index(task)] == 65535) == (task in blind)
    text = client.get("/projects/1", headers=BROWSER).text
    for task in blind:
        (shown,) = re.findall(rf'<li id="next-{task}">.*?</li>', text, re.S)
        assert "blind check" in shown
        assert "%" not in shown
        assert f'id="near-{task}"' not in text


def test_colours_and_legend_name_the_same_classes_when_the_labeling_config_cannot_be_read(
    client, services, taught
):
    services.store.save_annotations(1, [Annotation(999, 20, 1, "a class of before", False, "2026-01-01")])
    services.store.save_project(1, label_config="<View/>")
    (named,) = re.findall(r'data-classes="([^"]*)"', client.get("/projects/1", headers=BROWSER).text)
    classes = json.loads(html.unescape(named))
    tasks = np.frombuffer(client.get("/projects/1/points").data, "<f8", 40, 8)
    labels = np.frombuffer(client.get("/projects/1/colours").data, "<u2", 40, 8)
    shown = {int(task): classes[code] for task, code in zip(tasks, labels, strict=True) if code != 65535}
    assert shown == {task: taught[task] for task in list(taught)[:12]} | {20: "a class of before"}


def test_the_map_of_a_text_project_shows_texts_whatever_the_galleries_hold(client, services):
    texts = '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    for number, config, kind in ((1, texts, "text"), (2, label_config(), "image")):
        services.store.save_project(number, connected=True, label_config=config)
        text = client.get(f"/projects/{number}", headers=BROWSER).text
        assert "Nothing waits to be labelled" in text
        assert f'data-kind="{kind}"' in text


def test_what_was_skipped_or_accepted_in_bulk_leaves_the_galleries(client, services, taught):
    shown = re.compile(r'id="(?:next|near)-(\d+)"')
    before = {int(task) for task in shown.findall(client.get("/projects/1", headers=BROWSER).text)}
    skipped, accepted, *left = sorted(before)
    services.store.save_annotations(
        1,
        [
            Annotation(998, skipped, 1, None, True, "2026-01-01"),
            Annotation(999, accepted, None, "0", False, "2026-01-01", accepted=True),
        ],
    )
    now = {int(task) for task in shown.findall(client.get("/projects/1", headers=BROWSER).text)}
    assert {*left} <= now, "others may come in their place"
    assert not {skipped, accepted} & now


def test_people_who_share_crops_are_told_apart_and_second_labels_offered(client, services, taught):
    """Two people label 36 crops both; the second is wrong on every fourth."""
    assert 'id="annotators"' not in client.get("/projects/1", headers=BROWSER).text, "one has labelled alone"
    tasks = sorted(taught)[:36]
    services.store.save_annotations(
        1,
        [
            Annotation(
                10_000 * who + task,
                task,
                who,
                taught[task] if who == 1 or number % 4 else str((int(taught[task]) + 1) % 4),
                False,
                "2026-01-01T00:00:00.000000Z",
            )
            for number, task in enumerate(tasks)
            for who in (1, 8)
        ],
    )
    services.loop.catch_up(1, force=True)
    text = html.unescape(client.get("/projects/1", headers=BROWSER).text)
    table = text[text.index('id="annotators"') : text.index("</table>", text.index('id="annotators"'))]
    assert "75 % (5" in table, "how often they say the same, of the crops that both labelled"
    assert table.count("<tr>") == 3
    offered = {int(task) for task in re.findall(r'id="second-(\d+)"', text)}
    latest = services.store.latest_round(1)
    assert "asks for these now and then" not in text, "the project wants one label a crop"
    services.store.save_round(1, replace(latest, number=latest.number + 1, second_labels=(7,)), [])
    assert (
        "asks for these now and then; the next is task 7." in client.get("/projects/1", headers=BROWSER).text
    )
    wrong = {*tasks[::4]}
    assert offered
    assert len(offered & wrong) > len(wrong) / 2, "crops they disagree on come first"
