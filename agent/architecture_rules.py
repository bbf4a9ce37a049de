"""Rules from clues to changes of what a network is made of. Pure.

Each rule is one sentence of reasoning: what was seen, which published component answers it, where
an effect would show. The last one always applies and weighs least.
"""

from collections.abc import Iterator

from agent.grounds import (
    LEAST,
    SEEN,
    SMALL_KEYS,
    STEP,
    Candidate,
    Grounds,
    change,
    small_weight,
    where,
)
from agent.suggestions import FAILURE
from sandbox.components import COMPONENTS

CLEAR = 2.0  # standard errors of a gain in Dice beyond which a border is no excuse
FOR_SMALL = ("attention_gate", "block_attention", "blur_pool", "scale_aggregation")
FOR_BORDERS = ("boundary_enhancement", "dense_skip", "blur_pool")
FOR_CONTEXT = ("linear_attention", "axial_attention", "large_kernel", "scale_aggregation")
FOR_FALSE = ("attention_gate", "linear_attention", "axial_attention")
FOR_CLASSES = ("squeeze_excitation", "scale_aggregation", "graph_aggregation")


def architecture(grounds: Grounds) -> Iterator[Candidate]:
    """Yield changes of what the network is made of."""
    yield from of_small(grounds)
    yield from of_borders(grounds)
    yield from of_false_parts(grounds)
    yield from of_large(grounds)
    yield from of_class(grounds)
    yield from of_change(grounds)
    yield from of_place(grounds)


def of_small(grounds: Grounds) -> Iterator[Candidate]:
    """Small parts are missed, or small cases lose: look finer."""
    weight = small_weight(grounds)
    yield from adding(
        grounds,
        weight,
        FOR_SMALL,
        why="small structures lose more than the baseline's",
        keys=SMALL_KEYS,
        expected="Fewer missed small parts, and a higher Dice in the third of small cases.",
    )


def of_borders(grounds: Grounds) -> Iterator[Candidate]:
    """NSD falls where Dice does not: the errors are at the border."""
    for key in (*grounds.of_classes("nsd"), "overall.nsd"):
        prefix, dice = key.rsplit(".", 1)[0], f"{key.rsplit('.', 1)[0]}.delta"
        if grounds.weight(dice, -1) < SEEN and grounds.weight(dice, 1) < CLEAR:
            name = where(prefix)
            yield from adding(
                grounds,
                grounds.weight(key, -1),
                FOR_BORDERS,
                why=f"NSD of {name} falls and its Dice does not, so the errors lie at the border",
                keys=(key, dice, f"{prefix}.hd95"),
                expected=f"A higher NSD and a lower HD95 of {name}; Dice may stay.",
            )


def of_false_parts(grounds: Grounds) -> Iterator[Candidate]:
    """Parts are predicted where there is nothing: suppress, or see more context."""
    yield from adding(
        grounds,
        grounds.weight("objects.spurious", 1),
        FOR_FALSE,
        why="more parts are predicted where the reference has none than by the baseline",
        keys=("objects.spurious",),
        expected="Fewer spurious parts, and a lower HD95 over all classes.",
    )


def of_large(grounds: Grounds) -> Iterator[Candidate]:
    """Large structures lose: a wider field of view."""
    keys = ("case.contrast", "case.large", "objects.missed.large")
    of_cases = min(grounds.weight("case.contrast", 1), grounds.weight("case.large", -1))
    yield from adding(
        grounds,
        max(of_cases, grounds.weight("objects.missed.large", 1)),
        FOR_CONTEXT,
        why="large structures lose more than the baseline's, which a narrow field of view does",
        keys=keys,
        expected="A higher Dice in the third of large cases.",
    )


def of_class(grounds: Grounds) -> Iterator[Candidate]:
    """One class loses most: channels or scales of its own."""
    keys = grounds.of_classes("delta")
    if len(keys) < 2:
        return
    worst = max(keys, key=lambda key: grounds.weight(key, -1))
    name = where(worst.rsplit(".", 1)[0])
    yield from adding(
        grounds,
        0.9 * grounds.weight(worst, -1),
        FOR_CLASSES,
        why=f"the loss is clearest in {name}, so the classes need features of their own",
        keys=(worst,),
        expected=f"A higher Dice of {name}, and no change in the other classes.",
    )


def of_change(grounds: Grounds) -> Iterator[Candidate]:
    """The change against the parent did harm: take it elsewhere."""
    weight = grounds.weight("parent.change", -1)
    parent = next((p for p in grounds.tried if p.id == grounds.proposal.parent), None)
    if parent is None or weight < SEEN:
        return
    for module in (m for m in grounds.proposal.modules if m not in parent.modules):
        if modules := grounds.chosen(grounds.moving(module)):
            moved = change(grounds.proposal.modules, modules)
            text = f"{moved}: what was changed against the parent lowered Dice where it is now."
            expected = "A higher mean Dice, at least back to the parent's."
            keys = ("parent.change", "parent.delta")
            yield grounds.candidate(
                weight, "architecture", text, keys=keys, expected=expected, modules=modules
            )


def of_place(grounds: Grounds) -> Iterator[Candidate]:
    """Nothing points anywhere: try the last module at another place, or a new component."""
    used = {m.component for m in grounds.proposal.modules}
    fresh = [n for n, card in COMPONENTS.items() if n not in used and card.form != "weights"]
    moved = (set_ for m in reversed(grounds.proposal.modules) for set_ in grounds.moving(m))
    for place, modules in enumerate(grounds.some([*moved, *grounds.adding(fresh)])):
        how = "Put each part at fewer stages"
        how = how if modules is None else change(grounds.proposal.modules, modules)
        yield grounds.candidate(
            LEAST - place * STEP,
            "architecture",
            f"{how}: the place may matter more than the part, and no clue names a fault.",
            keys=("overall.delta", FAILURE),
            expected="A higher mean Dice over all classes than this network's.",
            modules=modules,
        )


def adding(
    grounds: Grounds,
    weight: float,
    names: tuple[str, ...],
    *,
    why: str,
    keys: tuple[str, ...],
    expected: str,
) -> Iterator[Candidate]:
    """Yield the addition of one of some components, where the evidence is there."""
    modules = grounds.chosen(grounds.adding(names))
    if weight >= SEEN and modules:
        text = f"{change(grounds.proposal.modules, modules)}: {why}."
        yield grounds.candidate(
            weight, "architecture", text, keys=keys, expected=expected, modules=modules
        )
