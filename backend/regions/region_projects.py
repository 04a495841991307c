"""Copy new regions into a project of their own, and their classes back into the project they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.regions import region_tasks
from everylabel.backend.regions.region_tasks import REGION, TASK, Region, RegionChoices
from everylabel.backend.rounds.labels import current_labels
from everylabel.backend.rounds.parts import RoundParts
from everylabel.backend.rounds.pool_predictions import predict_pool

if TYPE_CHECKING:
    from everylabel.backend.progress import Progress

WRITTEN_TOGETHER = 1000
"""How many regions or tasks are read before they are written: a project may have a million."""


def spread_out(
    parts: RoundParts, project_id: int, to: int | None, report: Progress | None = None
) -> tuple[int, int, int]:
    """Make a task in another project for each region that has none there.

    Tasks are written as the regions are read: if this is interrupted, the next run goes on with the rest.

    Args:
        parts: The backend.
        project_id: The project that has the regions.
        to: The project of regions; if None, one is made.
        report: Called with (what, done, total).

    Returns:
        The number of the project of regions, how many regions are new in it, and how many it cannot take: those that
        are not on their picture, and those that are rotated or polygons if its labeling config has no field for that.

    Raises:
        LabelConfigError: The project classifies no regions, or the other project shows no parts of pictures.
        LabelStudioError: Label Studio does not answer or refuses.
    """
    label_studio = parts.label_studio
    source = label_studio.project(project_id)
    control = region_tasks.parse(str(source["label_config"]))
    if to is None:
        made = label_studio.create_project(f"{source['title']}: regions"[:50], control.config())
        to = int(made["id"])
    crops = _crops(parts, to)
    listed = label_studio.tasks(to, progress=_told(report, "Reading the project of regions"))
    known = {_origin(task["data"]) for task in listed}
    new = (
        region
        for task in _pictures(parts, project_id, report)
        for region in region_tasks.regions(task, control)
        if (region.task_id, region.id) not in known
    )
    taken, left = 0, 0
    while some := list(islice(new, WRITTEN_TOGETHER)):
        tasks = [
            region_tasks.as_task(region, crops)
            for region in some
            if (shape := region.shape) is not None and crops.part is not None and crops.part.takes(shape)
        ]
        label_studio.import_tasks(to, tasks)
        taken, left = taken + len(tasks), left + len(some) - len(tasks)
    return to, taken, left


def put_back(
    parts: RoundParts, project_id: int, to: int, min_confidence: float, report: Progress | None = None
) -> tuple[int, int]:
    """Write the classes of the regions into the project they came from, one prediction for each task.

    People's labels go back as they are, predictions only if they are confident enough. Versions written earlier are
    deleted except for the newest: an annotator may have it open, and Label Studio 1.23.2 refuses their submit without it.

    Args:
        parts: The backend.
        project_id: The project that the regions came from.
        to: The project of regions.
        min_confidence: The lowest confidence of a prediction to write, 0 to 1.
        report: Called with (what, done, total).

    Returns:
        How many regions have a class, and on how many tasks they are.

    Raises:
        LabelConfigError: As for `spread_out`.
        LabelStudioError: As for `spread_out`.
    """
    label_studio = parts.label_studio
    control = region_tasks.parse(str(label_studio.project(project_id)["label_config"]))
    parts.loop.catch_up(to, compare=True, progress=report)
    known = _classes(parts, to, min_confidence, report)
    latest = parts.store.latest_round(to)
    shown = str(label_studio.project(project_id).get("model_version") or "")
    old = [name for name in label_studio.model_versions(project_id) if region_tasks.is_ours(name)]
    before = shown if shown in old else max(old, key=region_tasks.version_order, default=None)
    version = region_tasks.version(latest.number if latest else 0, {*old, shown})
    by_task = _classified(parts, project_id, control, known, report)
    n_regions, n_tasks = 0, 0
    while some := list(islice(by_task, WRITTEN_TOGETHER)):
        written = [region_tasks.prediction(task_id, found, control, version) for task_id, found in some]
        label_studio.import_predictions(project_id, written)
        n_regions, n_tasks = n_regions + sum(len(found) for _, found in some), n_tasks + len(some)
    if n_tasks:
        label_studio.update_project(project_id, model_version=version, show_collab_predictions=True)
        for name in old:
            if name != before:
                label_studio.delete_predictions(project_id, name)
    return n_regions, n_tasks


def _classified(
    parts: RoundParts,
    project_id: int,
    control: RegionChoices,
    known: Mapping[tuple[int, str], tuple[str, float]],
    report: Progress | None,
) -> Iterator[tuple[int, dict[str, tuple[Region, str, float]]]]:
    """Yield each task that has regions with a class, and these regions with their class and confidence."""
    for task in _pictures(parts, project_id, report):
        found = {
            region.id: (region, *known[region.task_id, region.id])
            for region in region_tasks.regions(task, control)
            if (region.task_id, region.id) in known
        }
        if found:
            yield int(task["id"]), found


def _pictures(parts: RoundParts, project_id: int, report: Progress | None) -> Iterator[dict[str, Any]]:
    """Yield the tasks of the project that has the regions, with their annotations and predictions."""
    return parts.label_studio.whole_tasks(project_id, progress=_told(report, "Reading"))


def _told(report: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if report is None else lambda done, total: report(what, done, total)


def _classes(
    parts: RoundParts, project_id: int, min_confidence: float, report: Progress | None
) -> dict[tuple[int, str], tuple[str, float]]:
    """Return the label and confidence of each region: a person's label, or else a confident prediction."""
    control, store = _crops(parts, project_id), parts.store
    project, model = store.project(project_id), parts.models.of(project_id)
    given = current_labels(store, project_id, store.annotations(project_id), control.classes)
    predictions = (
        None
        if project is None or model is None
        else predict_pool(store, parts.embeddings, project, model).confident(min_confidence, control)
    )
    known = {}
    progress = _told(report, "Reading the project of regions")
    for task in parts.label_studio.tasks(project_id, progress=progress):
        id_ = int(task["id"])
        found = (given[id_], 1.0) if id_ in given else None if predictions is None else predictions.of(id_)
        if found is not None:
            known[_origin(task["data"])] = found
    return known


def _crops(parts: RoundParts, project_id: int) -> ImageChoices:
    """Return the choices of a project of regions.

    Raises:
        LabelConfigError: The project shows whole images.
    """
    control = label_config.parse(str(parts.label_studio.project(project_id)["label_config"]))
    if control.part is None:
        raise LabelConfigError(
            f"Project {project_id} shows whole images, not parts of them: --to takes a project that `everylabel regions` "
            "has made."
        )
    return control


def _origin(data: Any) -> tuple[int, str]:
    """Return the task and the region that a task of the project of regions stands for."""
    task, region = (data.get(TASK), data.get(REGION)) if isinstance(data, dict) else (None, None)
    return (task if isinstance(task, int) else 0, str(region))
