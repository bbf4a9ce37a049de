"""Every policy by its name, and the one function that asks one of them."""

from random import Random

from agent.ab_mcts import ab_mcts
from agent.camyla import camyla, camyla_released
from agent.explore import Policy, qwbe
from agent.ladder import Settings
from agent.nested_thompson import nested_thompson
from agent.rivals import asha, best_first, greedy, random
from agent.search_tree import Decision, Tree
from memory.errors import ExploreError

POLICIES: dict[str, Policy] = {
    "qwbe": qwbe,
    "camyla": camyla,
    "camyla_released": camyla_released,
    "greedy": greedy,
    "best_first": best_first,
    "nested_thompson": nested_thompson,
    "ab_mcts": ab_mcts,
    "asha": asha,
    "random": random,
}


def decide(tree: Tree, rng: Random, *, policy: str = "qwbe", settings: Settings) -> Decision:
    """Return the decision of a policy given by name.

    Raises:
        ExploreError: there is no such policy.
    """
    if policy not in POLICIES:
        raise ExploreError(f"unknown policy {policy!r}; allowed: {', '.join(sorted(POLICIES))}")
    return POLICIES[policy](tree, rng, settings)
