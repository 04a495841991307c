"""`everylabel embed` on this machine, and what it says where Ray is not installed."""

import sys

import pytest
from typer.testing import CliRunner

from everylabel.scripts import cli


@pytest.fixture
def run(services, monkeypatch):
    """Runs the command as a person would, on the services' own folder."""
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", services.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", services.settings.label_studio_api_key.get_secret_value())
    return lambda *words: CliRunner().invoke(cli.app, ["embed", "--project", "1", *words])


def test_it_embeds_what_is_new_and_runs_a_round(run, stand_in, services, digit_crops):
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:6]))
    stand_in.annotate(ids[0], digit_crops[0][1])
    answer = run()
    assert answer.exit_code == 0, answer.output
    assert "6 of 6 crops are embedded, 0 cannot be read." in answer.output
    assert "round 1, from 1 labels." in answer.output
    assert len(services.embeddings.read(1)) == 6
    assert "6 of 6 crops" in run().output, "and again, which changes nothing"
    assert len(services.embeddings.read(1)) == 6


def test_without_ray_it_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = run("--engine", "ray")
    assert answer.exit_code == 1
    assert "pip install 'everylabel[ray]'" in " ".join(answer.output.split())
