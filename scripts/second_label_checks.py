"""Say whether Label Studio asks several people about a crop, about which crops, and what is missing for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.overlap import not_asked, overlap_of, own_overlap_of
from everylabel.backend.rounds.labels import counted_annotations, weighs_votes
from everylabel.backend.rounds.models import make_classifier
from everylabel.scripts.background_checks import CheckFailedError
from everylabel.scripts.console import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from everylabel.backend.bootstrap import Backend
    from everylabel.backend.store import Annotation, Project

TURN_ON = "everylabel connect --project {} --second-labels 2"


def annotators(annotations: Sequence[Annotation], classes: Sequence[str]) -> int:
    """Return how many people have given a label that counts."""
    return len({one.annotator for one in counted_annotations(annotations, classes)})


def in_words(project: Project, people: int, asked: int) -> str:
    """Return how it stood at the last comparison with Label Studio; empty where one person labels, and one is to.

    Args:
        project: The project, as it is in the store.
        people: How many have labelled.
        asked: Of how many crops the newest round wants another label.
    """
    if project.own_overlap > 1:
        return f"Label Studio picks the crops itself, and asks {project.own_overlap} people about each"
    if project.overlap < 2:
        return "" if people < 2 else f"off; to turn them on: {TURN_ON.format(project.id)}"
    return f"on, up to {project.overlap} people a crop; {_asked_in_words(people, asked)}"


def _asked_in_words(people: int, asked: int) -> str:
    if asked:
        return f"another person is asked about {counted(asked, 'crop')}"
    if people < 2:
        return f"none is asked for before two people have labelled: {'one has' if people else 'nobody has'}"
    return "none is asked for at the moment"


def check(backend: Backend, project_id: int) -> str:
    """Compare the labelled crops that another person is to be asked about with those that Label Studio asks for.

    Returns:
        Whether another person is asked, about which crops, and what is missing.

    Raises:
        CheckFailedError: Label Studio does not ask for what the newest round wants.
        LabelStudioError: It does not answer.
        LabelConfigError: Nothing in its labeling config is learned.
    """
    found = backend.label_studio.project(project_id)
    control = label_config.parse(str(found["label_config"]))
    people = annotators(backend.store.annotations(project_id), control.classes)
    ours, own = overlap_of(found), own_overlap_of(found)
    if own > 1:
        share = int(found.get("overlap_cohort_percentage") or 0)
        which = "every crop" if share >= 100 else f"{share} % of the crops, which it picks"
        return (
            f"Label Studio itself asks {own} people about {which}, and serves those that one has labelled before all others. "
            "A suspect label waits for theirs, which is its review. To ask about the crops that another label tells most of "
            f"instead: {TURN_ON.format(project_id)}"
        )
    if ours < 2:
        return f"off: one person is asked about each crop. To turn them on: {TURN_ON.format(project_id)}"
    known = backend.store.project(project_id)
    if known is not None and known.overlap != ours:
        return f"on, up to {ours} people a crop; the next round asks. Now: everylabel sync --project {project_id}"
    classifier = make_classifier(control, backend.embeddings.named(backend.embeddings.name(known)))
    if not weighs_votes(classifier):
        return (
            f"on, and none is asked for: this project's encoder is trained whole, and then nobody's labels are weighed. Back: "
            f"everylabel connect --project {project_id} --no-second-labels"
        )
    newest = backend.store.latest_round(project_id)
    wanted = () if newest is None else newest.second_labels
    left_out = not_asked(backend.label_studio, project_id, wanted) if wanted else []
    if left_out and (waiting := len(backend.store.events(project_id))):
        return f"a new round is due: {counted(waiting, 'webhook')} waiting"
    if newest is not None and left_out:
        raise CheckFailedError(
            f"{newest.model_version} wants a second label of task {', '.join(map(str, left_out))}, and Label Studio asks nobody "
            f"for it. The next round asks again, or now: everylabel sync --project {project_id}"
        )
    return f"on, up to {ours} people a crop; {_asked_in_words(people, len(wanted))}"
