"""The pytest plugin: options, collection of claims, controls as items of their own, and what their reports carry.

Loaded by its entry point where fitcore is installed, or by ``pytest_plugins = ["fitcore.testing.plugin"]``. What
happens to the reports, in the one process that sees them all, is in ``fitcore.testing.results``.
"""

import argparse
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fitcore.testing.assembly import CollectedClaim
from fitcore.testing.catalogue import Catalogue, load_catalogue
from fitcore.testing.claim import Claim
from fitcore.testing.collection import ClaimItem, claim_items
from fitcore.testing.controls import Detected, Vacuous, failed_by_assertion, intervened
from fitcore.testing.errors import ClaimError
from fitcore.testing.results import Results

if TYPE_CHECKING:
    from fitcore.testing.evidence import Evidence
    from fitcore.testing.shared import Shared
    from fitcore.testing.trials import Trials

CATALOGUE = pytest.StashKey[Catalogue]()
ITEM = pytest.StashKey[ClaimItem]()
RECORDERS = pytest.StashKey["Recorders"]()
COLLECTED = pytest.StashKey[list[CollectedClaim]]()
RESULTS = "fitcore.testing.results"


@dataclass(frozen=True)
class Recorders:
    """The objects behind the fixtures of the same names.

    They live as long as the session, and are cleared for each claim, since Hypothesis rightly refuses function-scoped
    fixtures inside ``@given``.
    """

    evidence: "Evidence"
    trials: "Trials"
    shared: "Shared"


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer >= 0, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return scale


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the claims."""
    group = parser.getgroup("claims", "empirical claims")
    group.addoption(
        "--claim-report",
        metavar="DIR",
        help="where to write the report (default: reports/latest in the root directory); 'none': nowhere",
    )
    group.addoption(
        "--base-seed",
        metavar="N",
        type=_natural,
        default=0,
        help="moves the seeds of every trial (default: 0)",
    )
    group.addoption(
        "--trials",
        metavar="SCALE",
        type=_positive,
        default=1.0,
        help="factor on the number of trials (default: 1)",
    )
    group.addoption(
        "--controls",
        choices=("run", "skip", "only"),
        default="run",
        help="the controls of the claims (default: run)",
    )
    group.addoption("--data-root", metavar="DIR", help="full data sets, in the layout of torchvision.datasets")
    parser.addini("claim_catalogue", "catalogue files, or folders of them", type="paths", default=[])
    parser.addini(
        "claim_recorded",
        "folders of recordings: in each a folder a machine with its claims.json, which stands in for what is skipped",
        type="paths",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and in the main process, where there is a catalogue, what gathers the results."""
    config.addinivalue_line("markers", "claim(claim): set by the decorator fitcore.testing.claim")
    if config.pluginmanager.has_plugin("benchmark"):
        config.pluginmanager.import_plugin("fitcore.testing.benchmarks")
    if config.getini("claim_catalogue") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config), RESULTS)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no process behind."""
    if RECORDERS in config.stash:
        config.stash[RECORDERS].shared.close()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the catalogues, so that a mistake in them ends the run before it begins."""
    try:
        catalogue = load_catalogue(session.config.getini("claim_catalogue"))
    except ClaimError as error:
        raise pytest.UsageError(str(error)) from None
    session.config.stash[CATALOGUE] = catalogue
    results = session.config.pluginmanager.get_plugin(RESULTS)
    if results is not None:
        results.catalogue = catalogue


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the settings that the verdicts were found under."""
    if not config.getini("claim_catalogue"):
        return None
    option = config.option
    return f"claims: base seed {option.base_seed}, trials x{option.trials:g}, controls {option.controls}"


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make every control an item beside the plain run, after all other parametrization."""
    marker = metafunc.definition.get_closest_marker("claim")
    if marker is None:
        return
    declared: Claim = marker.args[0]
    ids = [pytest.HIDDEN_PARAM, *(f"control: {control.name}" for control in declared.interventions)]
    metafunc.parametrize("_claim_control", [None, *declared.interventions], indirect=True, ids=ids)


