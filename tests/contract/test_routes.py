"""Every route of the ML-backend protocol, called as Label Studio 1.23.2 calls it (`ml/api_connector.py`)."""

from __future__ import annotations

import base64
import json
import re
import threading

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server

from everylabel.backend.app import create_app
from everylabel.backend.auth import basic_login, delivery_secret, webhook_headers
from everylabel.backend.label_studio import request_bodies
from everylabel.backend.ml_backend import UNTRAINED
from everylabel.backend.sync.mirror import Mirror
from tests.stand_in_label_studio import choice, label_config

CREATED = 1_700_000_000
PASSWORD = {"Authorization": "Basic " + base64.b64encode(b"ann:s3cret").decode()}


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def guarded(make_services):
    """A backend that asks for a password, and knows project 1."""
    services = make_services(basic_auth_user="ann", basic_auth_pass="s3cret")
    services.store.save_project(1, label_config=label_config())
    return create_app(services).test_client()


@pytest.fixture
def taught(stand_in, services, project, client):
    """Project 1 after 12 labels, each sent as a webhook, and a round."""
    for task in list(project)[:12]:
        assert client.post("/webhook", json=stand_in.annotate(task, project[task])).status_code == 201
    services.loop.catch_up(1)
    return client


def setup_body(project=1, config=None):
    """As `MLApi.setup`."""
    return {
        "project": f"{project}.{CREATED}",
        "schema": label_config() if config is None else config,
        "hostname": "http://localhost:8080",
        "access_token": "legacy",
        "extra_params": None,
    }


def predict_body(tasks, project=1, context=None):
    """As `MLApi._prep_prediction_req`."""
    return {
        "tasks": tasks,
        "project": f"{project}.{CREATED}",
        "label_config": label_config(),
        "params": {"login": None, "password": None, "context": context},
    }


# --- each route, as Label Studio uses it


def test_health_answers_up(client):
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json["status"] == "UP"


def test_setup_answers_the_model_version_and_remembers_the_config(client, services):
    answer = client.post("/setup", json=setup_body())
    assert (answer.status_code, answer.json) == (200, {"model_version": UNTRAINED})
    assert services.store.project(1).label_config == label_config()


def test_setup_after_a_round_answers_the_models_version(taught, services):
    version = taught.post("/setup", json=setup_body()).json["model_version"]
    assert services.store.latest_round(1).model_version in version


def test_setup_of_a_project_that_classifies_no_image_says_so_where_label_studio_shows_it(client):
    answer = client.post("/setup", json=setup_body(config="<View><Audio name='t' value='$t'/></View>"))
    assert answer.status_code == 400
    assert "needs an <Image>" in answer.json["error"]
    # Label Studio shows the status line (`raise_for_status`) and drops the body.
    assert "needs an <Image>" in answer.status


def test_predict_answers_one_prediction_a_task_in_order(taught, stand_in, project):
    ids = list(project)[12:]
    answer = taught.post("/predict", json=predict_body([stand_in.plain(i) for i in ids]))
    assert answer.status_code == 200
    results = answer.json["results"]
    assert len(results) == len(ids)
    for result in results:
        assert result.keys() == {"result", "score", "model_version"}
        assert result["result"][0]["value"]["choices"][0] in "0123"
        assert 0 <= result["score"] <= 1


def test_predict_takes_the_context_of_an_interactive_annotation(taught, stand_in, project):
    context = {"result": choice("1")}
    body = predict_body([stand_in.plain(1)], context=context)
    assert len(taught.post("/predict", json=body).json["results"]) == 1


def test_predict_of_a_hundred_embedded_tasks(taught, stand_in, project):
    tasks = [stand_in.plain(id_) for id_ in list(project) * 3][:100]
    results = taught.post("/predict", json=predict_body(tasks)).json["results"]
    assert len(results) == 100
    assert results[0] == results[len(project)]


def test_predict_of_nothing_answers_nothing(client):
    assert client.post("/predict", json=predict_body([])).json == {"results": []}


def test_predict_of_a_project_known_by_its_config_alone(client, stand_in, trainer, digit_crops):
    stand_in.add_project(50)
    body = predict_body([{"id": 5, "data": {"image": digit_crops[0][0]}}, {"id": 6, "data": {}}], project=50)
    results = client.post("/predict", json=body).json["results"]
    assert [r["result"] for r in results] == [[], []]
    assert "no image" in results[1]["error"]


def test_webhook_is_answered_while_a_round_runs_with_the_label_on_disk(client, stand_in, services, project):
    body = stand_in.annotate(1, project[1])
    with services.files(1).lock():
        answer = client.post("/webhook", json=body)  # while the round goes on, which ends below
    assert answer.status_code == 201
    assert len(services.store.events(1)) == 1


