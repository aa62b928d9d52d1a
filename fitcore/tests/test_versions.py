"""The same claims under several versions of torch; what the tools would do is made up here."""

import json
import subprocess
from pathlib import Path

import pytest

from fitcore.testing import versions
from fitcore.tests.reports import case, claim, report

FAILED = claim(outcome="violated", tests=[case(outcome="failed", reason="loss grew")])


class Shell:
    """Stands in for ``subprocess``: notes every command, and leaves the report that a run of pytest would."""

    def __init__(self, found):
        self.found, self.commands, self.failing = found, [], None

    def run(self, command, **_):
        self.commands.append(" ".join(map(str, command)))
        if self.failing and self.failing in self.commands[-1]:
            return subprocess.CompletedProcess(command, 1, "", "no such release")
        folder = Path(str(command[-1]).partition("--claim-report=")[2])
        if folder.name in self.found:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "claims.json").write_text(json.dumps(self.found[folder.name]), encoding="utf-8")
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {f"torch-{v}": report(claim(), torch=f"{v}.0+cu130") for v in ("2.11", "2.13", "2.15")}
    shell = Shell(found | {"torch-2.13": report(FAILED, torch="2.13.1")})
    monkeypatch.setattr(versions, "subprocess", shell)
    return shell


def test_each_version_gets_an_environment_and_a_run(shell, tmp_path):
    assert versions.main(["2.15", "2.11.0", "--cache", "envs", "--", "claims/", "-m", "not gpu"]) == 2
    python = tmp_path / "envs" / "torch-2.15" / "bin" / "python"
    assert shell.commands[0].endswith(f" -m venv {python.parents[1]}")
    assert shell.commands[1:4] == [
        f"{python} -m pip install --quiet torch==2.15.* torchvision -e.",
        f"{python} -c import torchvision.ops",
        f"{python} -m pytest claims/ -m not gpu --claim-report={tmp_path}/reports/versions/torch-2.15",
    ]
    assert "torch===2.11.0 torchvision" in shell.commands[5]


def test_an_environment_that_is_there_is_used_again(shell, tmp_path):
    python = tmp_path / ".venv" / "versions" / "torch-2.15" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert versions.main(["2.15", "--install=-e.[test]"]) == 0
    assert "venv" not in shell.commands[0].partition(" ")[2].partition("-e.[test]")[0]


def test_what_the_others_found_is_compared_with_the_first(shell, capsys, tmp_path):
    assert versions.main(["2.15", "2.13", "2.11", "-o", "there"]) == 1
    assert capsys.readouterr().out.endswith(f"""
from torch 2.15 to 2.13:
outcome notes/gradients-add-up: confirmed → violated
1 verdicts or outcomes changed, 0 other differences

from torch 2.15 to 2.11:
0 verdicts or outcomes changed, 0 other differences

report of all runs: {Path("there") / "index.html"}
""")
    (merged,) = json.loads((tmp_path / "there" / "claims.json").read_text("utf-8"))["claims"]
    assert [(run["outcome"], run["reasons"]) for run in merged["otherwise"]] == [("violated", ["loss grew"])]


@pytest.mark.parametrize(("failing", "step"), [("-m venv", "venv"), ("pip install", "pip"), ("-c import", "import")])
def test_an_environment_that_cannot_be_had_is_told_in_the_words_of_its_tool(shell, capsys, failing, step):
    shell.failing = failing
    assert versions.main(["2.15", "2.11"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: torch 2.15: ")
    assert step in message
    assert message.endswith("failed:\nno such release\n")


def test_a_run_that_leaves_no_report_is_told_and_an_old_one_is_not_taken_for_it(shell, capsys, tmp_path):
    assert versions.main(["2.15"]) == 0
    del shell.found["torch-2.15"]
    assert versions.main(["2.15"]) == 2
    assert capsys.readouterr().err == "error: torch 2.15: pytest left no report; its exit status is 0\n"


def test_a_run_under_another_torch_is_told(shell, capsys):
    shell.found["torch-2.15"] = report(claim(), torch="2.1.5")
    assert versions.main(["2.15"]) == 2
    assert capsys.readouterr().err == "error: torch 2.15: the claims ran under torch 2.1.5\n"


@pytest.mark.parametrize("version", ["2", "latest", "2.11; rm", "2.11+cpu"])
def test_a_version_is_two_or_three_numbers(version, capsys):
    with pytest.raises(SystemExit):
        versions.main([version])
    assert f"must be a version such as 2.11 or 2.11.0, got {version!r}" in capsys.readouterr().err
