"""What a planner may ask about components: this campaign's readings and earlier campaigns' library.

The model is that of `agent/effects.py`. A reading of a lower rung enters as the campaign's own link
of that rung predicts the last one (`agent/beliefs.py`): the intercept, the slope and the SD that
the decision was made with. Where no link is known, as under another policy, the effect is taken as
it stands and RUNG_SD a rung is added to its error. Pure.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from agent.beliefs import Link
from agent.effects import KEPT, Knowledge, Observation, parts_of
from agent.readings import Scored
from memory.records import Figures

RUNG_SD = 0.01  # as `agent.search_tree.Tree.rung_sd`


@dataclass(frozen=True)
class ComponentEffects:
    """What components do, in Dice at the last rung.

    own: from this campaign's trials. library: from earlier campaigns, each discounted by how far
    its dataset is from this one. traits: those of this dataset that hold. dead: sets of components
    that failed again and again.
    """

    own: Knowledge = field(default_factory=Knowledge)
    library: Knowledge = field(default_factory=Knowledge)
    traits: frozenset[str] = frozenset()
    dead: frozenset[frozenset[str]] = frozenset()

    @cached_property
    def whole(self) -> Knowledge:
        """Both together."""
        return self.library.merged([self.own])

    @cached_property
    def own_means(self) -> dict[str, float]:
        """Mean effect of each component that this campaign has read, in Dice."""
        return {row.component: row.mean for row in self.own.table(self.traits)}

    @cached_property
    def library_means(self) -> dict[str, float]:
        """Mean effect of each component that earlier campaigns have read, in Dice."""
        return {row.component: row.mean for row in self.library.table(self.traits)}


def links_in(figures: Figures) -> tuple[Link, ...] | None:
    """Return the links that a decision was made with; None where it stored none."""
    model = figures.get("model")
    if not isinstance(model, dict) or "links" not in model:
        return None
    return tuple(Link(**row) for row in model["links"])


def observed(
    scored: Iterable[Scored],
    links: Sequence[Link] | None,
    campaign: str,
    last: int,
    traits: frozenset[str],
) -> list[Observation]:
    """Return scored trials as observations of effects at the last rung."""
    return [observation(one, links, campaign, last, traits) for one in scored]


def observation(
    one: Scored, links: Sequence[Link] | None, campaign: str, last: int, traits: frozenset[str]
) -> Observation:
    """Return one trial as an observation.

    At the last rung its variance is that of cases and of its own seed, and the luck of the
    baseline's seeds is shared by all that was compared with them.
    """
    trial, evidence = one.trial, one.evidence
    effect, own_sd = evidence.delta, math.sqrt(evidence.seed_sd**2 / evidence.n_seeds)
    variance = evidence.se_cases**2 + own_sd**2
    baseline, luck = f"{campaign}/{trial.rung}/{trial.batch_size or 0}", evidence.baseline_sd
    if trial.rung < last and links is not None and trial.rung < len(links):
        link = links[trial.rung]
        effect = link.intercept + link.slope * effect
        variance, baseline, luck = link.sd**2, "", 0.0
    elif trial.rung < last:
        variance += (RUNG_SD * (last - trial.rung)) ** 2
    network = trial.network_hash or trial.commit or trial.id
    bounded = max(-1.0, min(1.0, effect))
    return _noted(parts_of(one.modules), bounded, variance, traits, network, 1.0, baseline, luck)


_noted = lru_cache(KEPT)(Observation)
"""An observation; those of before come again with each proposal."""
