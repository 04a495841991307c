"""A project begins with the model of an earlier one: the same Label Studio, other crops."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.app import create_app
from everylabel.backend.exporting.export import export_model
from everylabel.backend.label_studio import label_config as label_configs
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.rounds import bulk_accept, earlier_model
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.rounds.earlier_model import EarlierModelError, in_words, take
from everylabel.backend.store import earlier_model as files_of
from everylabel.model.exported.model_file import ExportedModel
from everylabel.scripts import cli
from tests.coarse_encoder import Coarse
from tests.stand_in_label_studio import TOKEN, label_config


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of an exported model, made once."""
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def exported(made, services, request):
    """A model of project 1 after 40 labels, as `everylabel export` writes it."""
    path = made / "model.onnx"
    if not path.exists():
        request.getfixturevalue("teach")(40)
        export_model(services, 1, path)
    return path


@pytest.fixture
def second(stand_in, services, digit_crops):
    """Project 2 with 40 other digits, which nobody has labelled; true class by task."""
    stand_in.add_project(2)
    ids = stand_in.add_tasks(2, *(image for image, _ in digit_crops[40:80]))
    services.store.save_project(2, connected=True)
    services.loop.catch_up(2)
    return dict(zip(ids, (label for _, label in digit_crops[40:80]), strict=True))


def taken(services, path, *classes):
    control = label_configs.parse(label_config(*classes))
    return take(path, 2, services.settings.encoder, services.embeddings, control)


def begin(services, path):
    earlier_model.begin_with(services.store, services.files(2), 2, taken(services, path))
    return services.loop.catch_up(2, force=True)


def predicted(services, stand_in, tasks):
    answers = ActiveLearningBackend(2, parts=services).predict([stand_in.plain(task) for task in tasks])
    return [one["result"][0]["value"]["choices"][0] if one["result"] else None for one in answers]


def label(services, stand_in, send, truth, count, moved=None):
    known = {one.task_id for one in services.store.annotations(2)}
    for task in [task for task in truth if task not in known][:count]:
        send(stand_in.annotate(task, (moved or {}).get(truth[task], truth[task])))
    services.loop.catch_up(2)
    return services.store.latest_round(2)


def test_before_any_label_the_pool_is_predicted(services, stand_in, exported, second):
    assert predicted(services, stand_in, second) == [None] * 40
    finished = begin(services, exported)
    found = predicted(services, stand_in, second)
    assert np.mean([a == b for a, b in zip(found, second.values(), strict=True)]) > 0.8
    assert finished.record.n_labels == 0
    assert finished.record.earlier["share"] == 1
    shown = [*finished.queue.pre_annotated, *(crop for crop in finished.queue.batch if crop.label)]
    assert shown, "what it is confident of is pre-filled"
    assert all(crop.label in "0123" for crop in shown)
    words = in_words(services.store.project(2), services.store.latest_round(2))
    assert words == "model.onnx (project 1, 40 labels): it answers alone: nothing is labelled yet"


def test_the_page_of_a_project_that_began_so_opens(services, exported, second):
    begin(services, exported)
    assert create_app(services).test_client().get("/projects/2").status_code == 200


def test_nothing_is_accepted_in_bulk_of_classes_that_nobody_has_labelled(services, exported, second):
    begin(services, exported)
    assert bulk_accept.acceptable(services, 2, 0.5, 100) == ([], 0)


def test_few_labels_do_not_check_what_an_earlier_model_says_of_their_class(
    services, stand_in, send, exported, second
):
    begin(services, exported)
    record = label(services, stand_in, send, second, 12)
    assert record.earlier["share"] > 0
    assert bulk_accept.acceptable(services, 2, 0.0, 100) == ([], 0), "no class has ten labels"
    earlier_model.forget(services.store, services.files(2), 2)
    services.loop.catch_up(2, force=True)
    accepted, _ = bulk_accept.acceptable(services, 2, 0.0, 100)
    assert accepted


def test_a_forgotten_model_goes_even_if_its_mixture_was_better(
    services, stand_in, send, exported, second, monkeypatch
):
    begin(services, exported)
    mixed = label(services, stand_in, send, second, 12)
    better = replace(mixed, check_set={"estimate": 1.0, "low": 1.0, "high": 1.0, "n": 50})
    monkeypatch.setattr(services.store, "round", lambda *_: better)
    worse = SimpleNamespace(check_set=SimpleNamespace(estimate=0.5))
    is_no_worse = services.loop._rounds._is_no_worse
    assert not is_no_worse(services.store.project(2), worse)
    earlier_model.forget(services.store, services.files(2), 2)
    assert is_no_worse(services.store.project(2), worse)


