"""Confident crops come at their share in the label stream, which begins anew with every round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.publisher import predictions
from everylabel.model.pseudo_labels.pre_annotated import mix_in
from tests.unit.backend.label_studio.test_publisher import CONTROL, crop, queue


@given(st.integers(1, 9), st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5]), st.integers(1, 12))
def test_however_often_a_round_is_run_the_share_is_kept(labels_a_round, share, batch_size):
    """A round asks for a batch, and the next one comes after some labels: each crop served is the n-th label."""
    served, done = [], 0
    while done < 120:
        batch, confident = [10_000 + i for i in range(batch_size)], [20_000 + i for i in range(50)]
        asked = mix_in(batch, confident, n_before=done, share=share)
        assert len(asked) == batch_size == len(set(asked))
        given_now = asked[:labels_a_round]
        served += given_now
        done += len(given_now)
    assert sum(one >= 20_000 for one in served[:100]) == pytest.approx(100 * share, abs=1)


def test_without_a_confident_crop_the_batch_is_as_it_was_and_its_order_is_kept():
    assert mix_in([5, 3, 9], [], n_before=4, share=0.5) == [5, 3, 9]
    assert mix_in([5, 3, 9], [7], n_before=4, share=0.0) == [5, 3, 9]
    assert mix_in([5, 3, 9], [7, 8], n_before=4, share=0.2) == [7, 5, 3]
    assert mix_in([5, 3, 9], [7, 8], n_before=3, share=0.2) == [5, 7, 3]
    assert mix_in([], [7], n_before=4, share=0.2) == []


def test_a_confident_crop_between_uncertain_ones_raises_nobody_elses_score():
    written = predictions(queue(batch=[crop(7, 0.97, "1"), crop(3, 0.4), crop(1, 0.55)]), CONTROL)
    scores = {p["task"]: p["score"] for p in written}
    assert list(scores) == sorted(scores, key=scores.__getitem__) == [7, 3, 1]
    assert (scores[3], scores[1]) == (pytest.approx(0.4, abs=1e-5), pytest.approx(0.55, abs=1e-5))


@pytest.fixture
def label(stand_in, services, project):
    """Label crops as they are served, with a round after each; says of each whether it came pre-filled or blind."""

    def take(count):
        came = []
        for _ in range(count):
            task, latest = stand_in.queue(1)[0], services.store.latest_round(1)
            assert task in latest.queue, "what is served is of the newest round"
            (shown,) = [
                p["result"]
                for p in stand_in.predictions
                if (p["task"], p["model_version"]) == (task, latest.model_version)
            ]
            came.append("blind" if task in latest.check else "filled" if shown else "open")
            body = stand_in.annotate(task, project[task])
            services.store.add_event(1, body["action"], webhooks.read(body).kept())
            services.loop.catch_up(1)
        return came

    return take


def test_of_the_crops_of_the_main_stream_every_fifth_comes_pre_filled_and_a_check_crop_never(
    stand_in, services, project, label
):
    services.settings.pre_annotated_share = 0.2
    came, sure = [], []
    for _ in range(35):
        sure.append(bool(services.store.latest_round(1).pre_annotated))
        came += label(1)
    assert "filled" not in came[:10], "before ten labels the model is sure of nothing"
    assert "blind" in came
    others = [(kind, is_sure) for kind, is_sure in zip(came, sure, strict=True) if kind != "blind"]
    turns = others[4::5]
    assert [kind for kind, is_sure in turns if is_sure] == ["filled"] * sum(is_sure for _, is_sure in turns)
    assert sum(is_sure for _, is_sure in turns) >= 3


def test_nothing_is_mixed_in_where_the_share_is_nothing(stand_in, services, project, label):
    services.settings.pre_annotated_share = 0.0
    label(20)
    latest = services.store.latest_round(1)
    services.settings.pre_annotated_share = 0.5
    mixed = services.rounds.run(services.store.project(1), save=False).record
    assert latest.pre_annotated, "some crops are sure"
    assert set(mixed.batch) & set(latest.pre_annotated)
    assert len(mixed.batch) == len(latest.batch) == 5


def test_a_model_that_is_not_in_use_has_nothing_mixed_in(stand_in, services, project, label):
    label(20)
    services.settings.pre_annotated_share = 0.5
    services.store.save_project(1, model_pinned=True)
    pinned = services.rounds.run(services.store.project(1), save=False)
    assert not any(crop.label for crop in pinned.queue.batch)
    assert pinned.record.batch == services_batch_without_mix(services)


def services_batch_without_mix(services):
    services.settings.pre_annotated_share = 0.0
    return services.rounds.run(services.store.project(1), save=False).record.batch
