"""A labeling config that asks for a class: what is added, and what stays as it was written."""

import pytest

from everylabel.backend.label_studio.label_config import LabelConfigError, parse
from everylabel.backend.label_studio.required_class import ATTRIBUTES, requires_class, with_required_class
from everylabel.scripts import image_projects

OWN = """<!-- our config: <Choices name="kind" toName="photo"> was tried first -->
<View>
  <Image name='photo' value='$image'   zoom="true"/>
  <Choices name="kind"
           toName="photo"{more}>
    <Choice value="a &gt; b"/><Choice value="dog"/>   <!-- more to come -->
  </Choices>
  <Choices name="other" toName="photo"><Choice value="x"/></Choices>
</View>
"""


def test_only_the_tag_that_is_learned_changes():
    config = OWN.format(more="")
    edited = with_required_class(config)
    assert edited == OWN.format(more=f" {ATTRIBUTES}")
    assert requires_class(edited)
    assert not requires_class(config)
    assert parse(edited) == parse(config)
    assert with_required_class(edited) == edited


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            ' required="false" requiredMessage="Which?"',
            ' required="true" requiredMessage="Which?"',
        ),
        (
            " Required = 'no'",
            ' Required = "true" requiredMessage="Choose a class, or skip the crop. Esc closes this message."',
        ),
    ],
)
def test_what_is_there_already_is_kept_or_corrected(before, after):
    assert with_required_class(OWN.format(more=before)) == OWN.format(more=after)


def test_a_config_that_nothing_is_learned_of_is_refused():
    with pytest.raises(LabelConfigError):
        with_required_class("<View/>")


def test_the_demo_asks_for_a_class():
    assert requires_class(image_projects.label_config(("cat", "dog")))