@pytest.mark.parametrize(
    "action",
    [
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "START_TRAINING",
    ],
)
def test_every_training_webhook_is_taken_in(client, stand_in, services, project, action):
    created = stand_in.annotate(1, "0")
    body = {
        "ANNOTATIONS_CREATED": created | {"annotation": [created["annotation"]], "task": [created["task"]]},
        "ANNOTATIONS_DELETED": stand_in.webhook(action, annotations=[{"id": created["annotation"]["id"]}]),
        "START_TRAINING": stand_in.webhook(action),  # as `MLApi.train`
    }.get(action, created)
    assert client.post("/webhook", json=body | {"action": action}).status_code == 201
    assert [event.action for event in services.store.events(1)] == [action]


def test_versions_are_asked_for_without_a_project(taught, client):
    answer = client.get("/versions")
    assert answer.status_code == 200
    assert answer.json["versions"] == [taught.post("/setup", json=setup_body()).json["model_version"]]


def test_metrics_tell_what_waits_and_what_was_predicted(taught, stand_in, project):
    taught.post("/predict", json=predict_body([stand_in.plain(1), {"id": "x"}]))
    taught.post("/webhook", json=stand_in.annotate(20, "0"))
    text = taught.get("/metrics").text
    assert "everylabel_events_waiting 1.0" in text
    assert 'everylabel_predictions_total{outcome="predicted"} 1.0' in text
    assert 'everylabel_predictions_total{outcome="empty"} 1.0' in text
    assert 'everylabel_labels{project="1"} 12.0' in text


# --- who is let in

ROUTES = [
    ("GET", "/", None),
    ("POST", "/setup", setup_body()),
    ("POST", "/predict", predict_body([])),
    ("POST", "/webhook", {"action": "START_TRAINING", "project": {"id": 1}}),
    ("POST", "/projects/1/classify", {"images": []}),
    ("GET", "/versions", None),
    ("GET", "/openapi.json", None),
    ("GET", "/metrics", None),
]


