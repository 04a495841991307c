"""Say in words how far a certificate is, and write the document that a customer can file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from everylabel.backend.label_studio.acceptance_mark import certified_version
from everylabel.backend.label_studio.publisher import SPOT_CHECK, version_name
from everylabel.backend.store.certificates import ACCEPTED, CANCELLED, CERTIFIED, CHECKING, FAILED, TAKEN_BACK

if TYPE_CHECKING:
    from everylabel.backend.rounds.spot_check import SpotCheck
    from everylabel.backend.store import CertificateRecord
    from everylabel.model.evaluation.spot_check import Cost

METHOD = (
    "Crops were sampled at random, in equal shares from strata of the model's confidence, and labelled by people who did not see "
    "the machine's label; the bound is a confidence sequence for sampling without replacement (arXiv:2006.04347), which holds "
    "however many crops are looked at, and for every set that could have been chosen."
)
"""How a certificate is reached, in a sentence."""


def cost_in_words(cost: Cost, max_error: float) -> str:
    """Return what a certificate will probably take, before it begins."""
    return (
        f"To certify {max_error:.1%} on about {cost.crops:,} crops, people look at about {cost.if_all_right} of them if every "
        f"label is right, and about {cost.if_some_wrong} if 1 in {round(1 / cost.error_rate)} is wrong. Wrong ones shrink the set."
    )


def progress_in_words(check: SpotCheck) -> str:
    """Return how far a spot check is: what was found, the bound, and what is still to do."""
    record, plan, tally = check.record, check.plan, check.tally
    looks, wrong = int(tally.looks.sum()), int(tally.wrong.sum())
    found = f"{looks} looked at, {wrong} wrong"
    if check.unanswerable:
        found += f" ({len(check.unanswerable)} of them without an answer, which counts as wrong)"
    if plan.certified:
        return f"{found}: {_bound(record, plan.wrong_at_most, plan.target)}"
    if check.has_failed:
        return f"{found}: no set is worth more looks at {record.max_error:.1%}"
    expected = check.expected_plan
    crops = sum(record.sizes[: expected.target + 1])
    left = len(check.open_tasks) if expected.certified else expected.looks_left + len(check.open_tasks)
    return f"{found}; about {left} more looks to certify {record.max_error:.1%} on {crops:,} crops, if they go on like this"


def summary(record: CertificateRecord) -> str:
    """Return how a certificate ended, in a few words."""
    if record.state in (CERTIFIED, ACCEPTED, TAKEN_BACK):
        return f"{record.state}: {_bound(record, record.result['wrong_at_most'], record.result['target'])}"
    if record.state == FAILED:
        return f"failed: {failure_in_words(record)}"
    return record.state


def failure_in_words(record: CertificateRecord) -> str:
    """Return by how much a spot check has failed."""
    found = record.result
    share = found["wrong"] / max(found["looks"], 1)
    return (
        f"of {found['looks']} crops looked at among the {found['crops']:,} most confident {found['wrong']} were wrong "
        f"({share:.1%}), and {record.max_error:.1%} were allowed"
    )


def fields(
    record: CertificateRecord, project: str, still_accepted: int, earlier: Sequence[CertificateRecord] = ()
) -> dict[str, Any]:
    """Return everything a certificate says, for JSON; shares lie between 0 and 1, times are ISO 8601 in UTC."""
    found = record.result
    return {
        "certificate": record.number,
        "project": project,
        "state": record.state,
        "classes": list(record.classes),
        "model": version_name(record.model_round),
        "max_error": record.max_error,
        "confidence": record.confidence,
        "began": _iso(record.began_at),
        "certified": _iso(
            found.get("certified_at") if "wrong_at_most" in found and record.state != FAILED else None
        ),
        "finished": _iso(record.finished_at),
        "crops": found.get("crops"),
        "looked_at": found.get("looks"),
        "looked_at_in_all": found.get("looks_in_all"),
        "wrong_found": found.get("wrong"),
        "without_answer": found.get("unanswered"),
        "wrong_at_most": found.get("wrong_at_most"),
        "checked_by": found.get("checked_by", {}),
        "accepted": found.get("accepted"),
        "accepted_now": still_accepted,
        "earlier_attempts": [held.number for held in earlier if held.state in (FAILED, CANCELLED)],
        "mark": certified_version(record.number),
        "method": METHOD,
    }


def document(
    record: CertificateRecord, project: str, still_accepted: int, earlier: Sequence[CertificateRecord] = ()
) -> str:
    """Return the document that a customer can file, as plain text."""
    held = fields(record, project, still_accepted, earlier)
    lines: Mapping[str, str] = {
        "Project": project,
        "State": f"{record.state}, {_date(record.finished_at or record.result.get('certified_at') or record.began_at)}",
        "Statement": _statement(record),
        "Classes": ", ".join(record.classes),
        "Labels by": f"the model of {held['model']}, as it was on {_date(record.began_at)}",
        **({"Spot check": _spot_check(record)} if record.result else {}),
        **({"Accepted": _accepted(record, still_accepted)} if record.state in (ACCEPTED, TAKEN_BACK) else {}),
        **({"Before": _attempts(held["earlier_attempts"])} if held["earlier_attempts"] else {}),
        "Method": METHOD,
        "Assumed": "The labels that people gave in the spot check are right.",
    }
    width = max(map(len, lines))
    body = "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines.items())
    return f"Certificate {record.number}\n\n{body}\n"


def _statement(record: CertificateRecord) -> str:
    if record.state in (CERTIFIED, ACCEPTED, TAKEN_BACK):
        return (
            f"Of the machine labels of {record.result['crops']:,} crops at most {record.result['wrong_at_most']} are wrong "
            f"({record.result['wrong_at_most'] / record.result['crops']:.2%}; {record.max_error:.1%} were allowed), with "
            f"{record.confidence:.0%} probability."
        )
    if record.state == FAILED:
        return f"None: {failure_in_words(record)}."
    return "None yet: the spot check goes on." if record.state == CHECKING else "None: it was cancelled."


def _spot_check(record: CertificateRecord) -> str:
    found = record.result
    people = ", ".join(f"{name} ({count})" for name, count in found["checked_by"].items()) or "nobody"
    unanswered = f", {found['unanswered']} of them without an answer" if found["unanswered"] else ""
    return f"{found['looks']} of these crops, {found['wrong']} wrong{unanswered}; {found['looks_in_all']} looks in all by {people}"


def _attempts(numbers: Sequence[int]) -> str:
    """Return the certificates that came to nothing before."""
    named = ", ".join(map(str, numbers))
    return f"failed or cancelled in this project: number {named}; the probability above is that of this certificate alone"


def _accepted(record: CertificateRecord, still_accepted: int) -> str:
    found = record.result
    now = "" if still_accepted == found["accepted"] else f", {still_accepted} of them as they were accepted"
    return (
        f'{found["accepted"]:,} crops that nobody looked at{now}, marked "{certified_version(record.number)}" in Label Studio; '
        f"those looked at have people's labels"
    )


def _bound(record: CertificateRecord, wrong_at_most: int, target: int) -> str:
    crops = sum(record.sizes[: target + 1])
    return (
        f"at most {wrong_at_most} of {crops:,} machine labels are wrong ({wrong_at_most / crops:.1%}), with "
        f"{record.confidence:.0%} probability"
    )


def next_step(project_id: int) -> str:
    """Return what people do while a spot check goes on."""
    return (
        f"Label All Tasks serves its crops first, and the tab {SPOT_CHECK} shows them. Then run everylabel accept --project "
        f"{project_id} again; --cancel drops it."
    )


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M} UTC"
