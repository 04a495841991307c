"""The routes that people label by: who is let in, what a foreign page cannot do, and that no input makes a 5xx."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from everylabel.backend.app import create_app
from everylabel.backend.page.label_routes import COOKIE
from everylabel.backend.page.routes import HEADERS
from everylabel.backend.store.round_snapshot import SuspectedLabel
from everylabel.scripts import cli
from tests.contract.test_page import BROWSER, PASSWORD
from tests.contract.test_routes import values
from tests.stand_in_label_studio import label_config

BASE = "/projects/1/label"
PAGE = "0" * 32
READING = [BASE, f"{BASE}/state"]
WRITING = [
    (f"{BASE}/sign-in", {"token": "anns-token"}),
    (f"{BASE}/sign-out", {}),
    (f"{BASE}/pages", {"kind": "class"}),
    (f"{BASE}/pages/{PAGE}/confirm", {"labels": {"1": "0"}, "seconds": 3}),
    (f"{BASE}/give-back", {"pages": [PAGE]}),
    (f"{BASE}/ask-next", {"tasks": [1]}),
    (f"{BASE}/undo", {}),
]
FOR_PEOPLE_SIGNED_IN = [route for route in WRITING if "/sign-" not in route[0]]


@pytest.fixture
def taught(stand_in, project, teach):
    """Project 1 after 16 labels and a round, and two people."""
    stand_in.people |= {"anns-token": 7, "bobs-token": 8}
    teach(16)
    return project


def page_token(client, headers=BROWSER):
    return re.search(
        '<meta name="page-token" content="([0-9a-f]{64})">', client.get("/", headers=headers).text
    )[1]


class Person:
    """A browser of a person's."""

    def __init__(self, services, token=None, **given):
        self.client = create_app(services).test_client()
        self.headers = {"X-Everylabel-Token": page_token(self.client)}
        if token is not None:
            answer = self.post("sign-in", token=token)
            assert answer.status_code == 200, answer.text

    def post(self, path, **body):
        return self.client.post(f"{BASE}/{path}", json=body, headers=self.headers)


@pytest.fixture
def ann(services, taught):
    return Person(services, "anns-token")


def test_every_route_to_label_by_is_in_the_lists_above(services):
    app = create_app(services)
    rules = [r for r in app.url_map.iter_rules() if r.endpoint.startswith("page.label_")]
    shown = {
        (rule.rule.replace("<int:project_id>", "1").replace("<string:page_id>", PAGE), "POST" in rule.methods)
        for rule in rules
    }
    assert shown == {(path, False) for path in READING} | {(path, True) for path, _ in WRITING}


def test_a_page_is_labelled_from_sign_in_to_undo(services, stand_in, ann):
    given = ann.post("pages", kind="class").json
    page = given["page"]
    assert given["keys"] == {"0": "1", "1": "2", "2": "3", "3": "4"}
    assert page["crops"]
    labels = {str(crop["task"]): crop["label"] for crop in page["crops"]}
    stored = ann.post(f"pages/{page['id']}/confirm", labels=labels, seconds=20).json
    assert (stored["confirmed"], stored["left_out"], stored["waiting"]) == (len(labels), 0, len(labels))
    assert ann.post(f"pages/{page['id']}/confirm", labels={}, seconds=1).json == stored, "sent twice"
    assert services.labelling.sender.send(1)
    state = ann.client.get(f"{BASE}/state").json
    assert state == {"waiting": 0, "trouble": []}
    again = ann.post("undo").json
    assert [crop["task"] for crop in again["page"]["crops"]] == [crop["task"] for crop in page["crops"]]
    assert ann.post("pages", kind="class", resume=again["page"]["id"]).json["page"] == again["page"]
    assert ann.post("undo").json["page"] is None


def test_a_page_of_the_crops_like_one_says_which_and_how_it_is_labelled(services, taught, ann):
    seed, other = next(iter(taught)), ann.post("pages", kind="class").json["page"]
    assert other["like"] is None
    ann.post("give-back", pages=[other["id"]])
    page = ann.post("pages", kind="like", like=seed).json["page"]
    assert (page["kind"], page["class_name"]) == ("like", None)
    assert (page["like"]["task"], page["like"]["label"]) == (seed, taught[seed])
    assert {crop["label"] for crop in page["crops"]} == {None}
    open_one = page["crops"][0]["task"]
    ann.post(f"pages/{page['id']}/confirm", labels={str(open_one): "2"}, seconds=9)
    bob = Person(services, "bobs-token")
    like_it = bob.post("pages", kind="like", like=open_one).json["page"]["like"]
    assert like_it["label"] == "2", "though Label Studio does not have it yet"
    refused = ann.post("pages", kind="like", like=10**6)
    assert refused.status_code == 409
    assert "not in this project any more" in refused.json["error"]