def test_every_route_is_in_the_list_below(client):
    rules = {rule.rule: rule.endpoint for rule in client.application.url_map.iter_rules()}
    # The page's routes are held to the same in test_page.py.
    protocol = {
        path.replace("<int:project_id>", "1")
        for path, endpoint in rules.items()
        if endpoint.partition(".")[0] not in {"static", "page"}
    }
    assert protocol | {"/"} == {path for _, path, _ in ROUTES} | {"/health"}


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"eve:s3cret").decode()},
        {"Authorization": "Basic not-base64"},
        {"Authorization": "Bearer s3cret"},
        {"Authorization": "Basic \xff\xfe"},
        {"Authorization": "Bearer \xff\xfe"},
        {"Authorization": "Basic " + base64.b64encode("änn:s3cret".encode("latin-1")).decode()},
    ],
)
def test_nobody_gets_in_without_the_password(guarded, method, path, body, headers):
    answer = guarded.open(path, method=method, json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert "everylabel connect" in answer.status
    assert "s3cret" not in answer.text + answer.status


SECRET = "5ecret-of-32-signs-or-a-few-less"


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_a_bearer_secret_opens_every_route_and_nothing_else_does(make_services, method, path, body):
    services = make_services(bearer_secret=SECRET)
    services.store.save_project(1, label_config=label_config())
    client = create_app(services).test_client()

    def status(scheme, told):
        encoded = base64.b64encode(told.encode()).decode() if scheme == "Basic" else told
        return client.open(
            path, method=method, json=body, headers={"Authorization": f"{scheme} {encoded}"}
        ).status_code

    assert status("Bearer", SECRET) < 400
    assert status("Basic", f"everylabel:{SECRET}") < 400, "as Label Studio calls an ML backend"
    wrong = ["", SECRET[:-1], f"{SECRET}x", SECRET.upper()]
    assert {status("Bearer", told) for told in wrong} == {401}
    assert {status("Basic", f"everylabel:{told}") for told in wrong} == {401}
    assert status("Basic", f"ann:{SECRET}") == 401
    assert client.open(path, method=method, json=body).status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_without_a_bearer_secret_an_empty_one_opens_nothing(guarded, method, path, body):
    for headers in (
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic Og=="},
    ):
        assert guarded.open(path, method=method, json=body, headers=headers).status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_with_the_password_every_route_answers(guarded, method, path, body):
    assert guarded.open(path, method=method, json=body, headers=PASSWORD).status_code < 300


@pytest.mark.parametrize(("method", "path", "body"), [route for route in ROUTES if route[0] == "POST"])
def test_a_page_of_another_site_writes_nothing_though_the_browser_sends_its_login_along(
    guarded, method, path, body
):
    def status(site):
        headers = {**PASSWORD, "Sec-Fetch-Site": site}
        return guarded.open(path, method=method, json=body, headers=headers).status

    assert status("cross-site").startswith("403 A page of another site")
    assert status("same-site").startswith("403"), "another port of the same host"
    assert status("").startswith("403")
    assert int(status("same-origin")[:3]) < 300
    assert int(status("none")[:3]) < 300


FOREIGN = [
    "http://evil.example",
    "http://localhost:8000",
    "http://localhost:80:80",
    "null",
    "file://",
    "x",
    "",
]


@pytest.mark.parametrize(("method", "path", "body"), [*ROUTES, ("GET", "/health", None)])
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_reaches_nothing_where_the_browser_names_it_alone(
    guarded, method, path, body, origin
):
    """Chromium says nothing in `Sec-Fetch-Site` to a plain-http name."""
    headers = {**PASSWORD, "Origin": origin}
    answer = guarded.open(path, method=method, json=body, headers=headers)
    assert answer.status.startswith("403 A page of another site"), answer.status


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:9090", "http://localhost:9090"),
        ("localhost", "http://localhost:80"),
        ("127.0.0.1:9090", "http://127.0.0.1:9090"),
        ("[::1]:9090", "http://[::1]:9090"),
        ("pages.example.org", "https://pages.example.org"),
        ("127.0.0.1:9090", "https://pages.example.org"),  # a proxy that names the machine behind it
        ("backend:9090", "http://backend:9090"),
    ],
)
def test_our_own_page_and_any_of_our_names_are_let_in(make_services, host, origin):
    services = make_services(public_url="http://backend:9090", page_url="https://pages.example.org")
    client = create_app(services).test_client()
    body = {"action": "START_TRAINING", "project": {"id": 1}}
    assert client.post("/webhook", json=body, headers={"Host": host, "Origin": origin}).status_code == 201
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_any_route_that_writes_and_is_not_label_studios_asks_for_the_token_of_the_page(make_services, method):
    """One that is yet to come: it has to do nothing for it."""
    app = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret", bearer_secret=SECRET))
    app.add_url_rule("/projects/1/rollback", "rollback", lambda: "done", methods=[method])
    client = app.test_client()
    page = client.get("/", headers={**PASSWORD, "Accept": "text/html"}).text
    token = re.search('<meta name="page-token" content="([0-9a-f]{64})">', page).group(1)

    def status(headers):
        return client.open("/projects/1/rollback", method=method, headers=headers).status_code

    assert status(PASSWORD) == 403
    assert status({**PASSWORD, "X-Everylabel-Token": token[:-1] + "x"}) == 403
    assert status({**PASSWORD, "X-Everylabel-Token": ""}) == 403
    assert status({**PASSWORD, "X-Everylabel-Token": token}) == 200
    assert status({"X-Everylabel-Token": token}) == 401, "it is no login"
    assert status({"Authorization": f"Bearer {SECRET}"}) == 200, "no browser sends that by itself"
    again = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret")).test_client()
    assert token in again.get("/", headers={**PASSWORD, "Accept": "text/html"}).text, "of another worker, too"


REBOUND = ["evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.nip.io:9090", "::1", ""]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize("host", REBOUND)
def test_nobody_calls_the_backend_by_a_name_it_does_not_have(client, services, method, path, body, host):
    """A page whose name now leads here is of our origin, for the browser."""
    answer = client.open(path, method=method, json=body, headers={"Host": host, "Origin": f"http://{host}"})
    if not host:
        assert answer.status_code in {403, 421}
        return
    answer = client.open(path, method=method, json=body, headers={"Host": host})
    assert answer.status_code == 421
    assert "EVERYLABEL_ALLOWED_HOSTS" in answer.status
    assert services.store.events() == []


def test_a_name_that_is_allowed_is_known(make_services):
    client = create_app(make_services(allowed_hosts="Backend, other.example.org")).test_client()
    for host in ("backend:9090", "BACKEND", "other.example.org.", "192.168.0.7:9090", "[fe80::1]:80"):
        assert client.get("/versions", headers={"Host": host}).status_code == 200, host
    assert client.get("/versions", headers={"Host": "another.example.org"}).status_code == 421


def test_health_answers_whatever_name_it_is_asked_by(client):
    assert client.get("/health", headers={"Host": "10-0-0-7.pod.cluster.local"}).status_code == 200


