"""`everylabel status`: show where a project stands: labels, accuracy, the queue, and what waits."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.label_pages.glance import fast_pages_in_words
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.annotators import annotator_name, names_by_id
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.rounds import certificates, earlier_model, empty_annotations, rare_classes
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.rounds.labels import counted_annotations, current_labels
from everylabel.backend.rounds.outlook import curve_of, next_labels_in_words, seconds_per_label
from everylabel.backend.store import Annotation, Project, RoundRecord
from everylabel.model.evaluation.forecast import forecast_gain
from everylabel.scripts import second_label_checks
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.commands import switch_encoder
from everylabel.scripts.console import console, counted, fail
from everylabel.scripts.project_errors import searched


def run(project: int | None, *, as_json: bool = False) -> None:
    """Show one project, or all."""
    backend = build(load_settings())
    projects = [p for p in backend.store.projects() if project in (None, p.id)]
    if not projects:
        known = ", ".join(str(p.id) for p in backend.store.projects()) or "none"
        fail(
            f"No such project is connected (known: {known}). "
            f"To connect it: everylabel connect --project {project or 'N'}\n{searched(backend.settings)}"
        )
    if as_json:
        sys.stdout.write(json.dumps([_figures(backend, known) for known in projects], indent=2) + "\n")
        return
    alive = backend.heartbeat.alive()
    console.print(
        "trainer  " + ("[green]alive[/]" if alive else "[red]not running[/]: start `everylabel serve`")
    )
    waiting, longest = backend.store.events_waiting()
    if waiting:
        console.print(f"waiting  {counted(waiting, 'webhook')}, the oldest for {_span(longest)}")
    for known_project in projects:
        console.print(_table(backend, known_project))


def _table(backend: Backend, project: Project) -> Table:
    table = Table(title=f"Project {project.id}", show_header=False, title_justify="left")
    table.add_column(style="dim")
    table.add_column()
    counts = backend.store.count_tasks(project.id)
    unread = counts["unreadable"]
    crops = f"{sum(counts.values())}, {counts['embedded']} embedded"
    table.add_row("crops", crops + (f", [red]{unread} cannot be read[/]" if unread else ""))
    if switch := backend.encoder_switch.progress(project):
        table.add_row(
            "encoder", f"being switched to {escape(switch.encoder)}: {switch_encoder.in_words(switch)}"
        )
    elif project.better_encoder:
        table.add_row("encoder", escape(project.better_encoder))
    latest = backend.store.latest_round(project.id)
    if words := earlier_model.in_words(project, earlier_model.in_use(backend.store, project)):
        table.add_row("began with", escape(words))
    annotations = backend.store.annotations(project.id)
    for name, words in _labels(backend, project, annotations):
        table.add_row(name, words)
    if latest is not None:
        table.add_row("accuracy", _accuracy(latest))
        if latest.stopping is not None:
            advice = "[green]stop[/]" if latest.stopping["stop"] else "go on"
            table.add_row("advice", f"{advice}: {latest.stopping['reason']}")
        if words := _outlook(backend, project, annotations):
            table.add_row("next", words)
        table.add_row("round", f"{latest.model_version}, {_span(time.time() - latest.finished_at)} ago")
        table.add_row("queue", _queue(latest))
    if words := _second_labels(backend, project, annotations, latest):
        table.add_row("second labels", words)
    if certificate := certificates.describe(backend, project.id):
        table.add_row("certificate", escape(certificate))
    if project.problem:
        table.add_row("problem", f"[red]{escape(project.problem)}[/]")
    return table


def _figures(backend: Backend, project: Project) -> dict[str, Any]:
    """Return what the table says, for programs."""
    annotations = backend.store.annotations(project.id)
    try:
        classes = label_config.parse(project.label_config).classes
    except LabelConfigError:
        classes = ()
    labels = current_labels(backend.store, project.id, annotations, classes)
    latest = backend.store.latest_round(project.id)
    accuracy = None if latest is None else accuracy_of(latest)
    switch = backend.encoder_switch.progress(project)
    return {
        "project": project.id,
        "crops": backend.store.count_tasks(project.id),
        "labels": len(labels),
        "labels_by_class": dict(Counter(labels.values())),
        "accepted": sum(annotation.accepted for annotation in annotations),
        "fast_pages": [asdict(found) for found in backend.store.fast_pages(project.id)],
        "round": None if latest is None else latest.number,
        "overlap": project.overlap,
        "own_overlap": project.own_overlap,
        "second_labels": [] if latest is None else list(latest.second_labels),
        "accuracy": None if accuracy is None else asdict(accuracy),
        "stopping": None if latest is None else latest.stopping,
        "problem": project.problem,
        "encoder": backend.embeddings.name(project),
        "better_encoder": project.better_encoder,
        "switch": None if switch is None else asdict(switch),
        "earlier_model": earlier_model.figures(project, earlier_model.in_use(backend.store, project)),
    }


def _labels(
    backend: Backend, project: Project, annotations: Sequence[Annotation]
) -> Iterator[tuple[str, str]]:
    """Say how many labels there are, who gave them, and what is wrong with them: a row of the table each."""
    try:
        control = label_config.parse(project.label_config)
    except LabelConfigError as error:
        control = None
        yield "labels", f"[red]{escape(str(error))}[/]"
    if control is not None:
        labels = current_labels(backend.store, project.id, annotations, control.classes)
        counts = Counter(name for label in labels.values() for name in control.names(label))
        by_class = ", ".join(f"{escape(name)} {counts[name]}" for name in control.classes)
        yield "labels", f"{len(labels)} ({by_class})"
        if by := _annotators(backend, annotations, control.classes):
            yield "given by", by
    for sentence in fast_pages_in_words(backend.store.fast_pages(project.id), names_by_id(backend.store)):
        yield "not looked at", f"[red]{escape(sentence)}[/]"
    if accepted := sum(annotation.accepted for annotation in annotations):
        yield "accepted", f"{accepted} in bulk; they count as the machine's, not as labels"
    if control is not None:
        yield from _concerns(project, control, annotations, labels)


def _concerns(
    project: Project, control: ImageChoices, annotations: Sequence[Annotation], labels: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """List crops that were submitted without a class, and classes with one label or none."""
    if found := empty_annotations.empty_annotations(annotations, labels, control.classes):
        words = f"{empty_annotations.counted_in_words(found)}: {empty_annotations.named(found)}"
        yield "empty", f"[red]{escape(words)}[/]"
    rare = rare_classes.rare_classes(labels, control.classes, control.names, project.check_tasks)
    if rare.single:
        yield "one label", escape(rare_classes.single_in_words(rare))
    if rare.missing and labels:
        yield "no label", escape(rare_classes.missing_in_words(rare))


def _annotators(backend: Backend, annotations: Sequence[Annotation], classes: Sequence[str]) -> str:
    """Return how many labels each person has given, the most active first; empty if there are none."""
    names = names_by_id(backend.store)
    given = Counter(annotation.annotator for annotation in counted_annotations(annotations, classes))
    return ", ".join(f"{escape(annotator_name(who, names))} {count}" for who, count in given.most_common())


def _accuracy(record: RoundRecord) -> str:
    if len(record.classes) < 2:
        return "not measured yet: a model needs labels of two classes"
    found = accuracy_of(record)
    return "not measured yet: it takes ten labels" if found is None else found.in_words()


def _outlook(backend: Backend, project: Project, annotations: Sequence[Annotation]) -> str:
    """Return what the next fifty labels take and bring; empty while too little is known."""
    records = backend.store.rounds(project.id)
    forecast = forecast_gain(curve_of(records), 50)
    return "" if forecast is None else next_labels_in_words(forecast, seconds_per_label(annotations))


def _queue(record: RoundRecord) -> str:
    spot = f"{len(record.spot_check)} of the spot check, " if record.spot_check else ""
    state = "in Label Studio" if record.published_at is not None else "[yellow]not in Label Studio yet[/]"
    asked = f"{len(record.asked)} asked for, " if record.asked else ""
    second = (
        f"second labels of {counted(len(record.second_labels), 'crop')}, " if record.second_labels else ""
    )
    return (
        f"{asked}{spot}{second}{counted(len(record.check), 'blind check crop')}, {len(record.batch)} in the batch, "
        f"{len(record.pre_annotated)} to verify, {counted(len(record.suspected), 'suspected label issue')}; {state}"
    )


def _second_labels(
    backend: Backend, project: Project, annotations: Sequence[Annotation], latest: RoundRecord | None
) -> str:
    try:
        classes = label_config.parse(project.label_config).classes
    except LabelConfigError:
        return ""
    people = second_label_checks.annotators(annotations, classes)
    return second_label_checks.in_words(project, people, 0 if latest is None else len(latest.second_labels))


def _span(seconds: float) -> str:
    """Return a duration in its largest whole unit: `3 min`."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
