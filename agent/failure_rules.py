"""Rules from a class of failure to suggestions, one of each category, and which comes first. Pure.

Every class of `sandbox/failures.py` has a sentence of its own on its code; what else may help
depends on its kind. The order of the categories is that of a kind, unless the audit finds a
part missing, which then comes first.
"""

from collections.abc import Iterator
from typing import NamedTuple

from agent.code_rules import gap
from agent.grounds import STEP, Candidate, Grounds, change
from agent.suggestions import FAILURE
from agent.training_rules import lighter

FIRST = 4.0  # weight of a kind's first category; each further one counts one less
PASSES = "The dry run passes its step, and the trial gets a Dice."
OF_CODE = {
    "syntax": "Write network.py as plain Python that parses, at the line that is named.",
    "imports": "Import only what the contract lists, torch and the named standard modules.",
    "names": "Use only names of the contract, and define build_network with its three parameters "
    "and every class that the proposal names.",
    "contract": "Compare the shapes at the line that is named: channels in and out, the stride of "
    "each stage, one head a decoder stage with one logit a class.",
    "not_finite": "Guard divisions, roots, logarithms and exponents against zero and overflow.",
    "no_gradient": "Remove what detaches the output from the parameters: detach, no_grad, "
    "rounding, argmax, data.",
    "constant": "Return what is computed from the input; look for maps of constants, or a product "
    "with a scale that stays zero.",
    "idle_module": "Call the idle part in forward and use its result, with a scale that is not zero "
    "for good.",
    "longer_training": "Take out every step, loop or hook that trains parameters; we run the "
    "iterations.",
    "optimiser": "Leave the optimiser alone, and add or remove no parameter after build_network.",
    "batch": "Take the batch and patch as they come, and give back maps of the same size.",
    "data": "Leave inputs and labels as they are: copy before a change in place.",
    "loss": "Leave the loss alone; declare weights of the heads as deep_supervision_weights only.",
    "file_access": "Touch no file, process, socket or library; compute on tensors alone.",
    "output": "Give back nothing but logits; write no file and replace none of ours.",
    "admission": "Free maps that are kept beyond their use, and avoid lists of all stages' maps.",
    "out_of_memory": "Avoid maps that grow with the square of the voxels; work in place or by axis.",
    "timed_out": "Replace loops over voxels, channels or cases by operations on whole tensors.",
    "diverged": "Normalise before each sum of branches, and initialise new convolutions as the "
    "planned ones are.",
    "collapsed": "Check the heads: a bias, a scale or an activation after the logits makes one "
    "class win everywhere.",
    "no_progress": "Check that the logits depend on trained parameters and are not clipped or "
    "passed through a softmax.",
    "stalled": "Look for a loop without an end, or work on the CPU in forward.",
    "worker_memory": "Change nothing for this: a data worker ran short, not the network; run it "
    "again with fewer workers.",
    "worker_shared_memory": "Change nothing for this: shared memory or open files ran out; run it "
    "again with fewer workers.",
    "worker_died": "Change nothing for this before it failed twice: a data worker died.",
    "restarted": "Change nothing for this: the training began anew; run it again.",
    "out_of_disk": "Write and print nothing from the network.",
    "out_of_processes": "Start no thread or process, and set no number of threads.",
    "exception": "Repair what raised the error.",
    "stopped": "Change nothing for this: it was told to stop.",
}
"""Class of failure -> what to do about the code."""


class FailureKind(NamedTuple):
    """What classes have in common: order of categories, and words for three of them."""

    order: tuple[str, ...]
    architecture: str
    capacity: str
    optimisation: str


