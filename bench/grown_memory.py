"""Lessons of all layers, as many as are wanted, worded as rules and models word them.

Titles name components of the library and, as often, a class that a model made up, so that some
words are in most lessons and some in few. A lesson of a branch or of the campaign has taken the
place of an earlier one of its topic, which is kept as well. Not in it: a name of a case.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from random import Random
from typing import NamedTuple

from agent.ideas import plain_title
from agent.motivation import named
from agent.standings import SEARCH
from bench.grown_store import BEGIN_S, insert
from memory.records import Figures, Lesson, Module, short_id
from sandbox.components import COMPONENTS
from sandbox.placement import placements, problems

DIMS, STAGES = 3, 6
SHARES = {"trial": 12, "branch": 3, "campaign": 2, "library": 3}
AT_ONCE = 5000
DEAD_END = -0.025  # Dice: an effect as low as in a twentieth of the lessons
HERE: Figures = {
    **{"modality": "MR", "dims": DIMS, "classes": 1, "cases": 40},
    "traits": ["few_cases", "small_objects", "volumes"],
}
"""The conditions of the campaign whose memory it is."""
FIRST = (
    *("Edge", "Depth", "Vessel", "Border", "Texture", "Slice", "Shape", "Noise", "Phase", "Ridge"),
    *("Contrast", "Halo", "Coil", "Grain", "Spectral", "Anchor", "Prior", "Cascade", "Mirror"),
    *("Orient", "Focal", "Sparse", "Twin", "Radial", "Layered", "Pulse", "Drift", "Core", "Rim"),
)
SECOND = (
    *("Gate", "Mixer", "Filter", "Bank", "Scale", "Shift", "Lens", "Bridge", "Norm", "Router"),
    *(
        "Memory",
        "Pyramid",
        "Field",
        "Token",
        "Window",
        "Sieve",
        "Relay",
        "Fusion",
        "Probe",
        "Trace",
    ),
)
AIMS = (
    *("for thin vessels", "against blurred borders", "for small lesions", "across thick slices"),
    *("under bias fields", "for touching organs", "with few cases", "for elongated ducts"),
    *("against ghosting", "for low contrast walls", "near the bladder", "at the cortex"),
)
REASONS = (
    "Most of the change sits in cases with small foreground.",
    "The border gained and the inside did not move.",
    "The coarse heads changed as much as the finest one.",
    "Its loss fell more slowly than the baseline's and had not settled.",
    "The worst tenth of cases moved against all others.",
    "It costs memory that a larger batch would use better.",
)
FAULTS = ("shape", "numerics", "divergence", "time", "memory", "contract")


class Idea(NamedTuple):
    """What a lesson or a proposal is about: a title, its modules, and the class of a new one."""

    title: str
    modules: tuple[Module, ...]
    new: str

    @property
    def components(self) -> tuple[str, ...]:
        """The components of its modules."""
        return tuple(sorted(module.component for module in self.modules))


@cache
def places() -> tuple[Module, ...]:
    """Return every placement of the library's components in the plan."""
    return tuple(m for n in COMPONENTS for m in placements(n, dims=DIMS, n_stages=STAGES))


def idea(rng: Random) -> Idea:
    """Return an idea: one or two components of the library, and every second time a new class."""
    library: tuple[Module, ...] = ()
    while not library or problems(library, dims=DIMS, n_stages=STAGES):
        library = tuple(rng.sample(places(), rng.randint(1, 2)))
    if rng.random() < 0.5:
        return Idea(plain_title(library), library, "")
    name = rng.choice(FIRST) + rng.choice(SECOND)
    own = Module(name, rng.choice(("encoder", "skip", "decoder")), (rng.randrange(4),))
    return Idea(f"{name} {rng.choice(AIMS)}", (library[0], own), name)


def query(rng: Random) -> str:
    """Return what a campaign asks its memory before it tries an idea."""
    one = idea(rng)
    return f"{one.title} {' '.join(one.components)}"


def remember(conn: sqlite3.Connection, count: int, rng: Random) -> None:
    """Write lessons that cite the trials of the search, inside one transaction of the caller.

    So many are told; those that they have replaced come on top.
    """
    kinds = ", ".join(f"'{kind}'" for kind in SEARCH)
    sql = f"SELECT id FROM trial WHERE kind IN ({kinds}) ORDER BY planned_at, id"
    trials = [row[0] for row in conn.execute(sql)]
    made = lessons(count, trials, rng)
    while part := list(islice(made, AT_ONCE)):
        insert(conn, part)


