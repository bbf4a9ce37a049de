"""The networks of the replayed table: a tree of branches, always the same.

A branch is a draft and what was made of it. Six drafts are proposals that the built-in planner made
for the planned U-Net; their children are its improvements, and crossovers of two branches. Which
modules it drew stands in `replay_networks.csv`, so that a later planner leaves the table as it is.
Four start from a changed U-Net (no skips, no normalisation, narrower, fewer stages), four from
another architecture (`bench/table_sources.py`). A change is an edit of the source's text, so that
each network is one readable network.py.

Some fail, and are meant to: each does so by a fault that planners make. No torch is imported.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from agent.component_effects import ComponentEffects
from agent.grammar import GrammarPlanner, proposal_id
from agent.motivation import title
from agent.network_source import network_source
from bench.table_rows import modules_of, read_table
from bench.table_sources import DILATED, FULLY_CONVOLUTIONAL, PYRAMID, TRANSFORMER
from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import problems

NOTHING = ComponentEffects()
STAGES = 4
DIMS = 2
# Costly modules would take hours and teach no more about a search.
COSTLIEST = 1.3
UNET = ""
FUNCTION = "weights"


class Edit(NamedTuple):
    """A change of a network's text: what it is, and each old text with the new one."""

    title: str
    texts: Sequence[tuple[str, str]]


def planned(title: str, change: str) -> Edit:
    """Return the edit that builds the planned U-Net for a changed plan."""
    build = "    return Network(in_channels, num_classes, spec)"
    return Edit(title, ((build, f"    spec = {{**spec, {change}}}\n{build}"),))


JOINED = "torch.cat([self.upsamplers[step](x), skip], dim=1)"
TWICE = "2 * width, width, kernel, ones, depth"
NORM = "nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d"
LEAKY = "nn.LeakyReLU(0.01, inplace=True)"
FINEST = (
    '"features": spec["features"][:3], "strides": spec["strides"][:3], '
    '"kernel_sizes": spec["kernel_sizes"][:3], "deep_supervision": False'
)

EDITS: Mapping[str, Edit] = {
    "no_skips": Edit(
        "no skip connections",
        ((JOINED, "self.upsamplers[step](x)"), (TWICE, TWICE.removeprefix("2 * "))),
    ),
    "summed_skips": Edit(
        "skips added, not joined",
        ((JOINED, "self.upsamplers[step](x) + skip"), (TWICE, TWICE.removeprefix("2 * "))),
    ),
    "no_norm": Edit("no normalisation", ((NORM, "nn.Identity"),)),
    "batch_norm": Edit("batch norm", ((NORM, "nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d"),)),
    "group_norm": Edit(
        "group norm", (("norm(out_channels, affine=True)", "nn.GroupNorm(4, out_channels)"),)
    ),
    "gelu": Edit("GELU", ((LEAKY, "nn.GELU()"),)),
    "sigmoid": Edit("sigmoids", ((LEAKY, "nn.Sigmoid()"),)),
    "tanh": Edit("tanh", ((LEAKY, "nn.Tanh()"),)),
    "halved": planned("half the width", '"features": [f // 2 for f in spec["features"]]'),
    "widened": planned("half as wide again", '"features": [f * 3 // 2 for f in spec["features"]]'),
    "single": planned(
        "one convolution a stage",
        '"convs_encoder": [1] * len(spec["features"]), "convs_decoder": [1] * len(spec["features"])',
    ),
    "shallow": planned("three stages, one head", FINEST),
    "squared": Edit(
        "squared activations",
        (("out: Tensor = self.layers(x)", "out: Tensor = self.layers(x).square()"),),
    ),
    "deeper": Edit("deeper", (("DEPTH = 4", "DEPTH = 7"),)),
    "coarse_head": Edit(
        "scores left at half resolution",
        (
            ('functional.interpolate(scores, size=x.shape[2:], mode="bilinear")', "scores"),
            ("from torch.nn import functional\n", ""),
        ),
    ),
    "far": Edit("wider rates", (("(1, 1, 2, 4, 8, 1)", "(1, 2, 4, 8, 16, 2, 1)"),)),
    "scheduled": Edit(
        "noise that a schedule lowers",
        (
            ("RATES = ", "NOISE = [0.3 * 0.99**step for step in range(100)]\nRATES = "),
            ("super().__init__()", "super().__init__()\n        self.steps = 0"),
            (
                "        for layer in self.layers:\n            x = layer(x)",
                "        if self.training:\n"
                "            x = x * (1 + NOISE[self.steps] * x.new_empty(1).normal_())\n"
                "            self.steps += 1\n"
                "        for layer in self.layers:\n            x = layer(x)",
            ),
        ),
    ),
    "small_patches": Edit("patches of 2", (("PATCH = 4", "PATCH = 2"), ("HEADS = 4", "HEADS = 2"))),
    "no_patches": Edit(
        "attention among voxels",
        (("PATCH = 4", "PATCH = 1"), ("HEADS = 4", "HEADS = 8"), ("LAYERS = 3", "LAYERS = 8")),
    ),
    "rich_laterals": Edit(
        "wider laterals", (("LATERAL = 16", "LATERAL = 32"), ("DEPTH = 1", "DEPTH = 2"))
    ),
}


