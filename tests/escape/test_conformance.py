"""Every boundary holds against every attack, but for the gaps that it declares itself.

A further backend passes when it is in `sandbox.isolation.BACKENDS` and works on this machine:
the class below then runs against it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import warm
from sandbox.boundary import Backend
from sandbox.escape import ESCAPED, HELD, PROBES, SKIPPED, Target, attack, examine, quiet, targets
from sandbox.isolation import BACKENDS, available, backend_of, unsafe

ISOLATIONS = available()
UNCONTAINED = [name for name, probe in PROBES.items() if probe.gets_out_uncontained]


def paths() -> list[Target]:
    """Return every boundary that works here, and the warm path of level A."""
    found = []
    for isolation in ISOLATIONS:
        found.append(Target(isolation))
        if isolation.level == "A":
            found.append(Target(isolation, warm.address()))
    return found


PATHS = paths()


@pytest.fixture(scope="module")
def ready(parent: Path) -> Iterator[None]:
    """Have the warm parent answer before the first attack."""
    with targets(ISOLATIONS) as found:
        assert found == PATHS
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("target", PATHS, ids=lambda target: target.name)
class TestBoundary:
    """What holds back generated code, whichever it is."""

    @pytest.mark.parametrize("name", PROBES)
    def test_an_attack_fails(self, target: Target, name: str) -> None:
        probe = PROBES[name]
        if target.isolation.level not in probe.levels:
            pytest.skip(f"{name} has no meaning on level {target.isolation.level}")
        finding = examine(probe, target, quiet)
        if finding.verdict == SKIPPED:
            pytest.skip(f"{target.name}: {finding.text}")
        assert finding.verdict == HELD, finding.text

    def test_its_gaps_are_attacks_that_do_get_out(self, target: Target) -> None:
        for name in backend_of(target.isolation).gaps:
            finding = attack(PROBES[name], target)
            assert finding.verdict == ESCAPED, f"{name} is no gap any more; remove it"


def test_level_a_works_here_and_has_no_gap() -> None:
    assert [isolation.level for isolation in ISOLATIONS][:1] == ["A"]
    assert not backend_of(ISOLATIONS[0]).gaps


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_gaps_name_attacks_and_leave_thirty(backend: Backend) -> None:
    assert set(backend.gaps) <= set(PROBES)
    assert all(backend.gaps.values())
    assert len(PROBES) - len(backend.gaps) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("name", UNCONTAINED)
def test_an_attack_gets_out_where_nothing_contains_it(name: str) -> None:
    """The suite can fail: without a boundary, each of these is seen to succeed."""
    target = Target(unsafe("to see that the attacks work"))
    finding = attack(PROBES[name], target)
    assert finding.verdict == ESCAPED, finding


def test_enough_attacks_are_shown_to_work() -> None:
    assert len(UNCONTAINED) >= 30
    assert {"home_secret", "tcp_to_the_host", "kill_others"} <= set(UNCONTAINED)
