"""A pytest plugin that guards the time of the suite: CPU and wall seconds by file and by test.

CPU time, children included, hardly depends on what else the machine does, so it has limits that
fail a run. Wall time is printed beside its goal and fails nothing. The limits are in setup.cfg.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from typing import Any

import pytest

LIMITS = {
    "budget_test_cpu": "CPU seconds that one test may use: setup, call, teardown and children",
    "budget_suite_cpu": "CPU seconds planned for the whole run; twice as many fail it",
    "budget_suite_wall": "wall seconds planned for the whole run; printed only",
}
SHOWN = 20
SINCE = pytest.StashKey[float]()
FIXTURES = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, meaning in LIMITS.items():
        parser.addini(name, meaning, default="inf")


def pytest_configure(config: pytest.Config) -> None:
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
    """Note the CPU time of a session's fixture apart from that of the first test that asks."""
    began = cpu_seconds()
    try:
        return (yield)
    finally:
        if fixturedef.scope == "session":
            form = f"[{request.param}]" if hasattr(request, "param") else ""
            name = f"{fixturedef.baseid}::{fixturedef.argname}{form} (fixture)"
            spent = request.session.stash.setdefault(FIXTURES, {})
            spent[name] = spent.get(name, 0.0) + cpu_seconds() - began


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note the CPU time of a phase in its report; xdist sends a report's attributes along."""
    report = yield
    now = cpu_seconds()
    fixtures = item.session.stash.get(FIXTURES, {})
    report.cpu = now - item.stash.get(SINCE, now) - sum(fixtures.values())
    report.fixtures = fixtures
    item.stash[SINCE], item.session.stash[FIXTURES] = now, {}
    return report


class Budget:
    """Sums seconds by test, prints them, and fails a run that breaks a limit."""

    def __init__(self, config: pytest.Config) -> None:
        self.test_cpu, self.suite_cpu, self.suite_wall = (
            float(config.getini(name)) for name in LIMITS
        )
        # Long forms are bounded by their number alone.
        self.holds = not str(config.option.markexpr).startswith("soak")
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.cpu[report.nodeid] += getattr(report, "cpu", 0.0)
        self.wall[report.nodeid] += report.duration
        for name, cpu in getattr(report, "fixtures", {}).items():
            self.cpu[name] += cpu

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and any(self.broken()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self.cpu) <= SHOWN:
            lines = []
        else:
            lines = [f"{'CPU s':>8}{'wall s':>8}{'tests':>7}  file"]
            lines += [f"{c:8.1f}{w:8.1f}{n:7}  {file}" for file, n, c, w in self.files()]
            lines += ["", f"{'CPU s':>8}{'wall s':>8}  slowest tests"]
            lines += [f"{self.cpu[t]:8.1f}{self.wall[t]:8.1f}  {t}" for t in self.slowest()[:SHOWN]]
            lines += ["", f"{self.total}"]
        lines += self.broken()
        if lines:
            terminalreporter.section("time")
        for line in lines:
            terminalreporter.write_line(line)

    @property
    def total(self) -> str:
        cpu, wall = sum(self.cpu.values()), time.monotonic() - self.began
        late = "; the machine is slow or busy" if wall > self.suite_wall else ""
        return (
            f"{len(self.cpu)} tests: {cpu:.0f} s of CPU time (planned {self.suite_cpu:.0f}),"
            f" {wall:.0f} s of wall time (planned {self.suite_wall:.0f}{late})"
        )

    def files(self) -> list[tuple[str, int, float, float]]:
        """Return (file, tests, CPU seconds, wall seconds), the slowest first."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for test, cpu in self.cpu.items():
            for place, value in enumerate((1, cpu, self.wall[test])):
                sums[test.partition("::")[0]][place] += value
        rows = [(file, int(tests), cpu, wall) for file, (tests, cpu, wall) in sums.items()]
        return sorted(rows, key=lambda row: -row[2])

    def slowest(self) -> list[str]:
        return sorted(self.cpu, key=lambda test: -self.cpu[test])

    def broken(self) -> Iterator[str]:
        """Yield a sentence for each limit that does not hold."""
        if not self.holds:
            return
        for test in self.slowest():
            # What a session shares is part of the suite's time alone.
            if self.cpu[test] > self.test_cpu and not test.endswith("(fixture)"):
                yield (
                    f"{test} used {self.cpu[test]:.1f} s of CPU time; a test may use"
                    f" {self.test_cpu:.1f}. Make it smaller, or mark it `soak`"
                )
        if (used := sum(self.cpu.values())) > 2 * self.suite_cpu:
            yield f"the suite used {used:.0f} s of CPU time, over twice {self.suite_cpu:.0f}"
