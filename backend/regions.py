"""The project of regions and the project they came from: what is new goes one way, what is learned the other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from backend import label_config, region_tasks
from backend.label_config import ImageChoices, LabelConfigError
from backend.region_tasks import REGION, TASK, Region, RegionChoices
from backend.rounds import labels_by_task

if TYPE_CHECKING:
    from backend.services import Progress, Services


def read_regions(
    services: Services, control: RegionChoices, project_id: int, report: Progress | None = None
) -> dict[tuple[int, str], Region]:
    """Every region of a project, by its task and its id."""
    tasks = services.label_studio.whole_tasks(
        project_id, progress=None if report is None else lambda done, total: report("Reading", done, total)
    )
    return {(r.task_id, r.id): r for task in tasks for r in region_tasks.regions(task, control)}


def spread_out(
    services: Services, project_id: int, to: int | None, report: Progress | None = None
) -> tuple[int, int, int]:
    """Give each region of a project that has none a task in another, which is made if need be.

    Returns:
        The other project's number, how many regions are new in it, and how many it cannot take: they are not on their
        picture, or turned or polygons where its labeling config names no field for that.

    Raises:
        LabelConfigError: the project classifies no regions, or the other no parts of pictures.
        LabelStudioError: Label Studio does not answer or refuses.
    """
    label_studio = services.label_studio
    source = label_studio.project(project_id)
    control = region_tasks.parse(str(source["label_config"]))
    found = read_regions(services, control, project_id, report)
    if to is None:
        made = label_studio.create_project(f"{source['title']}: regions"[:50], control.config())
        to = int(made["id"])
    crops = _crops(services, to)
    known = {_origin(task["data"]) for task in label_studio.tasks(to)}
    new = [region for key, region in found.items() if key not in known]
    taken = [
        region_tasks.as_task(region, crops)
        for region in new
        if (shape := region.shape) is not None and crops.part is not None and crops.part.takes(shape)
    ]
    label_studio.import_tasks(to, taken)
    return to, len(taken), len(new) - len(taken)


def put_back(
    services: Services, project_id: int, to: int, min_confidence: float, report: Progress | None = None
) -> tuple[int, int]:
    """Write what is known of the regions into the project they came from, a prediction a task.

    People's labels go back as they are, the model's where it is sure enough. What was written before is deleted,
    but for the newest of it: an annotator may have that open, and Label Studio 1.23.2 refuses their submit without it.

    Returns:
        How many regions have a class, and on how many tasks.

    Raises:
        LabelConfigError, LabelStudioError: as `spread_out`.
    """
    label_studio = services.label_studio
    control = region_tasks.parse(str(label_studio.project(project_id)["label_config"]))
    services.loop.catch_up(to, compare=True, progress=report)
    known = _classes(services, to, min_confidence)
    found = read_regions(services, control, project_id, report)
    by_task: dict[int, dict[str, tuple[Region, str, float]]] = defaultdict(dict)
    for task in label_studio.tasks(to):
        region = found.get(_origin(task["data"]))
        if region is not None and int(task["id"]) in known:
            label, confidence = known[int(task["id"])]
            by_task[region.task_id][region.id] = (region, label, confidence)
    latest = services.store.latest_round(to)
    shown = str(label_studio.project(project_id).get("model_version") or "")
    old = [name for name in label_studio.model_versions(project_id) if region_tasks.is_ours(name)]
    before = shown if shown in old else max(old, key=region_tasks.version_order, default=None)
    version = region_tasks.version(latest.number if latest else 0, {*old, shown})
    written = [region_tasks.prediction(id_, some, control, version) for id_, some in sorted(by_task.items())]
    label_studio.import_predictions(project_id, written)
    if written:
        label_studio.update_project(project_id, model_version=version, show_collab_predictions=True)
        for name in old:
            if name != before:
                label_studio.delete_predictions(project_id, name)
    return sum(map(len, by_task.values())), len(by_task)


def _classes(services: Services, project_id: int, min_confidence: float) -> dict[int, tuple[str, float]]:
    """The label of each region's task, and how sure it is: a person's, or the model's where sure enough."""
    control, store = _crops(services, project_id), services.store
    model = services.model(project_id)
    given = labels_by_task(store.annotations(project_id), control.classes)
    known = {task_id: (label, 1.0) for task_id, label in given.items()}
    tasks = [t for t in store.tasks(project_id) if t.embedding_row is not None and t.id not in known]
    if model is None or not tasks:
        return known
    rows = np.asarray([task.embedding_row for task in tasks], dtype=np.intp)
    probabilities = model.predict_proba(np.asarray(services.embeddings(project_id)[rows]))
    for task, row in zip(tasks, probabilities, strict=True):
        best = int(row.argmax())
        if row[best] >= min_confidence and control.knows(model.classes_[best]):
            known[task.id] = (model.classes_[best], float(row[best]))
    return known


def _crops(services: Services, project_id: int) -> ImageChoices:
    """How a project of regions calls things."""
    control = label_config.parse(str(services.label_studio.project(project_id)["label_config"]))
    if control.part is None:
        raise LabelConfigError(
            f"Project {project_id} shows whole images, not parts of them: --to takes a project that `everylabel regions` "
            "has made."
        )
    return control


def _origin(data: Any) -> tuple[int, str]:
    """Which task and region a task of the project of regions stands for."""
    task, region = (data.get(TASK), data.get(REGION)) if isinstance(data, dict) else (None, None)
    return (task if isinstance(task, int) else 0, str(region))
