"""Label a small pool with a query strategy and an encoder by name, and print what the session asked for.

Usage: ``python label_with_a_plugin.py STRATEGY ENCODER``, in an environment where both can be found.
"""

import json
import sys

import numpy as np

from everylabel.model import encoders
from everylabel.model.session import ActiveLearningSession


def main(strategy: str, encoder_name: str) -> None:
    encoder = encoders.create(encoder_name, device="cpu")
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=120)
    crops = rng.integers(0, 120, size=(120, encoder.crop_size, encoder.crop_size, 3), dtype=np.uint8)
    crops[truth == 1, ..., 0] += 100
    session = ActiveLearningSession(
        encoder.encode(crops), classifier=encoder.make_classifier(), strategy=strategy, check_share=0
    )
    for _ in range(6):
        asked = session.get_next_batch()
        session.add_labels(asked, [str(truth[index]) for index in asked])
        outcome = session.run_round()
    assert outcome.probabilities is not None
    guesses = np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)]
    right = float((guesses == truth.astype(str)).mean())
    told = {
        "strategy": type(session.strategy).__module__,
        "encoder": type(encoder).__module__,
        "labels": sorted(session.labels),
        "right": right,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