def test_a_page_of_suspect_labels_tells_the_label_and_what_is_suggested(services, ann, taught, monkeypatch):
    task = next(iter(taught))
    found = replace(
        services.labelling.pool_files.snapshot(1), suspected=(SuspectedLabel(task, taught[task], "2", 0.1),)
    )
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    given = ann.post("pages", kind="suspects").json
    assert given["suspects"] == 1
    (crop,) = given["page"]["crops"]
    assert (crop["label"], crop["given"], crop["suggested"]) == (None, taught[task], "2")
    stored = ann.post(f"pages/{given['page']['id']}/confirm", labels={str(task): "2"}, seconds=9).json
    assert stored["confirmed"] == 1
    assert ann.post("pages", kind="suspects").json["page"] is None


def test_a_page_that_nobody_looked_at_is_told_on_the_projects_page_and_by_status(
    services, ann, monkeypatch, stand_in
):
    page = ann.post("pages", kind="class").json["page"]
    labels = {str(crop["task"]): crop["label"] for crop in page["crops"]}
    assert ann.post(f"pages/{page['id']}/confirm", labels=labels, seconds=0.1).json["too_fast"]
    wanted = f"annotator 7 confirmed 1 page with {len(labels)} labels faster than anybody can look at them"
    shown = ann.client.get("/projects/1", headers=BROWSER).text
    assert wanted in shown
    assert f'href="{BASE}"' in shown
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    told = CliRunner().invoke(cli.app, ["status", "--project", "1"], env={"COLUMNS": "250"})
    assert wanted in " ".join(told.output.replace("│", " ").split()), "a narrow terminal breaks the line"


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(make_services, taught, services):
    for public_url, secure in (("http://localhost:9090", False), ("https://labels.example.org", True)):
        person = Person(make_services(public_url=public_url))
        (cookie,) = person.post("sign-in", token="anns-token").headers.getlist("Set-Cookie")
        assert cookie.startswith(f"{COOKIE}=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/projects"} <= {*cookie.split("; ")}
        assert ("Secure" in cookie.split("; ")) is secure
        assert "anns-token" not in cookie


def test_the_token_is_in_no_answer_and_no_log(services, taught, caplog):
    caplog.set_level("DEBUG")
    person = Person(services, "anns-token")
    shown = [
        person.client.get(BASE, headers=BROWSER),
        person.post("pages", kind="class"),
        person.post("undo"),
    ]
    assert all("anns-token" not in answer.text + str(answer.headers) for answer in shown)
    refused = person.post("sign-in", token="a-wrong-token-of-anns")
    assert "a-wrong-token" not in refused.text + caplog.text
    odd = person.post("sign-in", token=["a-token-in-a-list"])
    assert odd.status_code == 400
    assert "a-token-in-a-list" not in odd.text + caplog.text
    assert "anns-token" not in caplog.text


@pytest.mark.parametrize(("path", "body"), FOR_PEOPLE_SIGNED_IN)
def test_nobody_writes_without_having_signed_in(services, taught, path, body):
    stranger = Person(services)
    answer = stranger.client.post(path, json=body, headers=stranger.headers)
    assert answer.status_code == 401
    assert "Sign in" in answer.json["error"]
    stranger.client.set_cookie(COOKIE, "x" * 43, path="/projects")
    assert stranger.client.post(path, json=body, headers=stranger.headers).status_code == 401
    assert stranger.client.get(f"{BASE}/state").status_code == 401


@pytest.mark.parametrize(("path", "body"), WRITING)
def test_nothing_is_written_without_the_token_of_the_page(ann, path, body):
    for headers in ({}, {"X-Everylabel-Token": ""}, {"X-Everylabel-Token": "0" * 64}):
        answer = ann.client.post(path, json=body, headers=headers)
        assert answer.status_code == 403
        assert "Load it again" in answer.json["error"]


