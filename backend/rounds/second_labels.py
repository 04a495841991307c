"""Choose the labelled crops that Label Studio is to ask another person about.

Label Studio serves these before every other crop, to whoever has not labelled them (`label_studio/overlap.py`). So they are
few: at most one label in five is asked for as a second one, and never more at once than that share of a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everylabel.backend.rounds.round_input import RoundInput
    from everylabel.backend.store import Annotation
    from everylabel.model.round import Round

ONE_IN = 5
"""At most one label in so many is asked for as a second one."""


def choose_second_labels(
    found: RoundInput, outcome: Round, batch_size: int, looks: Collection[int]
) -> tuple[int, ...]:
    """Return the labelled tasks that Label Studio is to ask another person about.

    The tasks are those of which one more label would tell most (ActiveLab, 2301.11856). That is known once two people
    disagree on a crop. In a project that asks one person a crop, nobody ever would; so until then it is the most suspect
    labels. A task stays until as many people have annotated it as the project wants, or all who label here, or somebody has
    skipped it.

    Args:
        found: The input of the round.
        outcome: Its result, without the suspect labels that somebody has reviewed.
        batch_size: How many crops a round asks for.
        looks: The tasks of a spot check under way, which nobody is asked about again.

    Returns:
        The tasks; none before two people have labelled, or where the project does not leave it open whom to ask of what.
    """
    people = {annotation.annotator for annotation in found.counted}
    if found.project.overlap < 2 or len(people) < 2:
        return ()
    annotators: defaultdict[int, set[int | None]] = defaultdict(set)
    for one in found.annotations:
        annotators[one.task_id].add(one.annotator)
    passed_over = {one.task_id for one in found.annotations if one.cancelled or one.accepted}
    passed_over |= {*looks, *found.project.check_tasks}

    def is_open(task_id: int) -> bool:
        who = annotators[task_id]
        somebody_can = len(who) < found.project.overlap and not people <= who
        return task_id in found.labels and somebody_can and task_id not in passed_over

    asked = [id_ for id_ in (() if found.latest is None else found.latest.second_labels) if is_open(id_)]
    at_once = max(1, batch_size // ONE_IN)
    given = sum(_is_second(found.counted, last=(ONE_IN - 1) * at_once))
    useful = (id_ for id_ in _most_useful(found, outcome) if id_ not in asked and is_open(id_))
    for _, task_id in zip(range(at_once - given - len(asked)), useful, strict=False):
        asked.append(task_id)
    return tuple(asked)


def _most_useful(found: RoundInput, outcome: Round) -> Sequence[int]:
    if found.votes.second_labels:
        return found.votes.second_labels
    if not found.classifier.closed_form:  # nothing weighs their votes
        return ()
    return [int(found.task_at[issue.index]) for issue in outcome.label_issues]


def _is_second(counted: Sequence[Annotation], *, last: int) -> Iterator[bool]:
    """Yield of each of the last annotations if somebody else had labelled its task before."""
    first: dict[int, int | None] = {}
    seconds = [
        first.setdefault(annotation.task_id, annotation.annotator) != annotation.annotator
        for annotation in counted
    ]
    yield from seconds[-last:]
