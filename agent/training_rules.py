"""Rules from clues to changes of how much a network holds and how it learns. Pure.

Capacity is what it costs and can fit; optimisation is what its own code may decide of learning:
weights of the heads, scales, starts. Optimiser, schedule and loss are the same for all networks.
The last rule of each category always applies and weighs least.
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
    said,
    small_weight,
)
from agent.suggestions import FAILURE
from memory.records import Module

RISEN = 1.1  # ratio to the baseline from which a cost counts
NOISY = 1.3  # the same of the loss's scatter
MOST_OF_CURVE = 5.0  # standard errors: curve and confidence were reported by the trial itself
CHEAP = ("separable_convolution", "squeeze_excitation", "blur_pool", "attention_gate")
HEADS = ("fine_supervision", "even_supervision")


def capacity(grounds: Grounds) -> Iterator[Candidate]:
    """Yield changes of how much the network can hold, and costs."""
    yield from of_ablation(grounds)
    yield from of_cost(grounds)
    yield from of_fit(grounds)
    yield from of_budget(grounds)
    yield from of_weakness(grounds)
    yield from lighter(
        grounds,
        LEAST,
        why="a smaller network learns more of what it can hold in the same number of iterations",
        keys=("cost.parameters", "cost.flops", "overall.delta", FAILURE),
        expected="An equal or higher mean Dice with fewer parameters and FLOPs.",
    )


def of_ablation(grounds: Grounds) -> Iterator[Candidate]:
    """The network is better without a module: leave it out."""
    for module in grounds.proposal.modules:
        key = f"ablation.{module.component}"
        weight, rest = grounds.weight(key, -1), grounds.chosen([grounds.without(module)])
        if rest and weight:
            text = f"Leave out {said(module)}: the same network scores higher without it."
            expected = "A higher mean Dice, at a lower cost."
            yield grounds.candidate(
                weight, "capacity", text, keys=(key,), expected=expected, modules=rest
            )


def of_cost(grounds: Grounds) -> Iterator[Candidate]:
    """It costs more and gains nothing: do the same for less."""
    keys = ("cost.flops", "cost.parameters", "cost.memory")
    ratio = max((grounds.value(key) or 0.0 for key in keys), default=0.0)
    if ratio > RISEN and grounds.weight("overall.delta", 1) < SEEN:
        yield from lighter(
            grounds,
            min(4.0, 4 * (ratio - 1)),
            why="the network costs more than the baseline and gains nothing by it",
            keys=(*keys, "overall.delta"),
            expected="The same mean Dice at fewer FLOPs and parameters.",
        )


def of_fit(grounds: Grounds) -> Iterator[Candidate]:
    """The training loss is lower and Dice is not higher: it fits what does not carry over."""
    weight = min(grounds.weight("curve.final", -1), MOST_OF_CURVE)
    if weight >= SEEN and grounds.weight("overall.delta", 1) < SEEN:
        yield from lighter(
            grounds,
            weight,
            why="the training loss ends below the baseline's and Dice is not above it, which "
            "speaks of fitting the training cases alone",
            keys=("curve.final", "overall.delta"),
            expected="A higher mean Dice on search-val, with a higher training loss.",
        )


def of_budget(grounds: Grounds) -> Iterator[Candidate]:
    """The loss still falls: less to learn in the same number of iterations."""
    weight = min(grounds.weight("curve.steeper", -1), MOST_OF_CURVE)
    if weight >= 2 * SEEN:
        yield from lighter(
            grounds,
            weight / 2,
            why="the training loss still falls when the iterations end, so the network has more "
            "to learn than the budget allows",
            keys=("curve.steeper", "curve.slope"),
            expected="A flatter loss at the end, and a higher mean Dice.",
        )


def of_weakness(grounds: Grounds) -> Iterator[Candidate]:
    """The loss ends higher though nothing is large: more capacity in the encoder."""
    weight, ratio = grounds.weight("curve.final", 1), grounds.value("cost.parameters")
    modules = grounds.chosen(grounds.adding(("residual_encoder", "mednext")))
    if weight >= SEEN and modules and (ratio is None or ratio <= RISEN):
        text = (
            f"{change(grounds.proposal.modules, modules)}: the training loss ends above the "
            "baseline's with no more parameters, so the network holds too little."
        )
        yield grounds.candidate(
            min(weight, MOST_OF_CURVE),
            "capacity",
            text,
            keys=("curve.final", "cost.parameters"),
            expected="A lower training loss, and a higher mean Dice over all classes.",
            modules=modules,
        )


def lighter(
    grounds: Grounds, strength: float, *, why: str, keys: tuple[str, ...], expected: str
) -> Iterator[Candidate]:
    """Yield ways to a cheaper network: move, swap or leave out what costs most."""
    for place, modules in enumerate(grounds.some(reliefs(grounds))):
        how = "Halve the hidden channels of the parts that the proposal adds"
        how = how if modules is None else change(grounds.proposal.modules, modules)
        yield grounds.candidate(
            strength - place * STEP,
            "capacity",
            f"{how}: {why}.",
            keys=keys,
            expected=expected,
            modules=modules,
        )


def reliefs(grounds: Grounds) -> Iterator[tuple[Module, ...]]:
    """Yield sets of modules that cost less, those that keep most of the idea first."""
    worst = grounds.costliest
    if worst is not None:
        yield from grounds.moving(worst, share=0.5)
        yield grounds.without(worst)
        yield from grounds.swapping(worst, CHEAP)


def optimisation(grounds: Grounds) -> Iterator[Candidate]:
    """Yield changes of how the network learns that its code may make: heads, scale, start."""
    small = small_weight(grounds)
    yield from weighing_heads(
        grounds,
        0.8 * small,
        HEADS,
        why="small structures lose, and coarse heads teach targets from which they have vanished",
        keys=SMALL_KEYS,
        expected="Fewer missed small parts, and a higher Dice in the third of small cases.",
    )
    yield from weighing_heads(
        grounds,
        0.8 * min(grounds.weight("curve.final", 1), MOST_OF_CURVE),
        HEADS[::-1],
        why="the training loss ends above the baseline's, and coarse heads give the deep layers "
        "a clearer gradient",
        keys=("curve.final",),
        expected="A higher mean Dice over all classes; the loss itself is weighted otherwise then.",
    )
    yield from of_confidence(grounds)
    yield from of_noise(grounds)
    yield from of_start(grounds)


def of_confidence(grounds: Grounds) -> Iterator[Candidate]:
    """It is surer than the baseline and no better: restrain what makes it sure.

    Companion losses are said to regularise (Lee et al. 2015, arXiv:1409.5185), and so is dropout
    (Srivastava et al. 2014, JMLR 15).
    """
    weight = min(grounds.weight("calibration.change", 1), MOST_OF_CURVE)
    if weight < SEEN or grounds.weight("overall.delta", 1) >= SEEN:
        return
    keys = ("calibration.change", "calibration", "overall.delta")
    why = "the network is surer of what it predicts than the baseline, and no better"
    expected = "Confidence closer to Dice, and a mean Dice no lower than before."
    yield from weighing_heads(
        grounds,
        weight,
        HEADS[::-1],
        why=f"{why}, and losses at all scales alike regularise the finest",
        keys=keys,
        expected=expected,
    )
    text = f"Drop channels at random in training where the parts join the network: {why}."
    yield grounds.candidate(weight - STEP, "optimisation", text, keys=keys, expected=expected)


def of_noise(grounds: Grounds) -> Iterator[Candidate]:
    """The loss scatters: normalise what the parts hand on."""
    ratio = grounds.value("curve.noise") or 0.0
    if ratio > NOISY:
        yield grounds.candidate(
            min(4.0, 3 * (ratio - 1)),
            "optimisation",
            "Normalise the output of each part that the proposal adds before it joins the "
            "network, as the loss scatters more than the baseline's.",
            keys=("curve.noise", "curve.final"),
            expected="Less scatter of the training loss, and a higher mean Dice.",
        )


def of_start(grounds: Grounds) -> Iterator[Candidate]:
    """Nothing points anywhere: start as the baseline, and let the part grow in."""
    falls = min(grounds.weight("curve.steeper", -1), MOST_OF_CURVE) / 4
    yield grounds.candidate(
        max(LEAST, falls),
        "optimisation",
        "Add each part as a residual whose scale starts at zero and is learnt, so that training "
        "begins as the baseline's does and spends its iterations on what helps.",
        keys=("curve.steeper", "curve.final", "overall.delta", FAILURE),
        expected="A lower training loss at its end, and a mean Dice no lower than the baseline's.",
    )


def weighing_heads(
    grounds: Grounds,
    weight: float,
    names: tuple[str, ...],
    *,
    why: str,
    keys: tuple[str, ...],
    expected: str,
) -> Iterator[Candidate]:
    """Yield other weights of the heads, in the place of those that there are."""
    own = next((m for m in grounds.proposal.modules if m.component in HEADS), None)
    options = grounds.adding(names[:1])
    if own is not None:
        wanted = Module(names[0], "heads", ())
        options = iter([grounds.replaced(own, wanted)] if own != wanted else [])
    modules = grounds.chosen(options)
    if weight >= SEEN and modules:
        text = f"{change(grounds.proposal.modules, modules)}: {why}."
        yield grounds.candidate(
            weight, "optimisation", text, keys=keys, expected=expected, modules=modules
        )
