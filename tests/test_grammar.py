"""The grammar planner: valid, distinct, reproducible proposals, and source fit to publish."""

import ast
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.grammar import GrammarPlanner, proposal_id
from agent.motivation import active_traits, because, refutation, title, where
from agent.network_source import network_source
from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import module_cost, problems
from tests.effects import UNKNOWN, known

TRAITS = {"small_objects": True, "classes": 4, "dims": 3, "val_cases": 24}
PLANNER = GrammarPlanner(n_stages=5, traits=TRAITS)
SKELETON = {"ConvStage", "Encoder", "Decoder", "Network", "initialise", "build_network"}
SEEDS = st.integers(0, 2**32 - 1)


def make(*modules: Module, parent: str | None = None) -> Proposal:
    return Proposal(
        id=proposal_id(modules, parent),
        title=title(modules),
        motivation="Because.",
        modules=modules,
        refutation="It is not so.",
        citations=(),
        planner="grammar",
        parent=parent,
    )


def campaign(seed: int, *, steps: int = 12, dims: int = 2) -> list[Proposal]:
    """Return proposals and children as a campaign would ask for them."""
    rng, tried = random.Random(seed), list[Proposal]()
    effects = known({name: rng.gauss(0, 0.02) for name in rng.sample(sorted(COMPONENTS), 6)})
    for step in range(steps):
        if step % 3 == 0:
            tried.append(PLANNER.propose(tried, effects, rng, dims=dims))
        else:
            parent = rng.choice(tried)
            tried.append(PLANNER.improve(parent, effects, rng, dims=dims, tried=tried))
    return tried


@pytest.fixture(scope="module")
def fifty() -> list[Proposal]:
    """Return 50 proposals of several campaigns."""
    return [p for seed in range(5) for p in campaign(seed, steps=10, dims=2 + seed % 2)]


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, dims=st.sampled_from([2, 3]))
def test_proposals_are_valid_and_distinct(seed: int, dims: int) -> None:
    tried = campaign(seed, dims=dims)
    assert len({frozenset(p.modules) for p in tried}) == len(tried)
    assert len({p.id for p in tried}) == len(tried)
    for proposal in tried:
        assert problems(proposal.modules, dims=dims, n_stages=5) == []
        assert proposal.planner == "grammar"
        assert proposal.id == proposal_id(proposal.modules, proposal.parent)
        assert 1 <= len(proposal.modules) <= (4 if proposal.parent else 3)
        compile(network_source(proposal), "network.py", "exec")


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_proposals(seed: int) -> None:
    assert campaign(seed) == campaign(seed)


def test_other_seeds_give_other_proposals() -> None:
    assert campaign(0) != campaign(1)


def test_new_proposals_bring_new_sets_of_components() -> None:
    rng, tried = random.Random(0), list[Proposal]()
    for _ in range(30):
        tried.append(PLANNER.propose(tried, UNKNOWN, rng, dims=2))
    assert len({frozenset(m.component for m in p.modules) for p in tried}) == 30
    used = {m.component for p in tried for m in p.modules}
    assert used == set(COMPONENTS)


def test_the_choice_follows_the_effects() -> None:
    rng = random.Random(0)
    effects = known(dict.fromkeys(COMPONENTS, 0.0) | {"mednext": 0.02, "dense_skip": -0.005})
    drawn = Counter(
        module.component
        for _ in range(300)
        for module in PLANNER.propose([], effects, rng, dims=2).modules
    )
    assert drawn["mednext"] > 2 * drawn["large_kernel"]
    assert 0 < drawn["dense_skip"] < drawn["large_kernel"] / 2


def test_a_space_that_is_used_up_is_an_error() -> None:
    rng, tried = random.Random(0), list[Proposal]()
    tiny = GrammarPlanner(n_stages=1)

    def use_up() -> None:
        for _ in range(200):
            tried.append(tiny.propose(tried, UNKNOWN, rng, dims=2))

    with pytest.raises(PlannerError, match="no untried proposal"):
        use_up()
    assert len(tried) > 50


def test_a_child_differs_from_its_parent_by_one_module() -> None:
    rng = random.Random(0)
    parent = make(Module("mednext", "encoder", (0, 1)), Module("attention_gate", "skip", (0, 1)))
    kinds = Counter[str]()
    for _ in range(200):
        child = PLANNER.improve(parent, UNKNOWN, rng, dims=3, tried=[parent])
        gone = set(parent.modules) - set(child.modules)
        new = set(child.modules) - set(parent.modules)
        assert child.parent == parent.id
        assert len(gone) <= 1
        assert len(new) <= 1
        assert gone | new
        same = {m.component for m in gone} == {m.component for m in new}
        kind = (
            "move"
            if same
            else {(0, 1): "add", (1, 0): "leave", (1, 1): "replace"}[(len(gone), len(new))]
        )
        kinds[kind] += 1
        verb = {"add": "adds", "leave": "leaves out", "replace": "replaces", "move": "tries"}[kind]
        assert child.motivation.startswith(f"This child {verb} ")
        if new:
            assert where(next(iter(new))) in child.motivation.split("\n\n")[0]
    assert set(kinds) == {"add", "leave", "replace", "move"}


