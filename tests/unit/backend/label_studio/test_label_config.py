"""Labeling configs: which are understood, and what the others' owners are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError, parse

IMAGE = '<Image name="photo" value="$crop"/>'
CHOICES = '<Choices name="kind" toName="photo"><Choice value="cat"/><Choice value="dog"/></Choices>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def region(choices, from_name="kind"):
    return {"from_name": from_name, "to_name": "photo", "type": "choices", "value": {"choices": choices}}


def test_the_projects_own_names_are_found():
    assert parse(view(IMAGE, CHOICES)) == ImageChoices("kind", "photo", "crop", ("cat", "dog"))


def test_choices_with_an_alias_are_known_by_what_label_studio_writes():
    aliased = CHOICES.replace('value="cat"', 'value="A cat, sitting" alias="cat"')
    assert parse(view(IMAGE, aliased)).classes == ("cat", "dog")


def test_other_controls_beside_it_do_not_disturb():
    boxes = '<RectangleLabels name="box" toName="photo"><Label value="x"/></RectangleLabels>'
    about_text = '<Text name="t" value="$t"/><Choices name="mood" toName="t"><Choice value="good"/></Choices>'
    assert parse(view(boxes, about_text, IMAGE, CHOICES)).from_name == "kind"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("<View>", "cannot be read"),
        ("not xml at all", "cannot be read"),
        (view(CHOICES), "needs an <Image>|cannot be read"),
        (view('<Video name="v" value="$v"/>', CHOICES.replace("photo", "v")), "needs an <Image>"),
        (
            view(IMAGE, '<Taxonomy name="t" toName="photo"><Choice value="a"/></Taxonomy>'),
            "<Taxonomy name='t'> is not learned. everylabel learns a <Choices>",
        ),
        (view(IMAGE), "needs a <Choices>"),
        (view(IMAGE, CHOICES.replace("<Choices ", '<Choices perRegion="true" ')), "per region"),
        (view(IMAGE, '<Choices name="kind" toName="photo" value="$options"/>'), "has no <Choice>"),
        (view(IMAGE.replace("$crop", "https://x.example/a.png"), CHOICES), "takes no task data"),
        (
            view(IMAGE, '<Audio name="t" value="$t"/>', CHOICES.replace("photo", "t")),
            "points at <Audio name='t'>: it does not point at an <Image> or a <Text>",
        ),
    ],
)
def test_a_config_that_classifies_no_image_is_refused_with_an_example(config, told):
    with pytest.raises(LabelConfigError, match=told):
        parse(config)


def test_entities_are_neither_read_from_files_nor_unfolded():
    outside = '<!DOCTYPE v [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + view(
        IMAGE, CHOICES.replace("cat", "&e;")
    )
    with pytest.raises(LabelConfigError):
        parse(outside)
    levels = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(8))
    bomb = f'<!DOCTYPE v [<!ENTITY e0 "aaaaaaaaaa">{levels}]>' + view(IMAGE, CHOICES.replace("cat", "&e8;"))
    with pytest.raises(LabelConfigError):
        parse(bomb)


@given(
    st.text(max_size=200) | st.text(max_size=60).map(lambda text: view(IMAGE, CHOICES.replace("cat", text)))
)
def test_any_text_is_understood_or_refused(config):
    try:
        assert parse(config).classes
    except LabelConfigError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("result", "chosen"),
    [
        ([region(["cat"])], "cat"),
        ([region(["x"], "other"), region(["dog"])], "dog"),
        ([region(["a class that left the config"])], "a class that left the config"),
        ([], None),
        ([region([])], None),
        ([region(["cat", "dog"])], None),
        ([region([7])], None),
        ([region("c")], None),
        ([{"from_name": "kind"}], None),
        ([{"from_name": "kind", "value": ["cat"]}], None),
        (["cat", None, 3], None),
        ("cat", None),
        (None, None),
        ({"choices": ["cat"]}, None),
    ],
)
def test_the_one_class_a_result_picks_or_none(result, chosen):
    assert parse(view(IMAGE, CHOICES)).choice(result) == chosen


@pytest.mark.parametrize(
    ("data", "url"),
    [
        ({"crop": "/data/upload/1/a.png"}, "/data/upload/1/a.png"),
        ({"crop": ""}, None),
        ({"crop": 7}, None),
        ({"crop": {"url": "x"}}, None),
        ({"crop": ["x"]}, None),
        ({"other": "x"}, None),
        (["x"], None),
        ("x", None),
        (None, None),
    ],
)
def test_the_image_of_a_tasks_data_or_none(data, url):
    assert parse(view(IMAGE, CHOICES)).crop(data).url == url


def test_what_we_predict_is_what_we_read():
    control = parse(view(IMAGE, CHOICES))
    assert control.choice(control.result("dog", 0.9)) == "dog"
    assert control.result("dog", 0.9)[0]["to_name"] == "photo"
