"""Why a mutant may survive: a committed file of reasons, which are found again by content, wherever the lines move."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fitcore.testing.errors import ClaimError
from fitcore.testing.mutation.mutants import Mutant


@dataclass(frozen=True)
class Explanation:
    """A ``[[mutant]]`` of the file.

    Attributes:
        function: what was changed, with its module: ``package.module.Class.method``.
        reason: why no test notices.
        before: the statement; ``None`` stands for all of the function.
        after: what it was changed to; ``None`` stands for all changes of it.

    """

    function: str
    reason: str
    before: str | None = None
    after: str | None = None

    def explains(self, mutant: Mutant) -> bool:
        """Whether the mutant is one that this is about."""
        return (
            self.function == f"{mutant.module}.{mutant.function}"
            and self.before in (None, mutant.before)
            and self.after in (None, mutant.after)
        )


def explanations(path: Path) -> list[Explanation]:
    """Read the file; none if it doesn't exist.

    Raises:
        ClaimError: it isn't TOML, or an entry has a key too many or too few.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []) if path.exists() else []
        return [Explanation(**entry) for entry in entries]
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ClaimError(f"{path}: {error}") from None


def stale(explained: Sequence[Explanation], targets: Sequence[str], survivors: Sequence[Mutant]) -> list[Explanation]:
    """Those that are about what was tried, as the command names it, and about no survivor of that."""
    tried = tuple(f"{target.replace(':', '.')}." for target in targets)
    about = [explanation for explanation in explained if f"{explanation.function}.".startswith(tried)]
    return [explanation for explanation in about if not any(map(explanation.explains, survivors))]