def test_a_round_is_asked_for_should_connect_be_cut_off(services, exported, second):
    earlier_model.begin_with(services.store, services.files(2), 2, taken(services, exported))
    assert [event.action for event in services.store.events(2)] == ["START_TRAINING"]
    services.loop.catch_up(2)
    assert services.store.latest_round(2).earlier["share"] == 1


def test_nothing_is_stated_of_a_class_that_nobody_here_has_labelled(
    services, stand_in, send, exported, second
):
    begin(services, exported)
    truth = {task: true for task, true in second.items() if true != "3"}
    record = label(services, stand_in, send, truth, 14)
    assert record.earlier["share"] > 0
    assert "3" in record.classes
    assert "3" not in {one.name for one in accuracy_of(record).by_class}


def test_labels_and_the_earlier_model_answer_together_and_survive_a_restart(
    services, make_services, stand_in, send, exported, second
):
    begin(services, exported)
    record = label(services, stand_in, send, second, 12)
    assert 0 < record.earlier["share"] < 1
    before = predicted(services, stand_in, second)
    again = make_services()
    assert predicted(again, stand_in, second) == before
    assert again.models.of(2).share == record.earlier["share"]
    right = [a == b for a, b in zip(before, second.values(), strict=True)][12:]
    assert np.mean(right) > 0.8


def test_rolling_back_brings_the_mixture_of_that_round(services, stand_in, send, exported, second):
    begin(services, exported)
    first = label(services, stand_in, send, second, 12)
    label(services, stand_in, send, second, 8)
    services.store.save_project(2, model_round=first.number, model_pinned=True)
    assert services.models.of(2).share == first.earlier["share"]


def test_a_model_of_another_task_is_switched_off_and_status_says_so(
    services, stand_in, send, exported, second
):
    begin(services, exported)
    record = label(services, stand_in, send, second, 12, moved={"0": "1", "1": "2", "2": "3", "3": "0"})
    assert record.earlier["share"] == 0
    words = in_words(services.store.project(2), record)
    assert "it has no say: on the labels it is no better than chance" in words


def test_forgotten_it_leaves_nothing_behind(services, stand_in, exported, second):
    begin(services, exported)
    folder = services.files(2).folder
    assert [*folder.rglob("earlier/*.npz")]
    assert earlier_model.forget(services.store, services.files(2), 2).file == "model.onnx"
    services.loop.catch_up(2, force=True)
    assert not [*folder.rglob("earlier/*.npz")]
    assert predicted(services, stand_in, second) == [None] * 40
    assert services.store.latest_round(2).earlier is None
    assert earlier_model.forget(services.store, services.files(2), 2) is None


def test_where_its_file_is_lost_rounds_go_on_and_say_so(services, stand_in, send, exported, second):
    begin(services, exported)
    files_of.keep(services.files(2).folder, None)
    record = label(services, stand_in, send, second, 12)
    assert record.earlier["share"] == 0
    assert "its file is lost or damaged" in in_words(services.store.project(2), record)
    assert predicted(services, stand_in, second) != [None] * 40


def test_where_the_labeling_config_loses_its_classes_it_has_no_say(services, stand_in, exported, second):
    begin(services, exported)
    stand_in.projects[2]["label_config"] = label_config("3", "cat")
    services.loop.catch_up(2, compare=True, force=True)
    record = services.store.latest_round(2)
    assert (record.earlier["share"], record.classes) == (0, ())
    assert "fewer than two of its classes" in record.earlier["reason"]


def test_a_project_that_began_so_can_be_exported(tmp_path, services, stand_in, send, exported, second):
    begin(services, exported)
    record = label(services, stand_in, send, second, 12)
    assert record.earlier["share"] > 0
    card = export_model(services, 2, tmp_path / "next.onnx")
    assert "earlier model" in card["calibration"]["how"]
    assert card["earlier_model"]["share"] == record.earlier["share"]
    assert "an earlier model" in (tmp_path / "next.md").read_text()
    assert ExportedModel(tmp_path / "next.onnx", threads=1).classes == ("0", "1", "2", "3")
    assert taken(services, tmp_path / "next.onnx").known == tuple(sorted({*record.classes} & {*"0123"}))


def test_a_mixture_is_exported_though_its_earlier_model_is_forgotten_or_another(
    tmp_path, services, stand_in, send, exported, second
):
    begin(services, exported)
    record = label(services, stand_in, send, second, 12)
    services.store.save_project(2, model_round=record.number, model_pinned=True)
    former = services.store.project(2).earlier_model
    for now in (None, former.replace(record.earlier["digest"], "0" * 64)):
        services.store.save_project(2, earlier_model=now)
        card = export_model(services, 2, tmp_path / "next.onnx")
        assert card["earlier_model"] == {
            "file": "",
            "sha256": record.earlier["digest"],
            "share": record.earlier["share"],
        }
        assert record.earlier["digest"] in (tmp_path / "next.md").read_text()