# --- which key opens what

DELIVERY = "a-secret-that-delivers-and-no-more"
DELIVERED = {"/setup", "/predict", "/webhook", "/versions"}


def keys(settings):
    """The headers by which Label Studio uses its key: a webhook's, and those of its calls of an ML backend."""
    login = base64.b64encode(":".join(basic_login(settings)).encode()).decode()
    return [webhook_headers(settings), {"Authorization": f"Basic {login}"}]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize(
    "given",
    [
        {"basic_auth_user": "ann", "basic_auth_pass": "s3cret"},
        {"bearer_secret": SECRET},
        {"basic_auth_user": "ann", "basic_auth_pass": "s3cret", "delivery_secret": DELIVERY},
    ],
)
def test_label_studios_key_delivers_and_opens_nothing_else(make_services, method, path, body, given):
    services = make_services(**given)
    client = create_app(services).test_client()
    for headers in keys(services.settings):
        assert not {"s3cret", SECRET} & set(headers.values())
        answer = client.open(path, method=method, json=body, headers=headers)
        if path in DELIVERED:
            assert answer.status_code < 300
            by_another_name = client.open(
                path, method=method, json=body, headers={**headers, "Host": "other"}
            )
            assert by_another_name.status_code < 300, "Label Studio may know us by a name of its own"
        else:
            assert answer.status_code == 403
            assert "the key that Label Studio delivers with" in answer.status


def test_the_key_label_studio_has_does_not_tell_the_peoples_and_differs_with_it(make_services):
    def key(**given):
        return delivery_secret(make_services(**given).settings)

    mine = key(basic_auth_user="ann", basic_auth_pass="s3cret")
    assert mine == key(basic_auth_user="ann", basic_auth_pass="s3cret"), "the same after a restart"
    assert len(mine) == 64
    others = {
        key(basic_auth_user="ann", basic_auth_pass="s3cret2"),
        key(basic_auth_user="bob", basic_auth_pass="s3cret"),
        key(bearer_secret=SECRET),
    }
    assert len(others) == 3
    assert mine not in others
    assert key(basic_auth_user="ann", basic_auth_pass="s3cret", delivery_secret=DELIVERY) == DELIVERY


def test_a_delivery_secret_of_before_opens_nothing_once_another_is_set(make_services):
    old = make_services(basic_auth_user="ann", basic_auth_pass="s3cret").settings
    new = make_services(basic_auth_user="ann", basic_auth_pass="s3cret", delivery_secret=DELIVERY)
    client = create_app(new).test_client()
    for headers in keys(old):
        assert client.get("/versions", headers=headers).status_code == 401


def test_health_is_open_and_tells_nothing_private(guarded):
    answer = guarded.get("/health")
    assert answer.status_code == 200
    assert answer.json.keys() == {"status", "model_class", "trainer"}


def test_over_a_real_connection_label_studio_shows_why_it_was_refused(make_services):
    app = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        answer = httpx.post(f"{url}/setup", json=setup_body())
        with pytest.raises(httpx.HTTPStatusError, match="401 This backend asks for a user name and password"):
            answer.raise_for_status()
        assert httpx.post(f"{url}/setup", json=setup_body(), auth=("ann", "s3cret")).is_success
        broken = httpx.post(
            f"{url}/setup", json=setup_body(config="<View>\r\nX: 1\x07</View>\n\n"), auth=("ann", "s3cret")
        )
        assert broken.status_code == 400
        assert broken.reason_phrase
    finally:
        server.shutdown()


# --- bad input: 4xx and a reason, never 5xx

HUGE = 10**30
BAD = [
    ("/setup", {}),
    ("/setup", {"project": "1.1"}),
    ("/setup", setup_body() | {"schema": 7}),
    ("/setup", setup_body() | {"schema": "<View"}),
    ("/setup", setup_body() | {"schema": "\ud800"}),
    *[
        ("/setup", setup_body() | {"project": project})
        for project in (None, 0, -1, True, 1.5, "x", "", "1.x", "²", HUGE, str(HUGE), [1], {"id": 1}, "1\n")
    ],
    ("/predict", {}),
    ("/predict", predict_body({})),
    ("/predict", predict_body("all")),
    ("/predict", predict_body([1, 2])),
    ("/predict", predict_body([{"id": 1}]) | {"project": HUGE}),
    ("/predict", predict_body([{"id": 1}]) | {"label_config": "<View/>"}),
    ("/predict", predict_body([{"id": 1}], project=77) | {"label_config": None}),
    ("/predict", predict_body([{"id": 1, "data": {"image": "\udfff.png"}}])),
    ("/webhook", {}),
    ("/webhook", {"action": 7, "project": {"id": 1}}),
    ("/webhook", {"action": "START_TRAINING"}),
    ("/webhook", {"action": "START_TRAINING", "project": {}}),
    ("/webhook", {"action": "START_TRAINING", "project": {"id": HUGE}}),
    ("/webhook", {"action": "START_TRAINING", "project": {"id": [1]}}),
    ("/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": 1}}),
    (
        "/webhook",
        {
            "action": "ANNOTATION_CREATED",
            "project": {"id": 1},
            "annotation": {"id": HUGE, "task": 1},
            "task": {"id": 1},
        },
    ),
    ("/webhook", {"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": "all"}),
]