def test_a_harmful_module_leaves_more_often() -> None:
    rng = random.Random(0)
    bad, good = Module("mednext", "encoder", (0, 1)), Module("attention_gate", "skip", (0, 1))
    parent = make(bad, good)
    effects = known({"mednext": -0.02, "attention_gate": 0.02})
    gone = Counter(
        module
        for _ in range(200)
        for child in [PLANNER.improve(parent, effects, rng, dims=2, tried=[])]
        for module in parent.modules
        if module.component not in {m.component for m in child.modules}
    )
    assert gone[bad] > 5 * gone[good]


@pytest.mark.parametrize("failure", ["out_of_memory", "timed_out"])
def test_overspending_takes_the_most_costly_module(failure: str) -> None:
    costly, cheap = Module("mednext", "encoder", (0, 1, 2)), Module("blur_pool", "downsample", (1,))
    parent = make(costly, cheap)
    for seed in range(20):
        child = PLANNER.repair(parent, failure, random.Random(seed))
        assert cheap in child.modules
        assert costly not in child.modules
        assert sum(module_cost(m, 5) for m in child.modules if m != cheap) <= 0.5 * module_cost(
            costly, 5
        )
        assert problems(child.modules, dims=2, n_stages=5) == []
        assert child.parent == parent.id
        assert "most costly module" in child.motivation


def test_any_other_failure_takes_the_module_added_last() -> None:
    first, last = Module("mednext", "encoder", (0,)), Module("blur_pool", "downsample", (1,))
    child = PLANNER.repair(make(first, last), "failed", random.Random(0))
    assert child.modules == (first,)
    assert "added last" in child.motivation


def test_a_single_failed_module_moves_until_nothing_is_left() -> None:
    rng = random.Random(0)
    failed = make(Module("attention_gate", "skip", (0,)))
    child = PLANNER.repair(failed, "diverged", rng)
    assert child.modules[0].component == "attention_gate"
    assert child.modules != failed.modules
    stuck = make(Module("even_supervision", "heads", ()))
    for failure in ("diverged", "out_of_memory"):
        with pytest.raises(PlannerError, match="cannot be made simpler"):
            PLANNER.repair(stuck, failure, rng)


def test_the_swapped_in_module_counts_as_added_last() -> None:
    rng = random.Random(1)
    parent = make(Module("mednext", "encoder", (0, 1)), Module("attention_gate", "skip", (0, 1)))
    for _ in range(50):
        child = PLANNER.improve(parent, UNKNOWN, rng, dims=2, tried=[])
        new = {m.component for m in child.modules} - {m.component for m in parent.modules}
        assert not new or child.modules[-1].component in new


def test_identifiers_ignore_order_but_not_parent() -> None:
    a, b = Module("mednext", "encoder", (0,)), Module("blur_pool", "downsample", (1,))
    assert proposal_id([a, b], None) == proposal_id([b, a], None)
    assert proposal_id([a], None) != proposal_id([a], "parent")
    assert proposal_id([a], None) != proposal_id([replace(a, stages=(1,))], None)


def test_texts_name_claim_reason_and_refutation() -> None:
    rng, tried = random.Random(5), list[Proposal]()
    effects = known({"mednext": 0.01, "blur_pool": -0.01})
    for _ in range(20):
        tried.append(PLANNER.propose(tried, effects, rng, dims=2))
    for proposal in tried:
        assert proposal.citations[0] == "isensee2021nnunet"
        assert "over the 24 search-val cases" in proposal.refutation
        assert len(proposal.motivation.split("\n\n")) == len(proposal.modules)
        for module in proposal.modules:
            card = COMPONENTS[module.component]
            assert set(card.citations) <= set(proposal.citations)
            assert card.source in proposal.motivation
            assert where(module) in proposal.motivation
            assert card.refuted_by in proposal.refutation
        text = proposal.title + proposal.motivation + proposal.refutation
        assert not re.search(r"  |\.\.|\n\n\n| ,|None|\{|\}", text)


def test_reasons_prefer_the_campaign_then_the_dataset() -> None:
    traits = {"small_objects": True}
    for effects, held, said in (
        (known({"attention_gate": 0.02}), traits, "have scored above the baseline"),
        (known({}, {"attention_gate": 0.02}), traits, "in earlier campaigns"),
        (known({"attention_gate": -0.02}, {"attention_gate": 0.02}), traits, "small objects"),
        (UNKNOWN, traits, "small objects"),
        (UNKNOWN, {}, "new to this campaign"),
        (known({"attention_gate": -0.02}), {}, "below the baseline"),
        (known({"attention_gate": 0.0}), {}, "still thin"),
    ):
        assert said in because("attention_gate", traits=held, effects=effects)