@pytest.fixture
def _claim_control(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the claims against the catalogue, before anything is deselected, and apply ``--controls``."""
    claims = claim_items(items, config.stash[CATALOGUE])
    for item, claim_item in claims.items():
        item.stash[ITEM] = claim_item
        if isinstance(item, pytest.Function) and hasattr(item.function, "hypothesis"):
            # By this mark, Hypothesis knows that one property runs as several items.
            item.add_marker(pytest.mark.parametrize("_claim_control", [], indirect=True))
    config.stash[COLLECTED] = list({c.nodeid: c.as_json() for c in claims.values()}.values())
    unwanted = {"run": (), "skip": (True,), "only": (False,)}[config.option.controls]
    deselected = [item for item, claim_item in claims.items() if (claim_item.control is not None) in unwanted]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Turn a mistake in the declaration into an error of this item alone; set up others under a seed of their own."""
    claim_item = item.stash.get(ITEM, None)
    if claim_item is None:
        return (yield)
    if claim_item.problem is not None:
        pytest.fail(claim_item.problem, pytrace=False)
    from fitcore.seeding import seeded

    recorders = _recorders(item.config)
    recorders.evidence.begin(keep=claim_item.control is None)
    recorders.trials.begin(claim_item.key, claim_item.claim.trials)
    with _mistakes_told(claim_item), seeded(_seed(item.config, f"setup of {claim_item.key}")):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run a claim under seeds of its own; under a control, pass only if it fails by assertion."""
    claim_item = pyfuncitem.stash.get(ITEM, None)
    if claim_item is None:
        return (yield)
    from fitcore.seeding import seeded

    control = claim_item.control
    apart = _recorders(pyfuncitem.config).shared.apart() if control and control.patches else nullcontext()
    seed = _seed(pyfuncitem.config, f"body of {claim_item.key}")
    _seed_hypothesis(pyfuncitem, seed)
    try:
        with _mistakes_told(claim_item), seeded(seed):
            if control is None:
                return (yield)
            with apart, intervened(pyfuncitem, control):
                yield
    except Detected:
        return True
    raise Vacuous(claim_item.vacuous, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what the claim left behind to pytest's report, which carries it across processes.

    As an attribute and not among the ``user_properties``, where ``--junitxml`` would print every array.
    """
    report = yield
    claim_item = item.stash.get(ITEM, None)
    if claim_item is None:
        return report
    left: dict[str, Any] = {
        "nodeid": claim_item.nodeid,
        "control": claim_item.control and claim_item.control.name,
        "failure": _failure(call) if report.failed else None,
    }
    recorders = item.config.stash.get(RECORDERS, None)
    if recorders is not None and report.when == "call" and claim_item.control is None:
        left["evidence"] = recorders.evidence.records
        left["trials"] = recorders.trials.used
    if COLLECTED in item.config.stash:
        # Once a process, with its first report: what a worker collected is known even if it is killed later.
        left["process"] = {"collected": item.config.stash[COLLECTED], **_hardware()}
        del item.config.stash[COLLECTED]
    report.claim = left  # type: ignore[attr-defined]
    return report


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config) -> "Evidence":
    """What the running claim leaves behind, shown in the report."""
    return _recorders(pytestconfig).evidence


@pytest.fixture(scope="session")
def trials(pytestconfig: pytest.Config) -> "Trials":
    """The running claim's seeds, and decisions over its trials."""
    return _recorders(pytestconfig).trials


@pytest.fixture(scope="session")
def shared(pytestconfig: pytest.Config) -> "Shared":
    """``shared(function, *arguments)``: expensive results, computed once a session."""
    return _recorders(pytestconfig).shared


def _failure(call: pytest.CallInfo[None]) -> str:
    error = call.excinfo.value if call.excinfo else None
    if call.when == "call" and isinstance(error, Vacuous):
        return "vacuous"
    return "assertion" if call.when == "call" and failed_by_assertion(error) else "crash"


def _recorders(config: pytest.Config) -> Recorders:
    if RECORDERS not in config.stash:
        # Imported here, since an installed plugin is loaded by every pytest run and these need torch.
        from fitcore.testing.evidence import Evidence
        from fitcore.testing.shared import Shared
        from fitcore.testing.trials import Trials

        option, recorder = config.option, Evidence()
        trials = Trials(recorder, option.base_seed, option.trials)
        config.stash[RECORDERS] = Recorders(recorder, trials, Shared(option.base_seed))
    return config.stash[RECORDERS]


@contextmanager
def _mistakes_told(claim_item: ClaimItem) -> Iterator[None]:
    """Fail with one line, and no traceback through the machinery, where a claim uses it wrongly."""
    try:
        yield
    except ClaimError as error:
        mistake = f"{claim_item.location}: claim {claim_item.name}: {error}"
        raise pytest.fail.Exception(mistake, pytrace=False) from None


def _seed(config: pytest.Config, key: str) -> int:
    from fitcore.testing.trials import trial_seeds

    return int(trial_seeds(config.option.base_seed, key, 1)[0])


def _seed_hypothesis(item: pytest.Function, seed: int) -> None:
    if hasattr(item.function, "hypothesis") and item.config.getoption("hypothesis_seed", None) is None:
        import hypothesis

        hypothesis.seed(seed)(item.function)


def _hardware() -> dict[str, Any]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "threads": torch.get_num_threads()}
