"""Run inside the container, by its own Python: prints what the backend remembers of a project, as JSON."""

import json
import sys

from everylabel.backend.bootstrap import build
from everylabel.backend.settings import Settings

project = int(sys.argv[1])
store = build(Settings()).store
print(  # noqa: T201
    json.dumps(
        {
            "labels": {a.task_id: a.choice for a in store.annotations(project) if not a.cancelled},
            "rounds": {r.model_version: [*r.queue, *r.pre_annotated] for r in store.rounds(project)},
        }
    )
)