@pytest.mark.parametrize(("path", "body"), WRITING)
@pytest.mark.parametrize(
    "foreign", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_a_page_of_another_site_writes_nothing(ann, path, body, foreign):
    assert ann.client.post(path, json=body, headers=ann.headers | foreign).status_code == 403


@pytest.mark.parametrize("path", [*READING, *(path for path, _ in WRITING)])
def test_the_password_of_the_page_and_its_name_are_asked_for_as_everywhere(make_services, taught, path):
    client = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret")).test_client()
    method = "GET" if path in READING else "POST"
    assert client.open(path, method=method, json={}, headers=BROWSER).status_code == 401
    rebound = {**BROWSER, **PASSWORD, "Host": "evil.example"}
    assert client.open(path, method=method, json={}, headers=rebound).status_code == 421
    delivery = base64.b64encode(b"everylabel:wrong").decode()
    assert (
        client.open(path, method=method, json={}, headers={"Authorization": f"Basic {delivery}"}).status_code
        == 401
    )


def test_no_answer_lets_a_script_in(ann, services):
    for answer in (ann.client.get(BASE, headers=BROWSER), Person(services).client.get(BASE, headers=BROWSER)):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_token_of_another_project_or_of_nobody_is_told_with_the_way_out(services, stand_in, taught):
    person = Person(services)
    services.store.save_project(2, label_config=label_config())
    answer = person.client.post(
        "/projects/2/label/sign-in", json={"token": "anns-token"}, headers=person.headers
    )
    assert answer.status_code == 403
    assert "may not see project 2" in answer.json["error"]
    assert (
        person.post("sign-in", token="nobodys")
        .json["error"]
        .startswith("Label Studio does not accept this token")
    )
    assert person.client.get("/projects/99/label", headers=BROWSER).status_code == 404


def test_the_form_says_why_a_sign_in_does_not_hold_any_more(make_services, stand_in, services, ann):
    cookie = ann.client.get_cookie(COOKIE, path="/projects").value
    again = Person(make_services())
    again.client.set_cookie(COOKIE, cookie, path="/projects")
    assert "Labelling as" in again.client.get(BASE, headers=BROWSER).text
    del stand_in.people["anns-token"]
    later = Person(make_services())
    later.client.set_cookie(COOKIE, cookie, path="/projects")
    assert "does not accept this token" in later.client.get(BASE, headers=BROWSER).text


def test_the_page_of_another_person_cannot_be_confirmed(services, ann):
    page = ann.post("pages", kind="class").json["page"]
    bob = Person(services, "bobs-token")
    labels = {str(page["crops"][0]["task"]): "0"}
    assert bob.post(f"pages/{page['id']}/confirm", labels=labels, seconds=9).status_code == 404


def test_a_project_that_is_not_labelled_here_is_sent_to_label_studio(services, ann):
    config = label_config().replace("<Choices ", '<Choices perRegion="true" ')
    services.store.save_project(1, label_config=config)
    text = ann.client.get(BASE, headers=BROWSER).text
    assert 'id="hindrance"' in text
    assert "Open the project in Label Studio" in text
    assert ann.post("pages", kind="class").status_code == 409


@pytest.mark.parametrize(
    ("labels", "status", "why"),
    [
        ({"1": ["0"]}, 409, "one class a crop"),
        ({"1": []}, 400, "at least one"),
        ({"1": 0}, 400, "no valid 'labels.1'"),
        ({"1": None}, 400, "no valid 'labels.1'"),
        ({"1": "9"}, 409, "no class '9' any more"),
    ],
)
def test_where_a_crop_has_one_class_its_name_alone_is_a_label(services, ann, labels, status, why):
    page = ann.post("pages", kind="class").json["page"]
    refused = ann.post(f"pages/{page['id']}/confirm", labels=labels, seconds=9)
    assert (refused.status_code, services.store.labels_of_page(page["id"])) == (status, [])
    assert why in refused.json["error"]


anything = st.dictionaries(
    st.sampled_from(
        ["kind", "class_name", "like", "words", "tasks", "pages", "resume", "labels", "seconds", "token"]
    ),
    values,
    max_size=5,
)
likely = {
    "pages": st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["class", "next-batch", "spot-check", "like", "words", "suspects"])
            | values,
            "like": st.integers(1, 50) | values,
            "words": st.text(max_size=500) | values,
            "class_name": st.sampled_from(["0", "9"]) | values,
            "resume": st.just(PAGE) | values,
        },
    ),
    "confirm": st.fixed_dictionaries(
        {},
        optional={
            "labels": st.dictionaries(st.text(max_size=4) | st.integers(-2, 99).map(str), values) | values,
            "seconds": st.floats() | values,
        },
    ),
    "sign-in": st.fixed_dictionaries({}, optional={"token": values}),
    "give-back": st.fixed_dictionaries({}, optional={"pages": st.lists(st.just(PAGE)) | values}),
    "ask-next": st.fixed_dictionaries(
        {}, optional={"tasks": st.lists(st.integers(-1, 50)) | values, "withdraw": st.booleans() | values}
    ),
    "undo": st.fixed_dictionaries({}, optional={"page": st.just(PAGE) | values}),
    "sign-out": st.just({}),
}


@pytest.mark.parametrize("path", ["pages", "confirm", "sign-in", "give-back", "ask-next", "undo", "sign-out"])
def test_no_body_at_all_is_answered_with_a_5xx(services, ann, path, monkeypatch):
    monkeypatch.setattr("everylabel.backend.label_pages.sign_in.TRIES", 10**6)
    page = ann.post("pages", kind="class").json["page"]
    target = f"{BASE}/pages/{page['id']}/confirm" if path == "confirm" else f"{BASE}/{path}"

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=likely[path] | anything | values)
    def check(body):
        content = json.dumps(body)
        answer = ann.client.post(target, data=content, headers=ann.headers, content_type="application/json")
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json["error"]

    check()
    for name in ("%00", "..", "a" * 500, "%F0%9F%98%80"):
        answer = ann.post(f"pages/{name}/confirm", labels={}, seconds=1)
        assert answer.status_code in {401, 404, 405}
