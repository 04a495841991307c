"""The figures of a project's page: accuracy, labels, what the next ones are worth, the rounds, what waits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everylabel.backend.label_pages.glance import fast_pages_in_words
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.annotators import annotator_name, names_by_id
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.rounds.accuracy import Accuracy, accuracy_of
from everylabel.backend.rounds.empty_annotations import EmptyAnnotation, empty_annotations
from everylabel.backend.rounds.labels import closed_tasks, counted_annotations, current_labels
from everylabel.backend.rounds.outlook import curve_of, next_labels_in_words, seconds_per_label
from everylabel.backend.rounds.people import AnnotatorFigures, annotator_figures
from everylabel.backend.rounds.rare_classes import RareClasses, rare_classes
from everylabel.backend.store import Annotation, Project, ProjectState, RoundRecord
from everylabel.backend.sync import mirror
from everylabel.model import label_set
from everylabel.model.evaluation.forecast import Forecast, forecast_gain

if TYPE_CHECKING:
    from everylabel.backend.store import Store

LOGGED = 30
WAITING_SHOWN = 500
CHART_POINTS = 300
FEW = 5
"""Below this many check crops a share of them says next to nothing, and is not in the chart."""
FORECAST_LABELS = (10, 50)


@dataclass(frozen=True)
class Count:
    """How many labels something has; `share` is in proportion to the largest count beside it."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Status:
    """One line on what the backend is doing; `kind` is `idle`, `busy` or `trouble`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Figures:
    """All the figures of one project's page."""

    project_id: int
    title: str
    state: ProjectState
    status: Status
    kind: str
    """The kind of a crop: `image` or `text`."""
    classes: tuple[str, ...]
    labels: Mapping[int, str]
    by_class: tuple[Count, ...]
    by_annotator: tuple[Count, ...]
    annotators: tuple[AnnotatorFigures, ...]
    """How far the labels of each annotator can be trusted; empty where one alone has labelled."""
    skipped: int
    closed: Set[int]
    """Tasks nobody is asked for again: skipped, accepted in bulk, or annotated without a class."""
    empty: tuple[EmptyAnnotation, ...]
    """Annotations without a class, those first that had one before."""
    rare: RareClasses
    """Classes with one label or none, and what was done to find more."""
    accuracy: Accuracy | None
    history: tuple[Accuracy, ...]
    """For the chart, oldest first."""
    forecasts: tuple[Forecast, ...]
    """Empty while there are too few rounds to say anything."""
    seconds_per_label: float | None
    """None while too little is known of how long people take."""
    latest: RoundRecord | None
    model: str | None
    log: tuple[RoundRecord, ...]
    """Newest first."""
    fast_pages: tuple[str, ...]
    """Sentences on people who confirmed pages of crops without looking at them."""

    @property
    def outlook(self) -> str:
        """The time that the next labels take and the accuracy they bring; empty while there is no forecast."""
        if not self.forecasts:
            return ""
        return next_labels_in_words(self.forecasts[-1], self.seconds_per_label)


def read_figures(
    store: Store,
    rounds: RoundLog,
    project_id: int,
    state: ProjectState,
    *,
    trainer_alive: bool,
    quality: Mapping[str, float] | None = None,
) -> Figures:
    """Read the current figures of a project; nothing of single annotators without `quality`, how often each is right by id."""
    project = store.project(project_id)
    control = read_control(project)
    annotations = store.annotations(project_id)
    if control is not None and 0 < state.events <= WAITING_SHOWN:
        # A person sees their label counted at once, however busy the trainer is.
        annotations = mirror.with_waiting(annotations, store.events(project_id), control)
    classes = shown_classes(control, annotations)
    labels = current_labels(store, project_id, annotations, classes)
    names = names_by_id(store)
    records = rounds.read(store, project_id, state.newest_round)
    history = [found for record in records if (found := accuracy_of(record)) is not None]
    by_class = Counter(_names(labels.values(), classes))
    curve = curve_of(records)
    forecasts = [forecast_gain(curve, more) for more in FORECAST_LABELS]
    return Figures(
        project_id=project_id,
        title=state.title or f"Project {project_id}",
        state=state,
        status=status(project_id, state, trainer_alive),
        kind="image" if control is None else control.kind,
        classes=classes,
        labels=labels,
        by_class=_counts(by_class, classes),
        by_annotator=_by_annotator(annotations, classes, names),
        annotators=() if quality is None else _annotators(annotations, classes, names, quality),
        skipped=len({a.task_id for a in annotations if a.cancelled} - set(labels)),
        closed=closed_tasks(annotations, labels),
        empty=tuple(empty_annotations(annotations, labels, classes)),
        rare=rare_classes(
            labels,
            classes,
            (lambda label: (label,)) if control is None else control.names,
            project.check_tasks if project else (),
        ),
        accuracy=accuracy_of(records[-1]) if records else None,
        history=tuple(_thinned(_curve(history), CHART_POINTS)),
        forecasts=tuple(found for found in forecasts if found is not None),
        seconds_per_label=seconds_per_label(annotations),
        latest=records[-1] if records else None,
        model=None if state.model_round is None else version_name(state.model_round),
        log=tuple(reversed(records[-LOGGED:])),
        fast_pages=tuple(fast_pages_in_words(store.fast_pages(project_id), names)),
    )


