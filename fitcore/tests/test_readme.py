"""The README's example, followed to the letter in a project of its own."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from fitcore.tests.project import Project

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language, indentation removed."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [dedent(body) for _, body in found]


@pytest.fixture
def example(project: Project) -> Project:
    (statement,), (test, *_) = blocks("toml"), blocks("python")
    project.catalogue('[document]\nkey = "linear-model"\ntitle = "A document"\n' + statement)
    project.pytester.makepyfile(test_example=test)
    return project


def test_the_example_claim_holds_and_its_control_is_detected(example: Project) -> None:
    example.run().assert_outcomes(passed=2)
    (claim,) = example.report()["claims"]
    assert (claim["verdict"], claim["outcome"]) == ("holds", "confirmed")
    assert [control["detected"] for control in claim["controls"]] == [True]


def test_the_example_of_an_ensemble_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, example, *_ = blocks("python")
    exec(example.replace("epochs=500", "epochs=5"), {})
    assert capsys.readouterr().out.startswith("tensor(")


def test_the_example_of_a_network_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    *_, example, _, _ = blocks("python")
    monkeypatch.chdir(tmp_path)
    exec(example.replace("epochs=3", "epochs=1").replace(":2000", ":64"), {})
    assert capsys.readouterr().out.startswith("tensor(")
    assert [path.name for path in tmp_path.iterdir()] == ["digits.pt"]


def test_the_example_of_a_look_inside_runs(capsys: pytest.CaptureFixture[str]) -> None:
    *_, example, _ = blocks("python")
    exec(example, {})
    assert capsys.readouterr().out.endswith("torch.Size([60, 240])\n")


def test_the_example_of_an_ablation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    *_, example = blocks("python")
    exec(example, {})
    variants = ["baseline", "momentum", "rate", "together"]
    assert re.findall(r"'variant': '(\w+)'", capsys.readouterr().out) == variants


def test_the_folders_that_the_readme_names_exist() -> None:
    named = re.findall(r"^\| `([a-z/]+)/` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert [name for name in named if not (README.parent / name).is_dir() and name != "reports"] == []