@pytest.mark.parametrize(("path", "body"), BAD)
def test_bad_input_is_refused_with_a_reason(client, services, path, body):
    answer = client.post(path, data=json.dumps(body), content_type="application/json")
    assert answer.status_code == 400, answer.text
    assert answer.json["error"]
    assert answer.status == f"400 {' '.join(answer.status.split()[1:])}"
    assert services.store.events() == []


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"project": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client, path, content):
    answer = client.post(path, data=content, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]


def test_a_body_that_is_too_large_is_refused_unread(make_services):
    small = create_app(make_services(max_request_megabytes=0.01)).test_client()
    answer = small.post("/webhook", data=b"x" * 20_000, content_type="application/json")
    assert answer.status_code == 413
    assert answer.json["error"]


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/predict", 405), ("GET", "/nowhere", 404)])
def test_wrong_methods_and_addresses_are_answered_in_json(client, method, path, code):
    answer = client.open(path, method=method)
    assert answer.status_code == code
    assert answer.json["error"]


def test_a_fault_of_ours_tells_the_log_and_not_the_caller(client, services, caplog, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("the secret is s3cret")

    monkeypatch.setattr(services.store, "projects", broken)
    answer = client.get("/versions")
    assert answer.status_code == 500
    assert "s3cret" not in answer.text
    assert "s3cret" in caplog.text


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["1", "1.17", 1, HUGE, "\ud800", label_config(), "data:image/png;base64,AAAA"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "data", "image", "label_config", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)
identifiers = st.integers(min_value=-2, max_value=3) | values


def records(**fields):
    return st.fixed_dictionaries({}, optional=fields) | values


ANY = {
    "/setup": records(project=st.sampled_from([1, "1.17"]) | values, schema=st.just(label_config()) | values),
    "/predict": records(
        project=st.sampled_from([1, "1.17"]) | values,
        label_config=st.just(label_config()) | values,
        tasks=st.lists(records(id=identifiers, data=records(image=values)), max_size=3) | values,
        params=records(context=values),
    ),
    "/webhook": records(
        action=st.sampled_from(
            [
                "ANNOTATION_CREATED",
                "ANNOTATIONS_CREATED",
                "ANNOTATIONS_DELETED",
                "TASKS_CREATED",
                "TASKS_DELETED",
            ]
        )
        | values,
        project=records(id=st.just(1) | values, label_config=values),
        annotation=records(id=identifiers, task=identifiers, result=values, updated_at=values),
        annotations=st.lists(records(id=identifiers), max_size=2) | values,
        task=records(id=identifiers, data=values),
        tasks=st.lists(records(id=identifiers, data=values), max_size=2) | values,
    ),
}


@pytest.fixture
def hurried(make_services):
    """A backend without a trainer that waits for none."""
    return make_services(predict_seconds=0.001)


@pytest.mark.parametrize("path", ANY)
def test_no_json_at_all_is_answered_with_a_5xx_or_stops_the_trainer(hurried, path):
    client = create_app(hurried).test_client()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=ANY[path])
    @example(body={"project": 1, "tasks": [{"id": 1}, {"id": 1}], "label_config": label_config()})
    def check(body):
        answer = client.post(path, data=json.dumps(body), content_type="application/json")
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json["error"]

    check()
    for project in hurried.store.projects_with_events():
        known = hurried.store.project(project) or hurried.store.save_project(project)
        Mirror(hurried.store).apply(known, hurried.store.events(project))


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
def test_a_body_made_to_take_memory_is_refused_before_it_is_read(client, path, monkeypatch):
    monkeypatch.setattr(request_bodies, "json", None)
    answer = client.post(
        path, data=b'{"tasks": [' + b"[]," * 2_100_000 + b"0]}", content_type="application/json"
    )
    assert answer.status_code == 400
    assert "lists and objects" in answer.json["error"]