def lessons(count: int, trials: Sequence[str], rng: Random) -> Iterator[Lesson]:
    """Yield so many lessons, the layers mixed as by SHARES, each after the one it has replaced."""
    layers = [layer for layer, share in SHARES.items() for _ in range(share)]
    for number in range(count):
        layer = layers[number % len(layers)]
        cited = tuple(rng.sample(trials, 1 if layer == "trial" else min(6, len(trials))))
        own = Lesson(short_id([layer, number]), layer, "", cited, at=BEGIN_S + number)
        if layer == "trial":
            yield of_trial(own, rng)
        elif layer == "library":
            yield of_library(own, rng)
        else:
            yield from versions(own, rng)


def versions(own: Lesson, rng: Random) -> Iterator[Lesson]:
    """Yield a lesson of a branch or of the campaign after an earlier one of its topic."""
    topic, about = f"{own.layer}/{own.id}", rng.random()
    write = of_branch if own.layer == "branch" else of_campaign
    before = replace(own, id=short_id([own.id, "before"]), topic=topic, is_replaced=True)
    yield write(before, Random(about), rng)
    yield write(replace(own, topic=topic), Random(about), rng)


def of_trial(own: Lesson, rng: Random) -> Lesson:
    """Return what a trial taught: how it ended, or why it failed."""
    one, rung = idea(rng), rng.randrange(2)
    if rng.random() < 0.13:
        fault = rng.choice(FAULTS)
        text = (
            f"{one.title} ended failed at rung {rung}: RuntimeError: {fault}: expected "
            f"{rng.randrange(8, 640)} channels. It says nothing about the idea."
        )
        return replace(own, text=text, components=one.components, kind="failure")
    effect, se = drawn(rng)
    text = (
        f"{one.title} ended {abs(effect):.4f} Dice {side(effect)} nnU-Net's default at rung {rung} "
        f"(standard error {se:.4f}). {rng.choice(REASONS)}"
    )
    return measured(own, text, one.components, effect, se)


def of_branch(own: Lesson, about: Random, rng: Random) -> Lesson:
    """Return what a branch's trials showed together; `about` draws what it is about."""
    one, (effect, se) = idea(about), drawn(rng)
    text = (
        f"Branch of {one.title}: {rng.randint(2, 30)} trainings, the best {abs(effect):.4f} Dice "
        f"{side(effect)} nnU-Net's default; {rng.randrange(4)} failed ({rng.choice(FAULTS)}). "
        f"{rng.choice(REASONS)}"
    )
    return measured(own, text, one.components, effect, se)


def of_campaign(own: Lesson, about: Random, rng: Random) -> Lesson:
    """Return what holds across branches: the effect of a component, or an open question."""
    one, aim, (effect, se) = about.choice(places()), about.choice(AIMS), drawn(rng)
    if about.random() < 0.2:
        text = f"Does {named(one)} gain {aim}?"
        return replace(own, text=text, components=(one.component,), kind="question", support=0)
    text = (
        f"{named(one)} moves Dice by {effect:+.4f} (standard error {se:.4f}) over "
        f"{rng.randint(2, 60)} trainings, {aim}."
    )
    return replace(measured(own, text, (one.component,), effect, se), kind="effect")


def of_library(own: Lesson, rng: Random) -> Lesson:
    """Return what another campaign handed on, with the conditions under which it was seen."""
    one, (effect, se) = rng.choice(places()), drawn(rng)
    modality, cases = rng.choice(("CT", "MR", "other")), rng.choice((20, 60, 200, 900))
    traits = sorted(rng.sample(("few_cases", "many_classes", "small_objects", "volumes"), 2))
    text = (
        f"In a campaign on {modality} with {cases} cases ({', '.join(traits)}), {named(one)} moved "
        f"Dice by {effect:+.4f} (standard error {se:.4f}) over {rng.randint(2, 40)} trainings."
    )
    source = short_id(["campaign", rng.randrange(40)])
    conditions = {"modality": modality, "dims": 3, "classes": 2, "cases": cases, "traits": traits}
    far = replace(own, source=source, evidence=(short_id([source, own.id]),), conditions=conditions)
    return measured(far, text, (one.component,), effect, se)


def drawn(rng: Random) -> tuple[float, float]:
    """Return an effect in Dice and its standard error."""
    return rng.gauss(-0.002, 0.015), rng.uniform(0.001, 0.01)


def measured(
    own: Lesson, text: str, components: tuple[str, ...], effect: float, se: float
) -> Lesson:
    """Return a lesson with an effect, and as many trials for it as the effect is clear."""
    return replace(
        own,
        text=text,
        components=components,
        effect=effect,
        effect_se=se,
        kind="finding" if effect > DEAD_END else "dead_end",
        support=1 + int(min(9.0, abs(effect) / se)),
        contra=int(abs(effect) < se),
    )


def side(effect: float) -> str:
    """Return on which side of the baseline an effect is."""
    return "above" if effect > 0 else "below"
