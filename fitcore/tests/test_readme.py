"""The README's examples, followed to the letter."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from fitcore.tests.project import Project

README = Path(__file__).parents[2] / "README.md"


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section of the README in a language, indentation removed."""
    (text,) = re.findall(
        rf"^## {section}$(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [dedent(body) for _, body in found]


def test_the_example_claim_holds_and_its_control_is_detected(project: Project) -> None:
    (statement,), (test,) = blocks("Add a claim", "toml"), blocks("Add a claim", "python")
    project.catalogue('[document]\nkey = "linear-model"\ntitle = "A document"\n' + statement)
    project.pytester.makepyfile(test_example=test)
    project.run().assert_outcomes(passed=2)
    (claim,) = project.report()["claims"]
    assert (claim["verdict"], claim["outcome"]) == ("holds", "confirmed")
    assert [control["detected"] for control in claim["controls"]] == [True]


def test_a_document_of_ones_own_is_decided_in_an_empty_folder(tmp_path: Path) -> None:
    section = "Your own document"
    for name, language in (("pytest.ini", "ini"), ("catalogue/handbook.toml", "toml"), ("test_handbook.py", "python")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(*blocks(section, language), encoding="utf-8")
    (command,) = blocks(section, "bash")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    run = [sys.executable, "-m", *command.split()]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    claims = json.loads((tmp_path / "reports/latest/claims.json").read_text(encoding="utf-8"))["claims"]
    assert {claim["id"]: (claim["verdict"], claim["outcome"]) for claim in claims} == {
        "handbook/gradients-add-up": ("holds", "confirmed"),
        "handbook/dropout-halves-the-signal": ("refuted", "confirmed"),
    }
    assert [control["detected"] for claim in claims for control in claim["controls"]] == [True, True]
    assert (tmp_path / "reports/latest/index.html").is_file()


def test_the_example_of_an_ensemble_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("Many seeds for the price of few", "python")
    exec(example.replace("epochs=500", "epochs=5"), {})
    assert capsys.readouterr().out.startswith("tensor(")


def test_the_example_of_a_network_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (example,) = blocks("One network, trained properly", "python")
    monkeypatch.chdir(tmp_path)
    exec(example.replace("epochs=3", "epochs=1").replace(":2000", ":64"), {})
    assert capsys.readouterr().out.startswith("tensor(")
    assert [path.name for path in tmp_path.iterdir()] == ["digits.pt"]


def test_the_example_of_a_look_inside_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("A network from inside", "python")
    exec(example, {})
    assert capsys.readouterr().out.endswith("torch.Size([60, 240])\n")


def test_the_example_of_an_ablation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("Recipes, taken apart", "python")
    exec(example, {})
    variants = ["baseline", "momentum", "rate", "together"]
    assert re.findall(r"'variant': '(\w+)'", capsys.readouterr().out) == variants


def test_the_folders_that_the_readme_names_exist() -> None:
    named = re.findall(r"^\| `([a-z/]+)/` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert [name for name in named if not (README.parent / name).is_dir() and name != "reports"] == []
