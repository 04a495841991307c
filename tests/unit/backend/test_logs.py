"""Log lines: a project and a round in each, and no secret in any, nor in a metric, an error or /health."""

from __future__ import annotations

import base64
import io
import json
import logging

import pytest

from everylabel.backend import logs
from everylabel.backend.app import create_app
from everylabel.backend.settings import Settings

API_KEY = "0123456789abcdef"  # what the stand-in accepts
PASSWORD = "pa55word-of-ann"
SECRET = "5ecret-of-32-signs-or-a-few-less"
PAT = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJlLW9mLWl0"
SIGNATURE = "X-Amz-Signature=deadbeef0123"
LOGIN = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
SECRETS = (API_KEY, PASSWORD, SECRET, PAT, SIGNATURE, LOGIN, "url-pa55")


@pytest.fixture
def logged():
    """What is logged, as everylabel serve writes it: call it with a format."""
    stream = io.StringIO()
    root = logging.getLogger()

    def start(form):
        settings = Settings(
            label_studio_api_key=API_KEY,
            basic_auth_user="ann",
            basic_auth_pass=PASSWORD,
            bearer_secret=SECRET,
            log_format=form,
            log_level="DEBUG",
        )
        logs.configure(settings)
        root.handlers[0].setStream(stream)
        return stream

    return start


@pytest.mark.parametrize("form", ["text", "json"])
def test_whatever_a_library_quotes_no_secret_reaches_a_line(logged, form):
    stream = logged(form)
    log = logging.getLogger("a.library")
    log.info("GET http://ann:url-pa55@labels.example/data?d=1 with Authorization: Token %s", API_KEY)
    log.info("sent {'Authorization': 'Basic %s'} and Bearer %s", LOGIN, SECRET)
    log.info("refresh %s, password %s", PAT, PASSWORD)
    try:
        raise ValueError(f"403 for https://bucket.s3.amazonaws.com/crop.png?{SIGNATURE}&X-Amz-Date=1")
    except ValueError:
        log.exception("it failed")
    told = stream.getvalue()
    assert not [secret for secret in SECRETS if secret in told]
    assert "https://bucket.s3.amazonaws.com/crop.png" in told, "what helps to find the fault stays"
    assert "labels.example" in told


def test_json_lines_name_the_project_and_the_round(logged):
    stream = logged("json")
    with logs.about(project=7):
        logging.getLogger("everylabel").info("before")
        with logs.about(round=3):
            logging.getLogger("everylabel").warning("two\nlines")
    logging.getLogger("everylabel").info("after")
    before, inside, after = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (before["project"], before["level"]) == (7, "INFO")
    assert (inside["project"], inside["round"], inside["message"]) == (7, 3, "two\nlines")
    assert "project" not in after


def test_a_round_from_webhook_to_queue_leaves_no_secret_anywhere(
    logged, make_services, stand_in, digit_crops
):
    stream = logged("json")
    services = make_services(basic_auth_user="ann", basic_auth_pass=PASSWORD, bearer_secret=SECRET)
    client = create_app(services).test_client()
    allowed = {"Authorization": f"Bearer {SECRET}"}
    stand_in.add_project(1)
    signed = f"https://127.0.0.1:9/crop.png?{SIGNATURE}"
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:12]), signed)
    services.store.save_project(1, connected=True)
    for task in ids[:4]:
        assert client.post("/webhook", json=stand_in.annotate(task, "0"), headers=allowed).status_code == 201
    services.trainer.learn(1)
    assert services.embedding_lanes.wait_until_idle(15)
    services.trainer.learn(1)
    stand_in.token = "another"
    assert client.post("/webhook", json=stand_in.annotate(ids[5], "1"), headers=allowed).status_code == 201
    services.store.save_project(1, reconciled_at=None)
    services.trainer.learn(1)  # refused, and told

    answers = [
        client.get("/health"),
        client.get("/metrics", headers=allowed),
        client.get("/metrics", headers={"Authorization": f"Basic {LOGIN}x"}),
        client.post(
            "/predict", json={"project": "1.1", "tasks": [{"id": ids[-1], "data": {"image": signed}}]}
        ),
        client.post(
            "/predict",
            json={"project": "1.1", "tasks": [{"id": ids[-1], "data": {"image": signed}}]},
            headers=allowed,
        ),
        client.post("/webhook", data="{", headers=allowed),
        client.get("/versions", headers={"Authorization": f"Bearer {SECRET}x"}),
    ]
    told = stream.getvalue() + "".join(
        answer.text + str(answer.headers) + answer.status for answer in answers
    )
    told += str(services.store.project(1)) + str(services.store.tasks(1, [ids[-1]])[0].problem)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert any(line.get("project") == 1 and line.get("round") == 1 for line in lines)
    assert "refused the token" in told, "the test has reached what it is about"
    assert not [secret for secret in SECRETS if secret in told]
