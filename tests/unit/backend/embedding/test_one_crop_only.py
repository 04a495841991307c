"""One task never stops a project: whatever its data holds becomes its own problem, and the others go on."""

from __future__ import annotations

import io
import logging
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from everylabel.backend.embedding.crop_loader import CropReader
from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio.crop_errors import ImageError, UnexpectedImageError, one_crop_only
from everylabel.backend.label_studio.label_config import parse
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.encoders import Encoder
from tests.hostile_images import tiff_of_strips
from tests.stand_in_label_studio import data_uri, label_config

IN_A_BOX = (
    '<View><Image name="image" value="$image" crop="$x $y $w $h" cropPoints="$points" cropUnit="percent"/>'
    '<Rectangle name="box" toName="image"/><Polygon name="outline" toName="image"/>'
    '<Choices name="a" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>'
)


def picture(colour):
    stored = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stored, "PNG")
    return data_uri(stored.getvalue())


GOOD = picture((10, 20, 30))
ODD_ADDRESSES = [
    "file://C:\\images[1]\\crop.png",
    "//nas[1:2/crop.png",
    "hdfs://[cluster/x.png",
    f"{GOOD}#xywh=percent:1,1,9,9&turned={'9' * 400}",
    f"{GOOD}#xywh=percent:{'9' * 400},1,9,9",
    f"{GOOD}#polygon=percent:{'9' * 400},1,9,9,5,5",
    "http://xn--a\u00e4.example/x.png",
    "http://xn--0.example/x.png",
    "http://[::1/x.png",
    "half a character \ud800.png",
    "s3://bucket/\udfff.png",
    "data:image/png;base64,\ud800",
]


class Fussy(Encoder):
    """Its rows are mean colours; it cannot encode a crop of one colour, alone or among others."""

    name, dim, dtype, crop_size, batch_size = "fussy", 3, np.dtype(np.float32), 8, 32
    poison = (99, 0, 0)

    def _encode_batch(self, crops):
        if (crops == np.array(self.poison)).all(axis=(1, 2, 3)).any():
            raise RuntimeError("cannot take this one")
        return crops.mean(axis=(1, 2))

    def make_classifier(self):
        raise NotImplementedError


@pytest.fixture
def embed(tmp_path):
    """Embeds crops of these addresses as project 1; gives the tasks back by id."""
    store = Store(f"sqlite:///{tmp_path / 'everylabel.db'}")
    store.save_project(1, label_config="<View/>")
    reader = ImageReader("http://127.0.0.1:9")

    def run(addresses, encoder=None):
        store.save_tasks(1, [Task(i, address) for i, address in enumerate(addresses, 1)])
        file = EmbeddingFile(tmp_path / "rows", 3, np.dtype(np.float32))
        CropEmbedder(store, reader, encoder or Fussy(), 2).embed(1, store.tasks_to_embed(1), file)
        return {task.id: task for task in store.tasks(1)}

    yield run
    store.close()


@pytest.mark.parametrize("address", ODD_ADDRESSES)
def test_an_odd_address_is_an_image_error_that_names_the_way_out(address):
    with pytest.raises(ImageError) as caught:
        ImageReader("http://127.0.0.1:9").read(address, 1)
    assert not isinstance(caught.value, UnexpectedImageError), "its cause is known"
    assert caught.value.way_out


def test_odd_addresses_do_not_keep_the_others_from_being_embedded(embed):
    tasks = embed([GOOD, *ODD_ADDRESSES[:8], picture((1, 2, 3))])
    assert tasks[1].embedding_row is not None
    assert tasks[10].embedding_row is not None
    assert all(tasks[i].problem for i in range(2, 10))


def test_a_picture_made_to_take_memory_is_its_tasks_problem(embed):
    tasks = embed([GOOD, data_uri(tiff_of_strips(3_000_000)), picture((1, 2, 3))])
    # Without memory, Python 3.11 may go on until its time is up.
    assert "far more memory" in tasks[2].problem or "takes longer than" in tasks[2].problem
    assert tasks[1].embedding_row is not None
    assert tasks[3].embedding_row is not None