def read_control(project: Project | None) -> ImageChoices | None:
    """Parse the labeling config; None if it cannot be read, as the status line then says."""
    try:
        return label_config.parse(project.label_config if project else "")
    except LabelConfigError:
        return None


def shown_classes(control: ImageChoices | None, annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """Return the labeling config's classes, or else those that were given: existing labels are still worth seeing."""
    if control is not None:
        return control.classes
    return tuple(sorted({a.choice for a in annotations if a.choice is not None}))


def status(project_id: int, state: ProjectState, trainer_alive: bool) -> Status:
    """Describe in one line what the backend is doing, the most urgent first."""
    missing = state.tasks - state.embedded - state.unreadable
    # What holds, and what is then said of it.
    lines = (
        (not trainer_alive, "trouble", "The trainer is not running: start everylabel serve."),
        (state.problem, "trouble", str(state.problem)),
        (
            state.waits_too_long,
            "trouble",
            f"Labels have been waiting for minutes: run everylabel doctor --project {project_id}.",
        ),
        (missing > 0, "busy", f"Embedding crops: {state.embedded:,} of {state.tasks:,}"),
        (
            state.next_encoder,
            "busy",
            f"Embedding crops with {state.next_encoder} too; the encoder in use answers until all are",
        ),
        (state.events, "busy", "Learning from what was just labelled"),
        (
            not state.connected,
            "trouble",
            f"Not connected: run everylabel connect --project {project_id}.",
        ),
        (not state.tasks, "busy", "Waiting for the first crops"),
        (state.newest_round is None, "busy", "The first round is due"),
        (state.published_at is None, "busy", "Filling the queue in Label Studio"),
    )
    return next((Status(kind, text) for holds, kind, text in lines if holds), Status("idle", "Up to date"))


class RoundLog:
    """The rounds of every project shown, read from the store once. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, list[RoundRecord]] = {}

    def read(self, store: Store, project_id: int, newest: int | None) -> Sequence[RoundRecord]:
        """Return every round, oldest first; `newest` is the number of the newest, as just read."""
        with self._lock:
            known = self._known.get(project_id, [])
            if newest is None or (known and newest < known[-1].number):
                known = []  # forgotten, and perhaps begun anew
            # The newest one known is read again: it may be published by now.
            kept = known[:-1]
            kept = kept + store.rounds(project_id, after=kept[-1].number if kept else -1)
            self._known[project_id] = kept
            return kept


def _annotators(
    annotations: Sequence[Annotation],
    classes: Sequence[str],
    names: Mapping[int, str],
    quality: Mapping[str, float],
) -> tuple[AnnotatorFigures, ...]:
    found = annotator_figures(counted_annotations(annotations, classes), names, quality)
    return tuple(found) if len(found) > 1 else ()


def _by_annotator(
    annotations: Sequence[Annotation], classes: Sequence[str], names: Mapping[int, str]
) -> tuple[Count, ...]:
    given = Counter(annotator_name(a.annotator, names) for a in counted_annotations(annotations, classes))
    return _counts(given, [name for name, _ in given.most_common()])


def _names(labels: Iterable[str], classes: Sequence[str]) -> Iterator[str]:
    """Yield the classes of labels; a label may be a set of them."""
    for label in labels:
        yield from (label,) if label in classes else label_set.split(label)


def _counts(counts: Mapping[str, int], order: Sequence[str]) -> tuple[Count, ...]:
    largest = max(counts.values(), default=0) or 1
    return tuple(Count(name, counts.get(name, 0), counts.get(name, 0) / largest) for name in order)


def _curve(history: Sequence[Accuracy]) -> list[Accuracy]:
    """Return the newest round of each number of labels, ascending, without rounds before labels were withdrawn."""
    kept: list[Accuracy] = []
    for found in reversed(history):
        if (found.n_crops or found.n >= FEW) and (not kept or found.n_labels < kept[-1].n_labels):
            kept.append(found)
    return kept[::-1]


def _thinned(history: Sequence[Accuracy], at_most: int) -> Sequence[Accuracy]:
    """Return as many rounds as a chart can show, the newest among them."""
    step = -(-len(history) // at_most) or 1
    return history[(len(history) - 1) % step :: step] if history else history
