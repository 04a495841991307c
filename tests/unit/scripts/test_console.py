"""What all commands say in the same way."""

import pytest

from everylabel.backend.rounds.bulk_accept import Acceptable
from everylabel.scripts.commands import accept
from everylabel.scripts.console import counted, progress


@pytest.mark.parametrize(
    ("n", "said"), [(0, "0 crops"), (1, "1 crop"), (2, "2 crops"), (1200, "1,200 crops")]
)
def test_a_number_stands_with_its_noun(n, said):
    assert counted(n, "crop") == said


def test_long_work_leaves_nothing_in_a_file(capsys):
    with progress() as report:
        for done in range(3):
            report("Uploading crops", done, 3)
            report("Embedding crops", done, 3)
    assert capsys.readouterr().out == ""


def test_the_table_of_a_single_accepted_crop_does_not_say_crops():
    assert accept.table([Acceptable(7, "cat", 0.99)], 0.98).title == "1 crop at 98% and above"