def test_what_answers_alone_is_handed_on_by_nobody_but_its_own_project(tmp_path, services, exported, second):
    begin(services, exported)
    card = export_model(services, 2, tmp_path / "next.onnx")
    assert card["earlier_model"]["share"] == 1
    with pytest.raises(EarlierModelError, match="holds no head"):
        taken(services, tmp_path / "next.onnx")


def test_classes_in_common_are_taken_and_the_others_named(services, exported):
    found = taken(services, exported, "1", "3", "9")
    assert (found.known, found.left_out, found.unknown) == (("1", "3"), ("0", "2"), ("9",))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (label_config("cat", "dog"), "no class in common"),
        (label_config("1", "dog"), "only one class in common"),
        (
            label_config().replace('toName="image"', 'toName="image" choice="multiple"'),
            "is of one class a crop, and this project is of several",
        ),
        (
            '<View><Text name="text" value="$text"/><Choices name="c" toName="text"><Choice value="0"/>'
            '<Choice value="1"/></Choices></View>',
            "is a model of images, and this project is one of texts",
        ),
    ],
)
def test_a_project_of_another_kind_is_refused(services, exported, config, words):
    with pytest.raises(EarlierModelError, match=words):
        take(exported, 2, services.settings.encoder, services.embeddings, label_configs.parse(config))


def test_a_model_of_another_encoder_is_refused_with_the_way_out(make_services, exported):
    other = make_services(encoder_object=Coarse(), encoder="tests.coarse_encoder:Coarse")
    with pytest.raises(EarlierModelError) as raised:
        taken(other, exported)
    assert "made with the encoder 'efficientnet-lite0'" in str(raised.value)
    assert "everylabel encoders --project 2 --switch efficientnet-lite0" in str(raised.value)


@pytest.fixture
def run(services, stand_in, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)

    def of(command, *options):
        found = CliRunner().invoke(cli.app, [command, "--project", "2", *options], env={"COLUMNS": "200"})
        return found.exit_code, " ".join(found.output.split())

    return of


def test_connect_from_a_model_and_forget_it_again(run, stand_in, services, exported, second):
    stand_in.projects[2]["label_config"] = label_config("0", "1", "3", "7")
    code, said = run("connect", "--from", str(exported))
    assert code == 0, said
    assert "Begins with model.onnx, which knows 0, 1, 3." in said
    assert "Left out: 2: the labeling config has no such class." in said
    assert "It does not know: 7." in said
    assert services.store.latest_round(2).classes == ("0", "1", "3")
    assert "model.onnx (project 1, 40 labels): it answers alone" in run("status")[1]
    assert "began with model.onnx (project 1, 40 labels): it answers alone" in run("doctor")[1]
    (figures,) = json.loads(run("status", "--json")[1])
    assert (figures["earlier_model"]["share"], figures["earlier_model"]["file"]) == (1.0, "model.onnx")

    code, said = run("connect", "--from", "none")
    assert code == 0, said
    assert "model.onnx is forgotten" in said
    assert services.store.latest_round(2).classes == ()
    assert "began with" not in run("status")[1]
    assert json.loads(run("status", "--json")[1])[0]["earlier_model"] is None
    assert "nothing to forget" in run("connect", "--from", "none")[1]


def test_connect_from_a_model_embeds_a_new_project_in_the_same_process(
    run, stand_in, services, exported, digit_crops
):
    stand_in.add_project(2)
    stand_in.add_tasks(2, *(image for image, _ in digit_crops[80:110]))
    code, said = run("connect", "--from", str(exported))
    assert code == 0, said
    record = services.store.latest_round(2)
    assert (record.n_labels, record.earlier["share"]) == (0, 1)
    assert services.store.project(2).connected


def test_a_project_cannot_begin_with_its_own_model(services, exported):
    found = taken(services, exported)
    mine = found.model.origin["project"]
    for title, number in ((mine["title"], mine["id"] + 1), (mine["title"] + "!", mine["id"])):
        earlier_model.check_origin(found, exported, number, title)
    with pytest.raises(EarlierModelError, match="was made by this project"):
        earlier_model.check_origin(found, exported, mine["id"], mine["title"])


def test_connect_refuses_a_file_that_is_no_model_and_changes_nothing(run, tmp_path, services, second):
    (tmp_path / "notes.onnx").write_text("notes")
    before = services.store.project(2), services.store.latest_round(2)
    code, said = run("connect", "--from", str(tmp_path / "notes.onnx"))
    assert code == 1
    assert "is no ONNX model, or damaged" in said
    assert (services.store.project(2), services.store.latest_round(2)) == before
