"""Both kinds of token work, and a wrong one is said to be wrong."""

import pytest

from tests.everylabel_process import EveryLabel


@pytest.fixture(scope="module")
def personal_access_token(label_studio):
    return label_studio.api("POST", "/api/token/")["token"]


@pytest.fixture(scope="module")
def project(label_studio, digits):
    return label_studio.digits_project(digits, 12, "tokens")


@pytest.fixture(scope="module")
def with_personal_access_token(label_studio, personal_access_token, tmp_path_factory):
    """A backend that knows the personal access token only."""
    backend = EveryLabel(label_studio.url, personal_access_token, tmp_path_factory.mktemp("pat"))
    backend.start()
    yield backend
    backend.stop()


def test_the_loop_runs_with_a_personal_access_token(label_studio, with_personal_access_token, project):
    backend = with_personal_access_token
    connect = backend.command("connect", "--project", str(project.id))
    assert connect.returncode == 0, connect.stderr
    task = label_studio.next_task(project.id)
    label_studio.annotate(task, project.labels[task])
    latest = backend.wait_for_round(project.id, labels=1)
    assert label_studio.next_task(project.id) == latest.queue[0]
    assert not any(found.problem for found in backend.services.store.tasks(project.id))


def test_where_legacy_tokens_are_off_only_the_personal_one_works(
    label_studio, everylabel_backend, with_personal_access_token, project
):
    def legacy_tokens(allowed):
        bearer = {"Authorization": with_personal_access_token.services.label_studio.authorization()}
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": allowed}
        label_studio.api("POST", "/api/jwt/settings", json=settings, headers=bearer)

    legacy_tokens(False)
    try:
        refused = everylabel_backend.command("sync", "--project", str(project.id), "--dry-run")
        works = with_personal_access_token.command("sync", "--project", str(project.id), "--dry-run")
    finally:
        legacy_tokens(True)
    assert refused.returncode == 1
    assert "Label Studio refused the token (401). Create a personal access token" in refused.stderr
    assert works.returncode == 0, works.stderr


@pytest.mark.parametrize("wrong", ["0" * 40, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.bm90IG9uZQ", ""])
def test_a_wrong_token_is_said_to_be_wrong(everylabel_backend, project, wrong):
    said = everylabel_backend.command("connect", "--project", str(project.id), LABEL_STUDIO_API_KEY=wrong)
    assert said.returncode == 1
    assert "Create a personal access token under Account & Settings" in said.stderr
    assert "LABEL_STUDIO_API_KEY" in said.stderr
    assert "Traceback" not in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
