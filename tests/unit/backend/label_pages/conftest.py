"""Project 1 with a model, and two people who have signed in with their own tokens."""

import pytest

from everylabel.backend.store import Person


@pytest.fixture
def taught(stand_in, project, teach):
    """Project 1 after 16 labels and a round: true class by task."""
    stand_in.people |= {"anns-token": 7, "bobs-token": 8}
    teach(16)
    return project


@pytest.fixture
def ann(services, taught):
    services.labelling.sign_in.sign_in(1, "anns-token", "")
    return Person(7, "7@example.org")


@pytest.fixture
def bob(services, taught):
    services.labelling.sign_in.sign_in(1, "bobs-token", "")
    return Person(8, "8@example.org")


@pytest.fixture
def pages(services):
    return services.labelling.pages


@pytest.fixture
def sender(services):
    return services.labelling.sender
