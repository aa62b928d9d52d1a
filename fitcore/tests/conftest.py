"""The seed of all tests, and the project that those of the machinery run pytest in."""

from collections.abc import Iterator

# A run in this process drops the modules that it imports, which these don't survive: so they are imported before.
import matplotlib.image  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import torch._dynamo  # noqa: F401

import fitcore.testing.report
import fitcore.testing.shared  # noqa: F401
from fitcore.seeding import seeded
from fitcore.tests.project import HEAD, Project, entry


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the same weights and inputs in every run."""
    with seeded(0):
        yield


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with the statements doc/a, doc/b and doc/c, and no claim yet."""
    # Pages have tests of their own; here they would take longer than the runs.
    monkeypatch.setattr("fitcore.testing.report.render_page", lambda report, sketchbook: "")
    monkeypatch.setattr("fitcore.testing.report.render_summary", lambda report: "")
    pytester.makeini("[pytest]\nclaim_catalogue = catalogue\n")
    pytester.mkdir("catalogue")
    project = Project(pytester)
    project.catalogue(HEAD + "".join(map(entry, "abc")))
    return project
