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
    cores = _leave_a_core_free()
    limit_threads(cores)
    backend = build(settings, encoder_threads=cores)
    backend.trainer.start_heartbeat()
    backend.trainer.request_sync()
    MapDrawer(backend.store, backend.files, backend.embeddings).start()
    backend.jobs.run_trainer()


def _leave_a_core_free() -> int:
    """Keep this process off the last core, lower its priority, and return the number of cores left to it.

    An annotator waits for the web server with every click; nobody waits for the trainer. A lower priority alone is
    not enough: a process that wakes up still waits some milliseconds for the one that runs, on every webhook.
    """
    lower_priority(TRAINER)
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        return max(1, (os.cpu_count() or 1) - 1)
    cores = sorted(os.sched_getaffinity(0))
    # Thread by thread: those of the numerical libraries were started when they were imported.
    for thread in threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores[:-1] or cores)
    return max(1, len(cores) - 1)