class Plan(NamedTuple):
    """How one network is made.

    `of` is the place of its parent in the branch, None for the draft; `planner` is propose,
    improve, cross (with the draft of branch `partner`) or empty, where the modules stay;
    `edits` are those of the whole text, the parent's are not kept.
    """

    of: int | None = None
    planner: str = ""
    edits: tuple[str, ...] = ()
    partner: int = 0
    source: str = UNET


DRAWN, BETTER = Plan(None, "propose"), Plan(0, "improve")
BRANCHES: Sequence[Sequence[Plan]] = (
    (DRAWN, BETTER, BETTER, Plan(1, "improve")),
    (DRAWN, BETTER, Plan(1, "improve"), Plan(2, "improve")),
    (DRAWN, BETTER, Plan(0, "cross", partner=0), BETTER),
    (DRAWN, BETTER, Plan(1, "improve"), Plan(0, "cross", partner=1)),
    (DRAWN, BETTER, Plan(0, "cross", partner=2)),
    (DRAWN, BETTER, Plan(1, "improve")),
    (
        Plan(edits=("no_skips",)),
        Plan(0, edits=("summed_skips",)),
        Plan(1, "improve", ("summed_skips",)),
        Plan(1, edits=("summed_skips", "widened")),
    ),
    (
        Plan(edits=("no_norm",)),
        Plan(0, edits=("batch_norm",)),
        Plan(0, edits=("group_norm", "gelu")),
        Plan(0, edits=("no_norm", "squared")),
    ),
    (
        Plan(edits=("halved",)),
        Plan(0, edits=("halved", "single")),
        Plan(0, "improve", ("halved",)),
        Plan(2, "", ("widened",)),
    ),
    (
        Plan(edits=("shallow",)),
        Plan(0, edits=("shallow", "tanh")),
        Plan(0, edits=("shallow", "no_norm", "sigmoid")),
    ),
    (
        Plan(source=FULLY_CONVOLUTIONAL),
        Plan(0, edits=("deeper",), source=FULLY_CONVOLUTIONAL),
        Plan(0, edits=("coarse_head",), source=FULLY_CONVOLUTIONAL),
    ),
    (
        Plan(source=DILATED),
        Plan(0, edits=("far",), source=DILATED),
        Plan(1, edits=("far", "scheduled"), source=DILATED),
    ),
    (
        Plan(source=TRANSFORMER),
        Plan(0, edits=("small_patches",), source=TRANSFORMER),
        Plan(0, edits=("no_patches",), source=TRANSFORMER),
    ),
    (Plan(source=PYRAMID), Plan(0, edits=("rich_laterals",), source=PYRAMID)),
)


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the tree; ids are branch and place, such as `03-2`. The draft has no parent."""

    id: str
    branch: str
    parent: str
    title: str
    source: str
    edits: tuple[str, ...]
    proposal: Proposal | None

    @property
    def modules(self) -> tuple[Module, ...]:
        """The published components that it holds; none for another architecture."""
        return self.proposal.modules if self.proposal else ()

    @property
    def named(self) -> list[str]:
        """The classes of its source that the dry run must find at work."""
        cards = [COMPONENTS[module.component] for module in self.modules]
        return sorted({card.class_name for card in cards if card.form != FUNCTION})


@dataclass(slots=True)
class Tree:
    """The tree while it grows; `drawn` has the modules that the planner drew, by network."""

    drawn: Mapping[str, tuple[Module, ...]]
    planner: GrammarPlanner = field(default_factory=lambda: GrammarPlanner(STAGES))
    branches: list[list[Network]] = field(default_factory=list)

    def add(self, plan: Plan) -> None:
        """Add the next network of the last branch."""
        branch = self.branches[-1]
        parent = None if plan.of is None else branch[plan.of]
        name = f"{len(self.branches):02d}"
        own = f"{name}-{len(branch)}"
        proposal = None if plan.source else self.proposal(plan, parent, own)
        source = network_source(proposal) if proposal else plan.source
        titles = [EDITS[edit].title for edit in plan.edits]
        head = proposal.title if proposal else headline(plan.source)
        text = edited(source, plan.edits)
        before = parent.id if parent else ""
        branch.append(
            Network(own, name, before, "; ".join([head, *titles]), text, plan.edits, proposal)
        )

    def proposal(self, plan: Plan, parent: Network | None, own: str) -> Proposal:
        """Return the proposal of a U-Net."""
        before = parent.proposal if parent else None
        if plan.planner == "propose":
            return self.planner.worded(self.drawn[own], NOTHING)
        if before is None:
            return without_modules()
        if plan.planner == "improve":
            return self.improved(before, self.drawn[own])
        if plan.planner == "cross":
            other = self.branches[plan.partner][0].proposal
            assert other is not None
            return united(before, other)
        return before

    def improved(self, before: Proposal, modules: Sequence[Module]) -> Proposal:
        """Return the child of a proposal that has these modules, as the planner words it.

        Raises:
            PlannerError: the planner makes no such child any more.
        """
        even = dict.fromkeys(COMPONENTS, 1.0)
        kinds = self.planner.changes(before, NOTHING, even, DIMS).values()
        for change in chain.from_iterable(kinds):
            if set(change.modules) == set(modules):
                text = f"This child {change.text}."
                return self.planner.worded(change.modules, NOTHING, parent=before, change=text)
        raise PlannerError(
            f"no child of {before.title!r} has the modules {title(tuple(modules))!r}"
        )


def networks() -> list[Network]:
    """Return all networks, parents before their children.

    Raises:
        PlannerError: the planner, its components or its template no longer fit the plan above.
    """
    listed = read_table().networks
    tree = Tree({one.id: published(modules_of(one.modules)) for one in listed})
    for plans in BRANCHES:
        tree.branches.append([])
        for plan in plans:
            tree.add(plan)
    return [network for branch in tree.branches for network in branch]


def published(modules: Sequence[Module]) -> tuple[Module, ...]:
    """Return those of a network's modules that are no edit of its text."""
    return tuple(one for one in modules if one.component in COMPONENTS)


