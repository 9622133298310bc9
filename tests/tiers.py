"""Three tiers of tests, each a part of the next: `pytest --tier check`, `--tier test` (the default), `--tier nightly`.

A test says by a mark why it is not in every tier, and a run says at its end what it left out:

    @pytest.mark.heavy("trains models")             not in `check`
    @pytest.mark.nightly("runs every page")         in `nightly` alone

Where one test serves two tiers, `full(large, small)` picks its size.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

TIERS = ("check", "test", "nightly")
# What keeps a test out of which tiers.
MARKS = {"heavy": ("check",), "nightly": ("check", "test")}
EXAMPLES = {"check": 10, "test": 15, "nightly": 100}  # of a property

_T = TypeVar("_T")
_chosen = "test"
_faults: dict[str, str] = {}  # marks of tests that say no reason
_left_out: Counter[tuple[str, str]] = Counter()


def full(large: _T, small: _T) -> _T:
    """`large` in the nightly tier, `small` in the others."""
    return large if _chosen == "nightly" else small


def examples(count: int) -> settings:
    """So many examples of a property in the nightly tier, and the tier's own number, where that is less, in others."""
    return settings(max_examples=full(count, min(count, EXAMPLES[_chosen])))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=TIERS, default="test", help="which tests run: check < test < nightly")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    global _chosen
    _chosen = config.getoption("tier")
    for name, tiers in MARKS.items():
        config.addinivalue_line("markers", f"{name}(why): not in the tier {' or '.join(tiers)}")
    # The first example that calls a compiled loop waits for its compilation.
    settings.register_profile(
        "tier", max_examples=EXAMPLES[_chosen], deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("tier")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whoever keeps a test out of a tier says why, in every tier."""
    for mark in item.iter_markers():
        if mark.name in MARKS and not (len(mark.args) == 1 and isinstance(mark.args[0], str) and not mark.kwargs):
            _faults[item.nodeid] = f"the mark {mark.name} takes one text, why the test has it, got {mark}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.nodeid in _faults:
        pytest.fail(_faults[item.nodeid], pytrace=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, dropped = [], []
    for item in items:
        marks = [] if item.nodeid in _faults else item.iter_markers()
        reasons = [mark.args[0] for mark in marks if _chosen in MARKS.get(mark.name, ())]
        (dropped if reasons else kept).append(item)
        if reasons:
            _left_out[reasons[0], item.nodeid.partition("[")[0]] += 1
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist tells the process that prints what it has left out."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = [(*key, count) for key, count in _left_out.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Every worker collects all tests, and leaves out the same."""
    for reason, test, count in getattr(node, "workeroutput", {}).get("left_out", ()):
        _left_out[reason, test] = count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section(f"tier {_chosen}")
    by_reason = Counter(reason for reason, _ in _left_out)
    for reason, tests in sorted(by_reason.items()):
        cases = sum(count for (why, _), count in _left_out.items() if why == reason)
        terminalreporter.line(f"left out: {reason}: {tests} tests, {cases} cases")
    if _left_out:
        terminalreporter.line(
            "they run in a later tier: --tier " + " or --tier ".join(TIERS[TIERS.index(_chosen) + 1 :])
        )
