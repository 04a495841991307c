"""`everylabel encoders`: compare encoders on a project's own labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.rounds.labels import current_labels
from everylabel.backend.rounds.outlook import span
from everylabel.backend.store import Project, Task
from everylabel.model import encoders
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, errors, fail, progress
from everylabel.scripts.encoder_trials import TooFewLabelsError, Trial, try_encoder, usable_labels
from everylabel.scripts.hub_licence import say_licence
from everylabel.scripts.project_errors import exit_on_errors, searched

TRAINED_WHOLE = ("direct-cnn", "siamese")
"""Encoders of ours that are trained on the labels: one for each fold would take many minutes."""


def run(project: int, names: Sequence[str], *, labels: int, sample: int, as_json: bool) -> None:
    """Try the encoder in use and others, and say what a switch would change."""
    backend = build(load_settings())
    known = backend.store.project(project)
    if known is None:
        fail(
            f"Project {project} is not connected. "
            f"To connect it: everylabel connect --project {project}\n{searched(backend.settings)}"
        )
    try:
        control = label_config.parse(known.label_config)
    except LabelConfigError as error:
        fail(error)
    if control.multiple:
        fail("A crop of this project may have several classes: encoders are compared where it has one.")
    in_use = backend.embeddings.name(known)
    if in_use in TRAINED_WHOLE:
        fail(
            f"{in_use} is in use here, and is trained whole on the labels: only encoders of fixed weights are compared."
        )
    ours = [name for name in encoders.names() if name not in TRAINED_WHOLE]
    wanted = list(dict.fromkeys([in_use, *names] if control.kind == "text" else [in_use, *ours, *names]))
    with exit_on_errors(backend, project):
        check_encoder(control, in_use)
        trials = _try_all(backend, known, control, wanted, labels, sample, errors if as_json else console)
        backend.store.save_project(project, better_encoder=_suggestion(project, trials))
    n_crops = sum(backend.store.count_tasks(project).values())
    if as_json:
        figures = [_figures(trial, trials[0], n_crops) for trial in trials]
        sys.stdout.write(json.dumps({"project": project, "encoders": figures}, indent=2) + "\n")
        return
    console.print(_table(project, trials, n_crops))
    for sentence in _advice(project, trials, n_crops):
        console.print(sentence, highlight=False, soft_wrap=True)


def _try_all(
    backend: Backend,
    project: Project,
    control: ImageChoices,
    names: Sequence[str],
    labels: int,
    sample: int,
    shown_on: Console,
) -> list[Trial]:
    """Return the trials, that of the encoder in use first; one that cannot be loaded is named and left out."""
    given = current_labels(backend.store, project.id, backend.store.annotations(project.id), control.classes)
    trials: list[Trial] = []
    try:
        chosen = usable_labels(given, labels, project.id)
        tasks = _tasks(backend, project, list(chosen), set(given), sample)
        for name in names:
            if name in TRAINED_WHOLE:
                errors.print(
                    f"{name} is left out: it is trained whole on the labels, which takes minutes for each fold."
                )
                continue
            say_licence(name, shown_on)
            try:
                encoder = encoders.create(name, device=backend.settings.device)
            except ValueError as error:
                if not trials:
                    fail(error)
                errors.print(f"{escape(name)} is left out: {escape(str(error))}", soft_wrap=True)
                continue
            if encoder.reads != control.kind:
                errors.print(f"{escape(name)} is left out: it reads {encoder.reads}s.", soft_wrap=True)
                continue
            with progress(shown_on) as report:
                show = partial(report, f"Trying {name}")
                threads = backend.settings.download_threads
                trial = try_encoder(backend.reader, encoder, control, tasks, chosen, threads, show)
            if trials and trial.tasks != trials[0].tasks:
                errors.print(
                    f"{escape(name)} is left out: not the same crops could be read for it. Run the command again.",
                    soft_wrap=True,
                )
                continue
            trials.append(trial)
    except TooFewLabelsError as error:
        fail(error)
    return trials


def _tasks(
    backend: Backend, project: Project, labelled: Sequence[int], given: set[int], sample: int
) -> list[Task]:
    """Return the labelled tasks, and some of those without a label, drawn by chance."""
    tasks, _ = backend.store.embedding_rows(project.id)
    mixed = np.random.default_rng(project.id).permutation(tasks)
    others = islice((int(task) for task in mixed if task and int(task) not in given), sample)
    return backend.store.tasks(project.id, [*labelled, *others])


def _figures(trial: Trial, in_use: Trial, n_crops: int) -> dict[str, Any]:
    """Return what the table says, for programs."""
    return {
        "encoder": trial.name,
        "in_use": trial is in_use,
        "balanced_accuracy": asdict(trial.out_of_fold.scores()),
        "gain": None if trial is in_use else asdict(in_use.gain(trial)),
        "crops_per_second": trial.crops_per_second,
        "seconds_for_pool": n_crops / trial.crops_per_second,
        "bytes_for_pool": n_crops * trial.bytes_per_crop,
        "licence": trial.licence,
    }


def _table(project: int, trials: Sequence[Trial], n_crops: int) -> Table:
    table = Table(title=f"Project {project}: encoders", title_justify="left")
    table.add_column("encoder", overflow="fold")
    table.add_column("right, %", justify="right")
    table.add_column("a switch, points", justify="right")
    table.add_column("crops/s", justify="right")
    table.add_column(f"all {n_crops:,}", justify="right")
    table.add_column("licence", overflow="fold", style="dim")
    for trial in trials:
        scores = trial.out_of_fold.scores()
        change = "in use"
        if trial is not trials[0]:
            gain = trials[0].gain(trial)
            change = f"{gain.points:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"
        table.add_row(
            escape(trial.name),
            f"{100 * scores.balanced_accuracy:.0f} ({100 * scores.low:.0f} to {100 * scores.high:.0f})",
            change,
            f"{trial.crops_per_second:.0f}",
            f"{span(n_crops / trial.crops_per_second).removeprefix('about ')}, {n_crops * trial.bytes_per_crop / 1e6:.0f} MB",
            escape(trial.licence),
        )
    return table


def _clearly_better(trials: Sequence[Trial]) -> tuple[float, Trial] | None:
    """Return the encoder that the labels speak for, and by how many points; None where they speak for none."""
    in_use, *others = trials
    gains = [(in_use.gain(other), other) for other in others]
    clear = [(gain.points, other) for gain, other in gains if gain.is_clear and gain.points > 0]
    return max(clear, key=lambda found: found[0]) if clear else None


def _suggestion(project: int, trials: Sequence[Trial]) -> str | None:
    """Return the sentence that the page shows from now on, if another encoder is clearly better."""
    if (found := _clearly_better(trials)) is None:
        return None
    points, best = found
    n_labels = counted(len(trials[0].out_of_fold.codes), "label")
    return (
        f"On {n_labels}, {best.name} was better than {trials[0].name} by about {points:.0f} points. To switch: everylabel "
        f"encoders --project {project} --switch {best.name}"
    )


def _advice(project: int, trials: Sequence[Trial], n_crops: int) -> list[str]:
    """Say which encoder the labels speak for, how to switch, and what the figures mean."""
    in_use, *others = trials
    n_labels = counted(len(in_use.out_of_fold.codes), "label")
    said = [
        f"Right: the mean over classes on {n_labels}, each predicted by a model that has not seen it. People were asked about crops "
        "that are hard, so the model is right more often on the rest."
    ]
    clear = _clearly_better(trials)
    if not others:
        said.append("There is no other encoder to compare with: name one with --encoder.")
    elif clear is None:
        said.append(
            f"These labels show no encoder that is clearly better than {escape(in_use.name)}: keep it."
        )
    else:
        points, best = clear
        said.append(
            f"[bold]{escape(best.name)} is better on these labels[/], by about {points:.0f} points. To switch: everylabel encoders "
            f"--project {project} --switch {escape(best.name)}. The {counted(n_crops, 'crop')} are embedded in the background in "
            f"{span(n_crops / best.crops_per_second)}, while {escape(in_use.name)} goes on answering. Labels stay as they are."
        )
    return said