def test_an_error_nobody_has_foreseen_is_that_tasks_problem(embed, monkeypatch, caplog):
    prepare = Fussy.prepare

    def failing(self, image):
        if image.getpixel((0, 0))[0] == 77:
            raise MemoryError
        return prepare(self, image)

    monkeypatch.setattr(Fussy, "prepare", failing)
    with caplog.at_level(logging.ERROR):
        tasks = embed([picture((77, 0, i)) for i in range(20)] + [GOOD])
    assert "could not be read: unexpected MemoryError" in tasks[1].problem
    assert tasks[21].embedding_row is not None
    assert (
        sum("unexpected MemoryError" in r.getMessage() and r.levelno == logging.ERROR for r in caplog.records)
        <= 1
    )


def test_a_batch_the_encoder_fails_on_is_encoded_crop_by_crop(embed):
    tasks = embed([picture((i, 1, 1)) for i in range(40)] + [picture(Fussy.poison)] * 2)
    assert all(tasks[i].embedding_row is not None for i in range(1, 41))
    assert "unexpected RuntimeError" in tasks[41].problem
    assert "unexpected RuntimeError" in tasks[42].problem


def test_an_encoder_that_fails_on_every_crop_is_no_fault_of_the_tasks(embed):
    class Broken(Fussy):
        def _encode_batch(self, crops):
            raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match="no weights"):
        embed([GOOD], Broken())


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*ODD_ADDRESSES, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
addresses = st.one_of(
    json,
    st.builds(
        lambda scheme, rest: scheme + rest,
        st.sampled_from(
            ["http://", "//", "file:", "s3://", "data:", "data:image/png;base64,", "/data/", "["]
        ),
        st.text(max_size=30),
    ),
    st.builds(lambda rest: f"{GOOD}#xywh=percent:{rest}", st.text("0123456789.,-&turned=", max_size=30)),
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.fixed_dictionaries(
        {"image": addresses, "x": json, "y": json, "w": json, "h": json, "points": json}
    )
)
def test_anything_a_task_may_hold_is_a_crop_or_has_a_reason(data):
    reader = ImageReader("http://127.0.0.1:9")
    reader._download = lambda url, name: b"<html>"  # no request leaves the test
    for config in (label_config(), IN_A_BOX):
        crop = parse(config).crop(data)
        assert (crop.url is None) == (crop.problem is not None)
        assert "unexpected" not in (crop.problem or "")
        if crop.url is not None:
            crop.url.encode()  # the store takes it
            try:
                assert reader.read(crop.url, 1).mode == "RGB"
            except ImageError as error:
                assert not isinstance(error, UnexpectedImageError)


def test_a_deeply_nested_value_is_named_and_not_written_out():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    crop = parse(IN_A_BOX).crop({"image": "a.png", "x": deep, "y": 1, "w": 1, "h": 1, "points": deep})
    assert crop.problem and "unexpected" not in crop.problem
    while deep:  # freed level by level
        deep = deep[0]


def test_of_a_file_that_cannot_be_read_nothing_is_kept_but_the_reason():
    files = [data_uri(bytes([i]) * 1_000_000) for i in range(40)]
    boxed = [f"{file}#xywh=percent:1,1,9,9" for file in files[:20]]
    reader = CropReader(ImageReader("http://127.0.0.1:9"), Fussy(), 4)
    tasks = [Task(i, address) for i, address in enumerate(files + boxed)]
    tracemalloc.start()
    try:
        read = list(reader.read(tasks, ahead=64))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all("not an image" in str(crop.prepared) for crop in read)
    assert kept < 10_000_000


def test_an_image_error_passes_the_boundary_as_it_is():
    with pytest.raises(ImageError) as caught, one_crop_only("The crop"):
        raise ImageError("It is away", "Wait")
    assert str(caught.value) == "It is away. Wait"


def test_an_error_of_a_job_is_the_projects_problem_until_a_job_succeeds(
    services, stand_in, project, monkeypatch
):
    def fails(*args, **options):
        raise ValueError("nobody expected this")

    with monkeypatch.context() as patched:
        patched.setattr(services.loop, "catch_up", fails)
        assert services.trainer.learn(1) is False
    assert "unexpectedly (ValueError)" in services.store.project(1).problem
    assert services.trainer.learn(1) is True
    assert services.store.project(1).problem is None
