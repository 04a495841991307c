"""Pages of boxes in larger pictures and of texts: shown as what they are, and written as Label Studio's form would."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from everylabel.backend.app import create_app
from everylabel.backend.store import Person
from tests.contract.test_label_routes import Person as Browser
from tests.stand_in_label_studio import data_uri
from tests.unit.backend.rounds.test_runner import flagging

BOXES = (
    '<View><Image name="image" value="$image" crop="$x $y $width $height" cropUnit="percent"/>'
    '<Rectangle name="box" toName="image"/>'
    '<Choices name="digit" toName="image"><Choice value="dark"/><Choice value="bright"/></Choices></View>'
)
TEXTS = (
    '<View><Text name="text" value="$words"/><Choices name="tone" toName="text">'
    '<Choice value="glad"/><Choice value="sad"/></Choices></View>'
)
BOX = {"x": 50, "y": 20, "width": 30, "height": 40}


@pytest.fixture
def open_page(stand_in, services):
    """Make a project of two tasks with this data, whose round asks for both, and give Ann the page of them."""

    def make(config, *data):
        stand_in.people |= {"anns-token": 7}
        stand_in.add_project(1, config)
        ids = stand_in.add_tasks(1, *[""] * len(data))
        for task, values in zip(ids, data, strict=True):
            stand_in.tasks[task]["data"] = values
        services.store.save_project(1, label_config=config)
        services.loop.reconcile(1)
        services.store.save_round(1, replace(flagging(1, (), {}), batch=tuple(ids)), [])
        ann = Person(7, "7@example.org")
        services.labelling.sign_in.sign_in(1, "anns-token", "")
        page = services.labelling.pages.give(1, ann, "next-batch")
        assert page.tasks == tuple(ids)
        return ann, page

    return make


def written(stand_in, task):
    (annotation,) = stand_in.tasks[task]["annotations"]
    assert annotation["completed_by"] == 7
    return annotation["result"]


def test_a_box_is_shown_cut_out_and_its_label_is_written_with_the_box(stand_in, services, open_page):
    file = io.BytesIO()
    picture = Image.new("RGB", (200, 100), "black")
    picture.paste("white", (100, 20, 160, 60))  # the box
    picture.save(file, "PNG")
    image = {"image": data_uri(file.getvalue()), **BOX}
    ann, page = open_page(BOXES, image, image)
    shown = create_app(services).test_client().get(f"/projects/1/crops/{page.tasks[0]}?size=large")
    with Image.open(io.BytesIO(shown.data)) as cut:
        assert cut.width / cut.height == pytest.approx(60 / 40, abs=0.05)
        assert min(low for low, _ in cut.convert("RGB").getextrema()) > 200, "the box alone"

    services.labelling.pages.confirm(1, ann, page.id, {page.tasks[0]: "bright"}, 9.0)
    assert services.labelling.sender.send(1)
    drawn, chosen = written(stand_in, page.tasks[0])
    assert drawn["type"] == "rectangle"
    assert {name: drawn["value"][name] for name in BOX} == BOX
    assert chosen["value"] == {"choices": ["bright"]}
    assert (chosen["from_name"], chosen["to_name"]) == ("digit", "image")
    assert stand_in.tasks[page.tasks[1]]["annotations"] == [], "left out"


def test_texts_are_shown_as_they_are_and_written_for_the_text(stand_in, services, open_page):
    ann, page = open_page(TEXTS, {"words": "What a day!"}, {"words": "<b>Rain</b>"})
    browser = Browser(services, "anns-token")
    crops = browser.post("pages", kind="next-batch", resume=page.id).json["page"]["crops"]
    assert [crop["text"] for crop in crops] == ["What a day!", "<b>Rain</b>"]

    services.labelling.pages.confirm(1, ann, page.id, {page.tasks[0]: "glad", page.tasks[1]: "sad"}, 9.0)
    assert services.labelling.sender.send(1)
    for task, label in zip(page.tasks, ("glad", "sad"), strict=True):
        (chosen,) = written(stand_in, task)
        assert chosen["value"] == {"choices": [label]}
        assert (chosen["from_name"], chosen["to_name"]) == ("tone", "text")
