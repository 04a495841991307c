"""Both kinds of token work, and a wrong one is said to be wrong."""

import pytest

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import TokenRefusedError


@pytest.fixture(scope="module")
def project(label_studio, digits):
    return label_studio.digits_project(digits, 12, "tokens")


def test_the_loop_runs_with_a_personal_access_token(label_studio, guarded_backend, project):
    latest = guarded_backend.connect(project.id)
    assert not any(found.problem for found in guarded_backend.services.store.tasks(project.id))
    task = label_studio.next_task(project.id)
    assert task == latest.queue[0]
    label_studio.annotate(task, project.labels[task])
    latest = guarded_backend.wait_for_round(project.id, labels=1)
    assert label_studio.next_task(project.id) == latest.queue[0]


def test_where_legacy_tokens_are_off_only_the_personal_one_works(
    label_studio, everylabel_backend, guarded_backend, project
):
    def legacy_tokens(allowed):
        bearer = {"Authorization": guarded_backend.services.label_studio.authorization()}
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": allowed}
        label_studio.api("POST", "/api/jwt/settings", json=settings, headers=bearer)

    legacy_tokens(False)
    try:
        refused = everylabel_backend.command("sync", "--project", str(project.id), "--dry-run")
        works = guarded_backend.command("sync", "--project", str(project.id), "--dry-run")
    finally:
        legacy_tokens(True)
    assert refused.returncode == 1
    assert "Label Studio refused the token (401). Create a personal access token" in refused.stderr
    assert works.returncode == 0, works.stderr


WRONG = ["0" * 40, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.bm90IG9uZQ", ""]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_token_is_said_to_be_wrong(label_studio, project, wrong):
    with pytest.raises(TokenRefusedError, match="Create a personal access token under Account & Settings"):
        LabelStudio(label_studio.url, wrong).project(project.id)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_token_ends_connect_with_one_line(everylabel_backend, project, wrong):
    said = everylabel_backend.command("connect", "--project", str(project.id), LABEL_STUDIO_API_KEY=wrong)
    assert said.returncode == 1
    assert "Create a personal access token under Account & Settings" in said.stderr
    assert "Traceback" not in said.stderr
    assert "LABEL_STUDIO_API_KEY" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
