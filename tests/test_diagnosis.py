"""Diagnosis by rules: what follows from which clue, what is kept, and what it brought."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clues import CALIBRATION, gather
from agent.config import BudgetConfig
from agent.diagnosis import diagnose, keep, payoff, suggest
from agent.failure_rules import KINDS, OF_CODE
from agent.network_source import network_source
from agent.run import drive
from agent.standings import SEARCH, Standings
from agent.suggestions import CATEGORIES, FAILURE, Clue, Diagnosis, Suggestion, faults, parse
from memory.errors import PlannerError, StoreError
from memory.records import Kind, Module, Proposal, Status
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.failures import CLASSES
from sandbox.placement import placements, problems
from tests import diagnosed
from tests.diagnosed import SMALL, Array, add
from tests.scripted import ScriptedExecutor, new_campaign, session_of

DIMS, STAGES = 3, 5
CONTEXT = Module("linear_attention", "bottleneck", ())
SQUEEZE = Module("squeeze_excitation", "decoder", (0, 1))


def proposal(*modules: Module, name: str = "p", **more: Any) -> Proposal:
    return Proposal(name, "T", "m", modules, "r", (), "grammar", **more)


def clue(key: str, value: float | None, se: float | None = None) -> Clue:
    return Clue(key, f"{key} is told", value, "Dice", se)


LOST = clue("overall.delta", -0.01, 0.004)
ONE = proposal(CONTEXT)


def made(
    *clues: Clue,
    mode: str = "loss",
    of: Proposal = ONE,
    tried: tuple[Proposal, ...] = (),
    source: str | None = None,
) -> Diagnosis:
    text = network_source(of) if source is None else source
    found = diagnose(
        "t",
        [*clues, CALIBRATION],
        of,
        mode=mode,
        source=text,
        dims=DIMS,
        n_stages=STAGES,
        tried=tried,
    )
    assert faults(found) == []
    for one in found.suggestions:
        if one.modules is not None:
            assert problems(one.modules, dims=DIMS, n_stages=STAGES) == []
    return found


def of(found: Diagnosis, category: str) -> Suggestion:
    return next(one for one in found.suggestions if one.category == category)


def components(one: Suggestion) -> set[str]:
    assert one.modules is not None
    return {module.component for module in one.modules}


@pytest.mark.parametrize("kind", [*CLASSES, "shape_mismatch"])
def test_each_failure_has_five_suggestions_in_five_categories(kind: str) -> None:
    told = Clue(f"{FAILURE}{kind}", f"the trial ended ({kind})", None, "")
    line = Clue("failure.line", "it failed at line 12 of network.py", 12.0, "line")
    found = made(told, line, mode="failure", of=proposal(CONTEXT, SQUEEZE))
    assert sorted(one.category for one in found.suggestions) == sorted(CATEGORIES)
    assert of(found, "gap").clues
    assert all(one.expected for one in found.suggestions)
    code = of(found, "code")
    assert told.key in code.clues
    assert "line 12" in code.text
    assert OF_CODE.get(kind, OF_CODE["exception"]) in code.text


def test_every_class_of_failure_has_words_of_its_own() -> None:
    assert OF_CODE.keys() == CLASSES.keys()
    assert KINDS.keys() <= CLASSES.keys()
    assert len(set(OF_CODE.values())) == len(OF_CODE)


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("syntax", "code"),
        ("exception", "code"),
        ("diverged", "optimisation"),
        ("idle_module", "gap"),
        ("out_of_memory", "capacity"),
        ("timed_out", "capacity"),
        ("worker_died", "code"),
    ],
)
def test_what_comes_first_depends_on_the_failure(kind: str, first: str) -> None:
    found = made(Clue(f"{FAILURE}{kind}", "told", None, ""), mode="failure")
    assert found.suggestions[0].category == first


def test_a_missing_part_comes_before_all_else_after_a_failure() -> None:
    told = Clue(f"{FAILURE}exception", "told", None, "")
    found = made(told, mode="failure", source="def build_network(a, b, c):\n    return None\n")
    assert found.suggestions[0].category == "gap"
    assert found.suggestions[0].clues == ("gap.LinearAttention",)


def test_out_of_memory_is_answered_by_a_cheaper_network() -> None:
    large = Module("scale_aggregation", "skip", (0, 1))
    told = Clue(f"{FAILURE}out_of_memory", "told", None, "")
    first = made(told, mode="failure", of=proposal(large)).suggestions[0]
    assert first.modules is not None
    assert min(first.modules[0].stages, default=STAGES) > 0


def test_missed_small_parts_ask_for_finer_stages_and_heads() -> None:
    found = made(LOST, clue("objects.missed.small", 9.0, 2.0))
    assert found.suggestions[0].category == "architecture"
    gates = found.suggestions[0]
    assert components(gates) == {"linear_attention", "attention_gate"}
    assert gates.clues == ("objects.missed.small",)
    assert "missed small parts" in gates.expected
    assert "fine_supervision" in components(of(found, "optimisation"))


def test_errors_at_the_border_ask_for_the_border() -> None:
    nsd, dice = clue("class.spleen.nsd", -0.04, 0.01), clue("class.spleen.delta", 0.0, 0.01)
    first = made(LOST, nsd, dice).suggestions[0]
    assert "boundary_enhancement" in components(first)
    assert "NSD" in first.expected
    assert "class spleen" in first.expected
    assert set(first.clues) == {nsd.key, dice.key}


def test_a_border_is_no_excuse_where_dice_falls_as_well() -> None:
    nsd, dice = clue("class.spleen.nsd", -0.04, 0.01), clue("class.spleen.delta", -0.04, 0.01)
    found = made(LOST, nsd, dice)
    assert "boundary_enhancement" not in str(of(found, "architecture").modules)


def test_spurious_parts_and_large_cases_have_their_own_answers() -> None:
    gate = made(LOST, clue("objects.spurious", 5.0, 1.0)).suggestions[0]
    assert "attention_gate" in components(gate)
    large = (clue("case.contrast", 0.03, 0.01), clue("case.large", -0.03, 0.01))
    wide = made(LOST, *large, of=proposal(SQUEEZE)).suggestions[0]
    assert components(wide) == {"squeeze_excitation", "linear_attention"}


def test_a_loss_alike_in_all_cases_is_no_loss_of_small_ones() -> None:
    same = [clue(f"case.{name}", -0.03, 0.005) for name in ("small", "middle", "large")]
    found = made(LOST, *same, clue("case.contrast", 0.0, 0.007))
    assert all("small structures" not in one.text for one in found.suggestions)


def test_costs_without_a_gain_ask_for_less() -> None:
    of_two = proposal(CONTEXT, Module("scale_aggregation", "skip", (0, 1)))
    found = made(LOST, clue("cost.flops", 2.5), clue("cost.parameters", 1.0), of=of_two)
    first = found.suggestions[0]
    assert first.category == "capacity"
    assert "cost.flops" in first.clues
    assert first.modules is not None
    assert min(first.modules[1].stages) > 0


def test_a_loss_below_the_baselines_without_a_gain_speaks_of_overfitting() -> None:
    found = made(LOST, clue("curve.final", -0.05, 0.01))
    assert "training cases alone" in of(found, "capacity").text


def test_a_loss_above_the_baselines_asks_for_capacity_and_for_even_heads() -> None:
    found = made(LOST, clue("curve.final", 0.05, 0.01), clue("cost.parameters", 1.0))
    assert "residual_encoder" in components(of(found, "capacity"))
    assert "even_supervision" in components(of(found, "optimisation"))


def test_a_loss_that_still_falls_asks_for_fewer_parameters() -> None:
    found = made(LOST, clue("curve.steeper", -0.05, 0.005), clue("curve.slope", -0.06, 0.005))
    assert "still falls" in of(found, "capacity").text


def test_noise_and_unused_parameters_are_answered() -> None:
    found = made(LOST, clue("curve.noise", 2.0), clue("dry.unused", 3.0))
    assert "Normalise" in of(found, "optimisation").text
    assert of(found, "code").clues == ("dry.unused",)


def test_a_module_that_ablation_finds_harmful_goes() -> None:
    both = proposal(CONTEXT, SQUEEZE)
    found = made(LOST, clue("ablation.squeeze_excitation", -0.02, 0.004), of=both)
    assert found.suggestions[0].modules == (CONTEXT,)


def test_a_change_that_did_harm_is_taken_elsewhere() -> None:
    parent = proposal(SQUEEZE, name="before")
    child = proposal(SQUEEZE, CONTEXT, parent="before")
    found = made(LOST, clue("parent.change", -0.02, 0.004), of=child, tried=(parent,))
    first = found.suggestions[0]
    assert first.modules is not None
    assert first.modules[0] == SQUEEZE
    assert first.modules[1].component == "linear_attention"
    assert first.modules[1] != CONTEXT


def test_classes_predicted_too_small_or_missed_point_at_the_code() -> None:
    volumes = [clue(f"class.{name}.volume_change", -0.2, 0.01) for name in ("a", "b")]
    assert "smaller than by the baseline" in of(made(LOST, *volumes), "code").text
    whole = of(made(LOST, clue("class.a.missed_whole", 3.0)), "code")
    assert "missed whole" in whole.text
    assert whole.clues == ("class.a.missed_whole",)


def test_what_was_tried_already_comes_last() -> None:
    seen = clue("objects.missed.small", 9.0, 2.0)
    names = ("attention_gate", "block_attention", "blur_pool", "scale_aggregation")
    tried = tuple(
        proposal(CONTEXT, place, name=f"{name}{number}")
        for name in names
        for number, place in enumerate(placements(name, dims=DIMS, n_stages=STAGES))
    )
    before, after = made(LOST, seen), made(LOST, seen, tried=tried)
    first = before.suggestions[0]
    assert first.modules in {one.modules for one in tried}
    sets = {frozenset(one.modules) for one in tried}
    flags = [frozenset(one.modules or ()) in sets for one in after.suggestions]
    assert flags == sorted(flags)
    assert of(after, "architecture").modules not in {one.modules for one in tried}


def test_no_two_suggestions_lead_to_the_same_network() -> None:
    told = Clue(f"{FAILURE}exception", "told", None, "")
    for name in COMPONENTS:
        for place in placements(name, dims=DIMS, n_stages=STAGES)[:1]:
            one = proposal(place, SQUEEZE) if name != "squeeze_excitation" else proposal(place)
            for mode, clues in (("loss", LOST), ("failure", told)):
                found = made(clues, mode=mode, of=one)
                sets = [frozenset(s.modules) for s in found.suggestions if s.modules]
                assert len(sets) == len(set(sets))


def test_a_best_network_is_audited() -> None:
    whole = made(clue("overall.delta", 0.02, 0.004), mode="best")
    [only] = whole.suggestions
    assert only.category == "architecture"
    assert only.modules is not None
    both = proposal(CONTEXT, SQUEEZE)
    found = made(LOST, mode="best", of=both, source=network_source(ONE))
    assert [one.category for one in found.suggestions] == ["gap", "architecture"]
    assert found.suggestions[0].text.startswith("Add SqueezeExcitation")
    states = {one.key: one.value for one in found.clues if one.key.startswith("gap.")}
    assert states["gap.LinearAttention"] == 1.0
    assert states["gap.SqueezeExcitation"] == 0.0


def test_a_best_network_names_missing_parts_before_simplified_ones() -> None:
    built = Clue("dry.instances.SqueezeExcitation", "it is built once", 1.0, "places")
    three = proposal(SQUEEZE, CONTEXT)
    found = made(built, mode="best", of=three, source=network_source(proposal(SQUEEZE)))
    assert [one.clues[0] for one in found.suggestions[:2]] == [
        "gap.LinearAttention",
        "gap.SqueezeExcitation",
    ]


def test_custom_classes_of_a_language_model_are_no_obstacle() -> None:
    custom = proposal(Module("WaveMixer", "bottleneck", ()), SQUEEZE)
    source = network_source(proposal(SQUEEZE))
    found = diagnose("t", [LOST], custom, mode="loss", source=source, dims=2, n_stages=4, tried=())
    assert faults(found) == []
    assert found.suggestions[0].category == "gap"
    assert "WaveMixer" in found.suggestions[0].text


def test_an_empty_proposal_and_no_clue_still_give_five() -> None:
    for mode in ("loss", "failure"):
        found = made(of=proposal(), mode=mode)
        assert len(found.suggestions) == 5


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(PlannerError, match="mode"):
        suggest([], ONE, mode="win", source="", dims=2, n_stages=4, tried=())


VALUES = st.floats(-1, 1, allow_nan=False)
KEYS = st.sampled_from(
    [
        *("overall.delta", "overall.nsd", "case.small", "case.large", "case.contrast"),
        *("class.a.delta", "class.a.nsd", "class.b.delta", "class.a.volume_change"),
        *("objects.missed.small", "objects.missed.large", "objects.spurious", "parent.change"),
        *("curve.final", "curve.slope", "curve.steeper", "curve.noise", "cost.flops"),
        *("dry.unused", "failure.line", "class.a.missed_whole", f"{FAILURE}diverged"),
    ]
)
MODULES = st.sampled_from(sorted(COMPONENTS)).flatmap(
    lambda name: st.sampled_from(placements(name, dims=DIMS, n_stages=STAGES))
)


@given(
    found=st.dictionaries(KEYS, st.tuples(VALUES, st.none() | st.floats(0, 0.5)), max_size=12),
    modules=st.lists(MODULES, max_size=3, unique_by=lambda m: m.component),
    mode=st.sampled_from(["loss", "failure", "best"]),
    source=st.sampled_from(["", "x = (", "def build_network(a, b, c):\n    return 1\n"]),
)
def test_any_clues_give_a_diagnosis_that_can_be_kept(
    found: dict[str, tuple[float, float | None]], modules: list[Module], mode: str, source: str
) -> None:
    if problems(modules, dims=DIMS, n_stages=STAGES):
        return
    one = proposal(*modules)
    clues = [clue(key, *numbers) for key, numbers in found.items()]
    first = made(*clues, mode=mode, of=one, source=source)
    assert first == made(*clues, mode=mode, of=one, source=source)
    if mode != "best":
        assert sorted(s.category for s in first.suggestions) == sorted(CATEGORIES)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with diagnosed.make(tmp_path) as opened:
        yield opened


def missing_small(label: Array, _: int) -> Array:
    label[SMALL] = 0
    return label


def test_a_diagnosis_of_a_real_trial_is_kept_once(store: Store, tmp_path: Path) -> None:
    trial = add(store, tmp_path, "trial", drawn=missing_small)
    child = store.proposal("child")
    found = diagnose(
        trial.id,
        gather(store, tmp_path, trial),
        child,
        mode="loss",
        source=network_source(child),
        dims=3,
        n_stages=4,
        tried=store.proposals(),
    )
    first = keep(store, found, 5.0)
    assert keep(store, replace(found, by="somebody"), 6.0) == first
    [event] = store.events(kind="diagnosis")
    assert (event.id, event.trial, event.branch, event.at) == (first, "trial", "b", 5.0)
    assert parse(event.figures) == found
    assert "did not gain" in event.text
    assert any("objects.missed.small" in one.clues for one in found.suggestions)


def test_what_breaks_a_rule_or_has_no_trial_is_not_kept(store: Store) -> None:
    found = made(LOST)
    with pytest.raises(StoreError, match="no trial"):
        keep(store, found, 1.0)
    with pytest.raises(PlannerError, match="cannot be kept"):
        keep(store, replace(found, suggestions=()), 1.0)
    assert store.events(kind="diagnosis") == []


def carried_out(store: Store, name: str, category: str, parent: str = "parent") -> None:
    detail = {"suggestion": {"event": 1, "number": 0, "category": category}}
    store.add_proposal(Proposal(name, name, "m", (), "r", (), "grammar", parent, detail))


def test_payoff_compares_children_with_their_parents(store: Store, tmp_path: Path) -> None:
    add(
        store,
        tmp_path,
        "parent0",
        Kind.DRAFT,
        proposal="parent",
        commit="1" * 40,
        drawn=diagnosed.shaved(3),
    )
    for number, shaved in enumerate((0, 2)):
        name = f"good{number}"
        carried_out(store, name, "architecture")
        own: dict[str, Any] = {"proposal": name, "commit": f"{number + 2:040d}"}
        add(store, tmp_path, name, drawn=diagnosed.shaved(shaved), seed=20 + number, **own)
    carried_out(store, "bad", "capacity")
    diagnosed.plan(store, "bad", proposal="bad", commit="9" * 40)
    store.record_result("bad", changes={"status": Status.OUT_OF_MEMORY}, scores=[])
    carried_out(store, "waiting", "capacity")
    carried_out(store, "odd", "luck")
    rows = {row.category: row for row in payoff(store)}
    assert tuple(rows) == CATEGORIES
    standings = Standings(store)

    def delta(name: str) -> float:
        evidence = standings.evidence(store.trial(name))
        assert evidence is not None
        return evidence.delta

    gains = [delta(f"good{number}") - delta("parent0") for number in range(2)]
    paid = rows["architecture"]
    assert (paid.carried, paid.scored, paid.failures) == (2, 2, 0)
    assert paid.mean == pytest.approx(sum(gains) / 2)
    assert paid.mean is not None
    assert paid.mean > 0
    assert paid.se == pytest.approx(abs(gains[0] - gains[1]) / 2)
    assert rows["capacity"][1:] == (0, 2, 0, None, None, 1)
    assert rows["gap"][1:] == (0, 0, 0, None, None, 0)


def test_payoff_counts_what_was_offered_and_reads_no_other_rung(
    store: Store, tmp_path: Path
) -> None:
    trial = add(store, tmp_path, "trial", Kind.DRAFT, proposal="parent", commit="1" * 40)
    found = replace(made(LOST), trial=trial.id)
    keep(store, found, 1.0)
    carried_out(store, "higher", "gap")
    add(store, tmp_path, "higher", proposal="higher", commit="2" * 40, rung=1)
    rows = {row.category: row for row in payoff(store)}
    assert {row.offered for row in rows.values()} == {1}
    assert rows["gap"][2:] == (1, 0, None, None, 0)


def test_a_scripted_campaign_is_diagnosed_from_end_to_end(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path)
    executor = ScriptedExecutor(folder, gain=lambda _: -0.05, fails=lambda count: count == 8)
    session = session_of(folder, executor, budget=BudgetConfig(trials=9))
    drive(session, lambda *_: None)
    seen = set()
    with Store.open(folder / "campaign.db") as opened:
        tried = opened.proposals()
        for trial in [t for t in opened.trials() if t.kind in SEARCH and t.status.is_final]:
            if trial.status is Status.CANCELLED or trial.proposal is None or trial.commit is None:
                continue
            mode = "loss" if trial.status is Status.OK else "failure"
            found = diagnose(
                trial.id,
                gather(opened, folder, trial),
                opened.proposal(trial.proposal),
                mode=mode,
                source=session.networks().source(trial.commit),
                dims=2,
                n_stages=3,
                tried=tried,
            )
            keep(opened, found, 1.0)
            seen.add(mode)
            volumes = [one for one in found.clues if one.key == "class.block.volume"]
            assert bool(volumes) == (mode == "loss")
        assert seen == {"loss", "failure"}
        assert all(row.carried == 0 for row in payoff(opened))
