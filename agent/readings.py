"""The search's scored trials with their modules and evidence, kept up as trials end."""

from collections.abc import Mapping
from typing import NamedTuple

from agent.evidence import Evidence
from memory.records import Module, Trial
from memory.store import Store

FEW = 50  # as many proposals are read one by one


class Scored(NamedTuple):
    """A trial of the search, the modules of its proposal, and its evidence."""

    trial: Trial
    modules: tuple[Module, ...]
    evidence: Evidence


class Readings:
    """Trials with their modules; `add` the scored ones, then ask for `scored`."""

    def __init__(self, store: Store) -> None:
        """Know nothing yet; proposals are read from the store when needed."""
        self.store = store
        self._trials: dict[str, Trial] = {}
        self._modules: dict[str, tuple[Module, ...]] = {}

    def add(self, trial: Trial) -> None:
        """Note a trial that has ended with scores."""
        if trial.proposal is not None:
            self._trials[trial.id] = trial

    def scored(self, found: Mapping[str, Evidence]) -> tuple[Scored, ...]:
        """Return the trials that have evidence, in the order of their ids.

        Args:
            found: the evidence of every trial that has some, by id.
        """
        self._read_proposals()
        return tuple(
            Scored(trial, self._modules[trial.proposal or ""], found[key])
            for key, trial in sorted(self._trials.items())
            if key in found
        )

    def _read_proposals(self) -> None:
        named = {one.proposal for one in self._trials.values() if one.proposal}
        wanted = sorted(named - self._modules.keys())
        if len(wanted) > FEW:
            proposals = self.store.proposals()
        else:
            proposals = [self.store.proposal(one) for one in wanted]
        self._modules |= {proposal.id: proposal.modules for proposal in proposals}
