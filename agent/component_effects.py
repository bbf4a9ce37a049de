"""What each component did to the Dice of the trials that had it, kept up as trials end.

Sums are exact, so that they do not depend on the order in which trials ended, and a trial whose
evidence changed is taken out again without a trace.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from agent.evidence import Evidence
from memory.records import Proposal, Trial
from memory.store import Store

FEW = 50  # as many proposals are read one by one


class Share(NamedTuple):
    """What a trial has put into the sums: its components, repeated ones twice, and its effect."""

    components: tuple[str, ...]
    delta: Fraction


class ComponentEffects:
    """Mean effects by component; `add` the scored trials, then ask for `effects`."""

    def __init__(self, store: Store) -> None:
        """Know nothing yet; proposals are read from the store when needed."""
        self.store = store
        self._due: dict[str, str] = {}
        self._shares: dict[str, Share] = {}
        self._sums: dict[str, tuple[Fraction, int]] = {}
        self._of_proposal: dict[str, tuple[str, ...]] = {}

    def add(self, trial: Trial) -> None:
        """Note a trial that has new evidence, or other evidence than before."""
        if trial.proposal is not None:
            self._due[trial.id] = trial.proposal

    def effects(self, found: Mapping[str, Evidence]) -> dict[str, float]:
        """Return each component's mean effect in Dice, drawn towards 0 by one trial.

        Args:
            found: the evidence of every trial that has some, by id.
        """
        self._read_proposals()
        for trial, proposal in self._due.items():
            if (old := self._shares.pop(trial, None)) is not None:
                self._count(old, -1)
            if (evidence := found.get(trial)) is not None:
                new = Share(self._of_proposal[proposal], Fraction(evidence.delta))
                self._shares[trial] = new
                self._count(new, 1)
        self._due.clear()
        sums = sorted(self._sums.items())
        return {name: float(total / (count + 1)) for name, (total, count) in sums if count}

    def _count(self, share: Share, sign: int) -> None:
        for name in share.components:
            total, count = self._sums.get(name, (Fraction(0), 0))
            self._sums[name] = total + sign * share.delta, count + sign

    def _read_proposals(self) -> None:
        wanted = {one for one in self._due.values() if one not in self._of_proposal}
        if len(wanted) > FEW:
            proposals = self.store.proposals()
        else:
            proposals = [self.store.proposal(one) for one in sorted(wanted)]
        self._of_proposal |= {proposal.id: _components(proposal) for proposal in proposals}


def _components(proposal: Proposal) -> tuple[str, ...]:
    return tuple(module.component for module in proposal.modules)