def without_modules() -> Proposal:
    """Return the planned U-Net itself as a proposal."""
    return Proposal(proposal_id((), None), "Planned U-Net", "", (), "none", (), "none")


def united(one: Proposal, other: Proposal) -> Proposal:
    """Return a child of one proposal that takes all modules of another that fit beside its own.

    Raises:
        PlannerError: none fits.
    """
    modules = one.modules
    for module in other.modules:
        if not problems((*modules, module), dims=DIMS, n_stages=STAGES):
            modules = (*modules, module)
    if modules == one.modules:
        raise PlannerError(f"{one.title!r} and {other.title!r} do not go together")
    text = f"This child joins the modules of {one.title!r} and {other.title!r}."
    own = proposal_id(modules, one.id)
    return Proposal(own, title(modules), text, modules, one.refutation, (), "union", one.id)


def headline(source: str) -> str:
    """Return the first line of a network's docstring, without the reference."""
    return re.split(r" \(|:", source.splitlines()[0].strip('".'))[0]


def edited(source: str, names: Sequence[str]) -> str:
    """Return a source with edits made, which its docstring names.

    Raises:
        PlannerError: a text that should be changed is not there.
    """
    for name in names:
        for old, new in EDITS[name].texts:
            if old not in source:
                raise PlannerError(f"edit {name!r}: the source holds no {old!r}")
            source = source.replace(old, new)
    said = ", ".join(EDITS[name].title for name in names)
    return source.replace('"""', f'"""Changed: {said}.\n\n', 1) if said else source
