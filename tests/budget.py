"""A pytest plugin that measures and limits the time of tests, fixtures and the whole suite. A run
fails if its CPU time, including child processes, exceeds a limit. Wall time depends on other
processes of the machine, so it is only printed beside the planned time. The limits are in
setup.cfg. Tests marked `soak` have no limit per test.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from typing import Any

import pytest

LIMITS = {
    "budget_test_cpu": "CPU seconds that a test may use: setup, call, teardown and children",
    "budget_fixture_cpu": "CPU seconds that a session fixture and its children may use",
    "budget_suite_cpu": "CPU seconds planned for the whole run; it fails if it uses twice as many",
    "budget_suite_wall": "wall seconds planned for the whole run; printed only",
    "budget_suite_stop": "wall seconds after which no further test starts; the rest are skipped",
}
SHOWN = 20
LATE = "not started: this run's time was up"
BEGAN = time.monotonic()
SINCE = pytest.StashKey[float]()
FIXTURES = pytest.StashKey[dict[str, tuple[float, float]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, meaning in LIMITS.items():
        parser.addini(name, meaning, default="inf")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Stop(float(config.getini("budget_suite_stop"))), "stop")
    # Workers of xdist send their reports to the process that controls them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Budget(config), "budget-of-the-suite")


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[SINCE] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Note the seconds of a session fixture separately from those of the test that requests it."""
    began, cpu = time.monotonic(), cpu_seconds()
    try:
        return (yield)
    finally:
        if fixturedef.scope == "session":
            form = f"[{request.param}]" if hasattr(request, "param") else ""
            name = f"{fixturedef.baseid}::{fixturedef.argname}{form} (fixture)"
            spent = request.session.stash.setdefault(FIXTURES, {})
            spent[name] = cpu_seconds() - cpu, time.monotonic() - began


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note the CPU time of a phase in its report, which xdist sends with all attributes."""
    report = yield
    now = cpu_seconds()
    fixtures = item.session.stash.get(FIXTURES, {})
    report.cpu = now - item.stash.get(SINCE, now) - sum(cpu for cpu, _ in fixtures.values())
    report.fixtures = fixtures
    item.stash[SINCE], item.session.stash[FIXTURES] = now, {}
    return report


@dataclasses.dataclass
class Stop:
    """Skips tests that would begin after the time limit."""

    after: float

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if time.monotonic() - BEGAN > self.after:
            pytest.skip(LATE)


@dataclasses.dataclass
class Seconds:
    """CPU and wall seconds."""

    cpu: float = 0.0
    wall: float = 0.0

    def add(self, cpu: float, wall: float) -> None:
        self.cpu, self.wall = self.cpu + cpu, self.wall + wall


class Budget:
    """Sums up seconds by test, prints them, and fails a run that exceeds a limit."""

    def __init__(self, config: pytest.Config) -> None:
        self.limits = {name: float(config.getini(name)) for name in LIMITS}
        self.tests: dict[str, Seconds] = defaultdict(Seconds)
        # A session fixture counts towards the suite, not towards the test that requests it first.
        self.fixtures: dict[str, Seconds] = defaultdict(Seconds)
        self.long: set[str] = set()
        self.late = 0
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        shared = getattr(report, "fixtures", {})
        for name, seconds in shared.items():
            self.fixtures[name].add(*seconds)
        spent = self.tests[report.nodeid]
        spent.add(getattr(report, "cpu", 0.0), report.duration)
        spent.add(0.0, -sum(wall for _, wall in shared.values()))
        self.late += report.skipped and LATE in str(report.longrepr)
        if "soak" in report.keywords:
            self.long.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and any(self.broken()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("time")
        if len(self.tests) > SHOWN:
            for line in self.table():
                terminalreporter.write_line(line)
        for line in [self.total(), *self.broken()]:
            terminalreporter.write_line(line)

    def table(self) -> Iterator[str]:
        """Yield lines with the seconds of all files, slowest first, and of the slowest tests."""
        files: dict[str, Seconds] = defaultdict(Seconds)
        for test, spent in [*self.tests.items(), *self.fixtures.items()]:
            files[test.partition("::")[0]].add(spent.cpu, spent.wall)
        everything = {**self.tests, **self.fixtures}
        for title, rows in (("files", files), ("slowest tests and fixtures", everything)):
            yield f"{'CPU s':>8}{'wall s':>8}  {title}"
            slowest = sorted(rows, key=lambda row: -rows[row].cpu)
            for row in slowest if rows is files else slowest[:SHOWN]:
                yield f"{rows[row].cpu:8.1f}{rows[row].wall:8.1f}  {row}"
            yield ""

    def cpu(self) -> float:
        return sum(spent.cpu for spent in [*self.tests.values(), *self.fixtures.values()])

    def total(self) -> str:
        wall, planned = time.monotonic() - self.began, self.limits["budget_suite_wall"]
        late = "; the machine is slow or busy" if wall > planned else ""
        unstarted = f"; {self.late} were not started, because the time was up" if self.late else ""
        return (
            f"{len(self.tests)} tests: {self.cpu():.0f} s of CPU time"
            f" (planned {self.limits['budget_suite_cpu']:.0f}),"
            f" {wall:.0f} s of wall time (planned {planned:.0f}{late}){unstarted}"
        )

    def broken(self) -> Iterator[str]:
        """Yield a sentence for each limit that is exceeded."""
        limits = (
            (self.tests, self.limits["budget_test_cpu"]),
            (self.fixtures, self.limits["budget_fixture_cpu"]),
        )
        for rows, most in limits:
            for row, spent in rows.items():
                if spent.cpu > most and row not in self.long:
                    yield (
                        f"{row} used {spent.cpu:.1f} s of CPU time; it may use {most:.1f}. Make it"
                        " smaller, or mark the tests that need it `soak`"
                    )
        if self.cpu() > 2 * (planned := self.limits["budget_suite_cpu"]):
            yield f"the suite used {self.cpu():.0f} s of CPU time, over twice {planned:.0f}"