def test_texts_hold_no_measured_number() -> None:
    effects = known(dict.fromkeys(COMPONENTS, 0.0123), dict.fromkeys(COMPONENTS, 0.0123))
    proposal = PLANNER.propose([], effects, random.Random(0), dims=2)
    assert "0.01" not in proposal.motivation
    assert "1.2" not in proposal.motivation


def test_traits_tell_what_they_say() -> None:
    assert active_traits({"classes": 3, "dims": 3, "thin_boundary": False}) >= {
        "many_classes",
        "volumes",
    }
    assert "volumes" not in active_traits({"dims": 2})
    assert "thin_boundary" not in active_traits({"thin_boundary": False})
    assert "the search-val cases" in refutation([], traits={})


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Module("mednext", "encoder", (0, 1, 2)), "in encoder stages 0 to 2"),
        (Module("attention_gate", "skip", (0, 1)), "on the skips of stages 0 and 1"),
        (Module("cbam", "decoder", (1,)), "in decoder stage 1"),
        (Module("axial_attention", "bottleneck", ()), "in the bottleneck"),
        (Module("blur_pool", "downsample", (1, 3)), "on entering stages 1 and 3"),
    ],
)
def test_places_in_words(module: Module, words: str) -> None:
    assert where(module) == words


def test_the_source_holds_the_used_classes_only(fifty: list[Proposal]) -> None:
    for proposal in fifty:
        tree = ast.parse(network_source(proposal))
        defined = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        used = {COMPONENTS[m.component].class_name for m in proposal.modules}
        assert used <= defined
        foreign = {card.class_name for card in COMPONENTS.values()} - used
        assert not foreign & defined
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert defined - {"build_network"} <= names, "a definition is never used"
        assert isinstance(tree.body[-1], ast.FunctionDef)
        assert tree.body[-1].name == "build_network"


def test_the_source_imports_torch_and_the_standard_library_only(fifty: list[Proposal]) -> None:
    for proposal in fifty:
        tree = ast.parse(network_source(proposal))
        modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert modules <= {"math", "typing", "torch", "torch.nn"}


def test_the_plain_network_has_no_component() -> None:
    tree = ast.parse(network_source(make()))
    assert {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)} == SKELETON


def test_the_docstring_tells_title_modules_source_and_refutation() -> None:
    proposal = PLANNER.propose([], UNKNOWN, random.Random(2), dims=2)
    docstring = ast.get_docstring(ast.parse(network_source(proposal)))
    assert docstring is not None
    told = " ".join(docstring.split())
    assert told.startswith(f"{proposal.title}.")
    assert " ".join(proposal.motivation.split()) in told
    assert proposal.refutation in told
    assert proposal.id in told
    for module in proposal.modules:
        card = COMPONENTS[module.component]
        assert f"{card.class_name}, " in told
        assert card.source in told
    assert max(map(len, docstring.splitlines())) <= 88


def test_hostile_words_stay_inside_the_docstring() -> None:
    words = 'Ends """ here \\" and \\x runs\n\nimport os'
    proposal = replace(make(), motivation=words, title=words, refutation=words + '"')
    tree = ast.parse(network_source(proposal))
    assert [a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names] == ["torch"]
    assert {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)} == SKELETON


def test_an_impossible_proposal_is_not_written() -> None:
    with pytest.raises(PlannerError, match="cannot go to 'decoder'"):
        network_source(make(Module("attention_gate", "decoder", (0,))))


@pytest.mark.parametrize("width", [88, 100])
def test_ruff_finds_nothing_to_change(fifty: list[Proposal], tmp_path: Path, width: int) -> None:
    for proposal in [make(), *fifty]:
        (tmp_path / f"{proposal.id}.py").write_text(network_source(proposal))
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--check", "--line-length", str(width)], ["check"]):
        done = subprocess.run(
            [*ruff, *command, "--isolated", "--no-cache", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_fifty_random_networks_run(fifty: list[Proposal]) -> None:
    import torch

    torch.set_num_threads(1)
    for number, proposal in enumerate(fifty):
        dims = 2 + number // 10 % 2
        spec: dict[str, Any] = {
            "dims": dims,
            "patch_size": [32] * dims,
            "strides": [[1] * dims] + [[2] * dims] * 4,
            "kernel_sizes": [[3] * dims] * 5,
            "features": [4, 8, 16, 16, 16],
            "convs_encoder": [2] * 5,
            "convs_decoder": [2] * 4,
            "deep_supervision": True,
        }
        space: dict[str, object] = {}
        exec(network_source(proposal), space)
        build = space["build_network"]
        assert callable(build)
        heads = build(1, 2, spec)(torch.randn(1, 1, *spec["patch_size"]))
        assert [h.shape[2] for h in heads] == [32, 16, 8, 4]
        assert all(h.isfinite().all() for h in heads)
