"""`everylabel trainer`: embed crops and run rounds until stopped; `everylabel serve` starts it."""

from __future__ import annotations

import os
from contextlib import suppress

from everylabel.backend import (
    logs,
    preload,  # noqa: F401 - the trainer is what learns
)
from everylabel.backend.bootstrap import build
from everylabel.backend.worker.map_drawing import MapDrawer
from everylabel.model.threads import limit_threads
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.process_priority import TRAINER, lower_priority, threads


def run() -> None:
    """Run the trainer, off the last core, until it is told to stop."""
    settings = load_settings()
    logs.configure(settings)
    cores = _all_but_the_last_core()
    # What cannot start is refused before anything of this process is changed.
    backend = build(settings, encoder_threads=cores)
    limit_threads(cores)
    _give_way()
    backend.trainer.start_heartbeat()
    backend.trainer.request_sync()
    MapDrawer(backend.store, backend.files, backend.embeddings).start()
    backend.jobs.run_trainer()


def _all_but_the_last_core() -> int:
    """Return the number of cores that the trainer takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _give_way() -> None:
    """Keep this process off the last core, and lower its priority.

    An annotator waits for the web server with every click; nobody waits for the trainer. A lower priority alone is
    not enough: a process that wakes up still waits some milliseconds for the one that runs, on every webhook.
    """
    lower_priority(TRAINER)
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        return
    cores = sorted(os.sched_getaffinity(0))
    # Thread by thread: those of the numerical libraries were started when they were imported.
    for thread in threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores[:-1] or cores)
