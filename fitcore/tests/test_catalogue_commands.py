"""``python -m fitcore.testing.catalogue``."""

import subprocess
import sys

import pytest

from fitcore.testing.catalogue.__main__ import main
from fitcore.tests.project import HEAD, Project, entry


def test_check_counts_what_it_finds(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    path = project.catalogue(HEAD + entry("a") + entry("b", origin="derived") + entry("c", origin="derived"))
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 3 statements (1 stated, 2 derived)\n"


def test_check_tells_the_line_of_a_mistake_in_each_file(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    path, missing = project.catalogue(HEAD + entry("a") + entry("b", kind="opinion")), project.path / "none.toml"
    assert main(["check", str(path), str(missing)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{path}:15: kind must be one of semantics, identity")
    assert told[1] == f"{missing}: can't read the catalogue: No such file or directory"


HOSTILE = 'Ends """ with a \\ and a "'


def test_a_scaffold_fails_as_pending_until_it_is_written(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    path = project.catalogue(
        HEAD + entry("a.b-1", statement=HOSTILE) + entry("c", section="") + entry("d", untestable="a matter of taste")
    )
    assert main(["scaffold", str(path)]) == 0
    project.pytester.makepyfile(test_claims=capsys.readouterr().out)
    project.run().assert_outcomes(failed=4)  # two claims and their controls
    assert [project.record(name)["outcome"] for name in ("a.b-1", "c", "d")] == ["error", "error", "not-run"]
    assert "pending: no claim measures this statement yet" in project.record("c")["tests"][0]["reason"]


def test_a_scaffold_of_no_catalogue_is_told(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold", str(project.catalogue("[[statement"))]) == 1
    assert "bad TOML" in capsys.readouterr().err


def test_the_module_can_be_run(project: Project) -> None:
    command = [sys.executable, "-m", "fitcore.testing.catalogue", "check", project.catalogue(HEAD)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.endswith("no statements\n")
    assert not run.stderr
