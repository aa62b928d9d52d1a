"""A tiny project with a catalogue and claims of its own, run by pytest's ``pytester``."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HEAD = '[document]\nkey = "doc"\ntitle = "A document"\n'
IMPORTS = "import pytest\nfrom fitcore.testing import *\n"


def entry(name: str, **keys: Any) -> str:
    """Return a statement's entry in a catalogue."""
    given = {"id": name, "section": "1", "kind": "identity", "origin": "stated", "statement": "It is so.", **keys}
    return "\n[[statement]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())


@dataclass
class Project:
    """A folder with a catalogue and claims, and how the latest run of pytest in it went."""

    pytester: pytest.Pytester
    result: pytest.RunResult | None = None

    @property
    def path(self) -> Path:
        return self.pytester.path

    def catalogue(self, text: str) -> Path:
        """Write the catalogue; return its path."""
        path = self.path / "catalogue" / "doc.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def claims(self, source: str) -> None:
        """Write the module of claims, after the imports that every one needs."""
        self.pytester.makepyfile(test_claims=IMPORTS + source)

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest in this process."""
        self.result = self.pytester.runpytest_inprocess(*args, no_reraise_ctrlc=True)
        return self.result

    def run_apart(self, *args: str) -> pytest.RunResult:
        """Run pytest in a process of its own."""
        self.result = self.pytester.runpytest_subprocess(*args)
        return self.result

    def report(self, directory: str = "reports/latest") -> dict[str, Any]:
        """Return the content of ``claims.json``."""
        return json.loads((self.path / directory / "claims.json").read_text(encoding="utf-8"))

    def record(self, name: str) -> dict[str, Any]:
        """Return the report's record of the statement ``doc/name``."""
        return next(claim for claim in self.report()["claims"] if claim["id"] == f"doc/{name}")

    def evidence(self, name: str) -> list[dict[str, Any]]:
        """Return all that the tests of the statement ``doc/name`` recorded."""
        return [record for test in self.record(name)["tests"] for record in test["evidence"]]

    def values(self, name: str) -> list[float]:
        """Return the first observation that the tests of the statement ``doc/name`` recorded."""
        return self.evidence(name)[0]["values"]

    def says(self, message: str) -> bool:
        """Whether the latest run printed ``message`` on a line, and no traceback through the machinery."""
        output = [*self.result.outlines, *self.result.errlines]
        return not re.search(r"Traceback|INTERNALERROR|fitcore/testing/\w+\.py", "\n".join(output)) and any(
            message in line for line in output
        )
