"""Guards the budget of the suite: too much CPU time fails a run, and wall time never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import soaked

pytest_plugins = ["pytester"]

BURN = """
import subprocess, sys, time
import pytest

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def test_a_child_burns():
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])

@pytest.fixture
def prepared():
    burn(0.5)

def test_a_fixture_burns(prepared):
    pass

@pytest.fixture(scope="session")
def shared():
    burn(0.5)

def test_waits(shared):
    time.sleep(0.5)

@pytest.mark.soak
def test_soaks():
    burn(0.5)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Write four tests: one uses CPU time in a child process, one in a fixture, one waits, and one
    is marked `soak`.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    pytester.makepyfile(BURN)
    pytester.makeini("[pytest]\nmarkers = soak\naddopts = -p budget")
    return pytester


@pytest.mark.parametrize("workers", [*soaked("0"), "2"])
def test_a_test_over_its_cpu_time_fails_the_run_by_name(
    suite: pytest.Pytester, workers: str
) -> None:
    done = suite.runpytest_subprocess("-m", "not soak", "-o", "budget_test_cpu=0.4", "-n", workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.assert_outcomes(passed=3, deselected=0 if workers == "2" else 1)
    message = done.stdout.str()
    for name in ("test_a_child_burns", "test_a_fixture_burns"):
        assert f"::{name} used" in message, message
    assert "test_waits used" not in message and "shared (fixture) used" not in message


def test_a_suite_over_twice_its_cpu_time_fails(suite: pytest.Pytester) -> None:
    done = suite.runpytest_subprocess("-m", "not soak", "-o", "budget_suite_cpu=0.4")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["the suite used * s of CPU time, over twice 0"])


@pytest.mark.soak
def test_a_suite_within_its_cpu_time_passes_even_if_it_waits_long(suite: pytest.Pytester) -> None:
    limits = ("budget_suite_cpu=5", "budget_test_cpu=5", "budget_suite_wall=0.001")
    options = [word for limit in limits for word in ("-o", limit)]
    assert suite.runpytest_subprocess("-m", "not soak", *options).ret == pytest.ExitCode.OK


def test_soaked_tests_have_no_limit_per_test(suite: pytest.Pytester) -> None:
    done = suite.runpytest_subprocess("-m", "soak", "-o", "budget_test_cpu=0.1")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["1 tests: * s of CPU time (planned inf), * s of wall time*"])


@pytest.mark.soak
def test_a_shared_fixture_over_its_cpu_time_fails_the_run(suite: pytest.Pytester) -> None:
    done = suite.runpytest_subprocess("-m", "not soak", "-o", "budget_fixture_cpu=0.4")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*::shared (fixture) used * s of CPU time*"])


def test_no_test_starts_once_the_time_is_up_and_the_summary_counts_them(
    suite: pytest.Pytester,
) -> None:
    done = suite.runpytest_subprocess("-m", "not soak", "-o", "budget_suite_stop=0")
    done.assert_outcomes(skipped=3, deselected=1)
    done.stdout.fnmatch_lines(["3 tests: *; 3 were not started, because the time was up"])
