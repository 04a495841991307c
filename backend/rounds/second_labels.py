"""Choose the labelled crops that Label Studio is to ask another person about.

Label Studio serves these before every other crop, to whoever has not labelled them (`label_studio/overlap.py`). So they are
few: at most one label in five is asked for as a second one, and never more at once than that share of a batch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from everylabel.backend.rounds.labels import weighs_votes

if TYPE_CHECKING:
    from everylabel.backend.rounds.round_input import RoundInput
    from everylabel.backend.store import Annotation, RoundRecord, Store
    from everylabel.model.round import Round

ONE_IN = 5
"""At most one label in so many is asked for as a second one."""
RECENT = 5 * ONE_IN
"""Whoever gave none of so many last labels, for each crop that is asked for at once, is taken to be away."""
ROUNDS = 10
"""A crop that so many rounds have asked for in vain makes way for another; so long ones that are over are remembered."""


@dataclass(frozen=True)
class SecondLabels:
    """The labelled tasks of a round that Label Studio is to ask another person about."""

    asked: tuple[int, ...] = ()
    over: tuple[int, ...] = ()
    """Those of the rounds before that it is to ask nobody about any longer."""


def second_labels(store: Store, found: RoundInput, outcome: Round, batch_size: int) -> SecondLabels:
    """Return the labelled tasks to ask another person about; nothing is read where a project wants none.

    Args:
        store: Holds the rounds before, and the spot check under way.
        found: The input of the round.
        outcome: Its result, without the suspect labels that somebody has reviewed.
        batch_size: How many crops a round asks for.
    """
    project, latest = found.project, found.latest
    if project.overlap < 2:
        return SecondLabels()
    before = [] if latest is None else store.rounds(project.id, after=latest.number - ROUNDS)
    asked = choose_second_labels(found, outcome, batch_size, store.looked_at(project.id), before)
    earlier = dict.fromkeys(task for record in before for task in record.second_labels)
    return SecondLabels(asked, tuple(task for task in earlier if task not in asked))


def choose_second_labels(
    found: RoundInput,
    outcome: Round,
    batch_size: int,
    looks: Collection[int],
    before: Sequence[RoundRecord],
) -> tuple[int, ...]:
    """Return the labelled tasks that Label Studio is to ask another person about.

    The tasks are those of which one more label would tell most (ActiveLab, 2301.11856). That is known once two people
    disagree on a crop. In a project that asks one person a crop, nobody ever would; so until then it is the most suspect
    labels. A task stays until it has its label, somebody has skipped it, nobody who labels at present could give it, or
    others have waited for long enough. While crops without a label are left, four of their labels follow each second one.

    Args:
        found: The input of the round.
        outcome: Its result, without the suspect labels that somebody has reviewed.
        batch_size: How many crops a round asks for.
        looks: The tasks of a spot check under way, which nobody is asked about again.
        before: The newest rounds, oldest first.

    Returns:
        The tasks; none before two people have labelled.
    """
    at_once, just_labelled = max(1, batch_size // ONE_IN), list[int]()
    if found.open_rows().any():
        just_labelled = _second(found.counted, last=(ONE_IN - 1) * at_once)
    else:
        at_once = batch_size
    room = max(0, at_once - len(just_labelled))
    is_open = _open_to(found, {*looks}, {one.annotator for one in found.counted[-RECENT * at_once :]})
    times = Counter(task for record in before for task in record.second_labels)
    in_vain = {task for task, n in times.items() if n >= ROUNDS}
    latest = before[-1].second_labels if before else ()
    left_out = in_vain.union(just_labelled)
    asked = [task for task in latest if task not in left_out and is_open(task)][:room]
    # A task that was asked for of late comes back where nothing else is left.
    useful = sorted(_most_useful(found, outcome), key=lambda task: task in times)
    rest = (task for task in useful if task not in asked and task not in just_labelled and is_open(task))
    return (*asked, *islice(rest, room - len(asked)))


def _open_to(
    found: RoundInput, looks: Collection[int], people: Collection[int | None]
) -> Callable[[int], bool]:
    """Return a function that tells if one of these people may be asked for one more label of a task."""
    annotators: defaultdict[int, set[int | None]] = defaultdict(set)
    for one in found.annotations:
        annotators[one.task_id].add(one.annotator)
    # As Label Studio counts: two annotations of one person are two, and a skipped one is none.
    n = Counter(one.task_id for one in found.annotations if not one.cancelled)
    passed_over = {one.task_id for one in found.annotations if one.cancelled or one.accepted}
    passed_over.update(looks, found.project.check_tasks)

    def is_open(task: int) -> bool:
        wants_more = n[task] < found.project.overlap and len(annotators[task]) < found.project.overlap
        somebody_can = any(person not in annotators[task] for person in people)
        return task in found.labels and wants_more and somebody_can and task not in passed_over

    return is_open


def _most_useful(found: RoundInput, outcome: Round) -> Sequence[int]:
    if found.votes.second_labels:
        return found.votes.second_labels
    if not weighs_votes(found.classifier):
        return ()
    return [int(found.task_at[issue.index]) for issue in outcome.label_issues]


def _second(counted: Sequence[Annotation], *, last: int) -> list[int]:
    """Return the tasks of those of the last annotations whose task somebody else had labelled before."""
    first: dict[int, int | None] = {}
    seconds = [
        one.task_id if first.setdefault(one.task_id, one.annotator) != one.annotator else None
        for one in counted
    ]
    return [task for task in seconds[-last:] if task is not None]