TEXT = FailureKind(
    ("code", "gap", "architecture", "capacity", "optimisation"),
    "a network with fewer parts has fewer lines that can break",
    "a smaller part is quicker to get right",
    "Start from the parent's network, which passed, and add one part at a time.",
)
NUMBERS = FailureKind(
    ("optimisation", "code", "architecture", "gap", "capacity"),
    "the part added last is the first suspect of numbers that grow",
    "fewer channels sum to smaller numbers",
    "Normalise each part's output, and add it with a scale that starts at zero and is learnt.",
)
USE = FailureKind(
    ("gap", "code", "optimisation", "architecture", "capacity"),
    "another place, whose maps the decoder uses, may give the part an effect",
    "fewer parts leave fewer without an effect",
    "Start each part with a small scale that is learnt, not with zero on both factors of a product.",
)
ROOM = FailureKind(
    ("capacity", "architecture", "code", "optimisation", "gap"),
    "at a coarser stage the maps are smaller",
    "the network needs more memory or time than it may have",
    "Compute the part on halved channels or maps, and add it as a residual.",
)
MACHINE = FailureKind(
    ("code", "capacity", "gap", "optimisation", "architecture"),
    "only where it fails again: the rest of the idea can be tried alone",
    "a smaller network leaves more room to what ran short",
    "Keep the training as it is, and run the same network again first.",
)
KINDS = {
    **dict.fromkeys(("not_finite", "diverged", "collapsed", "no_progress"), NUMBERS),
    **dict.fromkeys(("no_gradient", "constant", "idle_module"), USE),
    **dict.fromkeys(("admission", "out_of_memory", "timed_out", "stalled"), ROOM),
    **dict.fromkeys(("worker_memory", "worker_shared_memory", "worker_died"), MACHINE),
    **dict.fromkeys(("restarted", "out_of_disk", "out_of_processes", "stopped"), MACHINE),
}
"""Class of failure -> its kind; TEXT for all others."""


def failure_candidates(grounds: Grounds) -> Iterator[Candidate]:
    """Yield what may help against a failure; its class is that of a clue."""
    kind = KINDS.get(grounds.failure, TEXT)
    weights = {name: FIRST - place for place, name in enumerate(kind.order)}
    keys = (FAILURE, "failure.line", "failure.excerpt", "dry.failed")
    yield of_code(grounds, weights["code"], keys)
    yield from of_parts(grounds, weights["architecture"], kind.architecture)
    yield from lighter(
        grounds,
        weights["capacity"],
        why=kind.capacity,
        keys=(FAILURE, "dry.memory", "cost.memory", "cost.flops", "cost.parameters"),
        expected=f"{PASSES} Parameters, FLOPs and memory fall.",
    )
    yield grounds.candidate(
        weights["optimisation"],
        "optimisation",
        kind.optimisation,
        keys=(FAILURE, "dry.unused", "curve.slope"),
        expected=f"{PASSES} Its training loss falls.",
    )
    yield from (one._replace(strength=max(one.strength, weights["gap"])) for one in gap(grounds))


def of_code(grounds: Grounds, weight: float, keys: tuple[str, ...]) -> Candidate:
    """Return what to do about the code, with the line where it is known."""
    text = OF_CODE.get(grounds.failure, OF_CODE["exception"])
    line = grounds.value("failure.line")
    named = f" Begin at line {line:.0f} of network.py." if line is not None else ""
    return grounds.candidate(weight, "code", text + named, keys=keys, expected=PASSES)


def of_parts(grounds: Grounds, weight: float, why: str) -> Iterator[Candidate]:
    """Yield the same idea without the module added last, or with it elsewhere."""
    own = grounds.proposal.modules
    options = [set_ for last in own[-1:] for set_ in (grounds.without(last), *grounds.moving(last))]
    for place, modules in enumerate(grounds.some(options)):
        how = "Try the idea with its simplest part alone, at one place"
        how = how if modules is None else change(own, modules)
        yield grounds.candidate(
            weight - place * STEP,
            "architecture",
            f"{how}: {why}.",
            keys=(FAILURE, "dry.failed"),
            expected=f"{PASSES} Its Dice shows what the rest of the idea is worth.",
            modules=modules,
        )
