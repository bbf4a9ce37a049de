"""Any event of a campaign in three lines: real decisions of every policy, and hostile figures."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.branches import Node, grown
from agent.checkpoints import events_of
from agent.decision_state import event_of
from agent.early_stop import judge
from agent.evidence import Evidence
from agent.ladder import Settings
from agent.memory_ladder import ladder_events
from agent.policies import POLICIES, decide
from agent.search_tree import Decision, Tree
from agent.told import Known, Names
from agent.trials import dry_run_event
from agent.why import DECISIONS, OTHERS, explain
from agent.wording import chance, chance_below, duration, ordinal, points, rounded
from bench.worlds import SCENARIOS, Play
from memory.records import Event, Kind, SplitName, Status, Trial
from memory.results import result_event
from sandbox.clean import clean_text
from sandbox.dry_run import Dry, Verdict

ONE, TWO, THREE = "a1b2c3d4e5f6", "b7c8d9e0f1a2", "c3d4e5f6a7b8"
NAMES = Names(
    {
        ONE: Known("Residual encoder", "shape_mismatch"),
        TWO: Known("Attention gates"),
        THREE: Known("Nested skips"),
    },
    branch="Blur pool",
    iterations=(60, 240),
    started=THREE,
)
# The figures are those of real decisions, cut down to what is said.
GOLDEN: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("why_golden.json").read_text()
)
TITLES = (
    "Attention gates (skip 0-1) + linear attention",
    "Nested skips (skip 1) + anti-aliased downsampling (downsample 1-3)",
    "Residual encoder (encoder 0-3)",
)
FALLBACKS = ("Stored with it", "Nothing more was stored", "This version knows", "No figures were")
ACTIONS = ("open", "improve", "crossover", "promote", "repeat", "cut", "repair", "confirm", "wait")
ROOMY = Evidence(0.002, 0.004, 0.003, 0.005, 0.6, 40)


def golden(name: str) -> Event:
    """Return a golden event as the store gives it back."""
    row = GOLDEN[name]
    return Event(row["kind"], row["text"], row["figures"], row["trial"], "b", 0.0, row["event"])


def readable(lines: Iterable[str]) -> None:
    """Check what holds of every explanation."""
    found = list(lines)
    assert len(found) == 3
    for line in found:
        assert line.strip() == line
        assert 1 < len(line) < 160
        assert clean_text(line) == line
        assert "\n" not in line
        assert not re.search(r"\b(nan|inf)\b", line)


class Timed(Play):
    """A play whose trainings of the last rung take ten minutes."""

    def prepare(self) -> Tree:
        return replace(super().prepare(), cost_s=(75.0, 600.0))

    def train(self, node: Node) -> tuple[Status, float]:
        status, cost = super().train(node)
        return status, 600 * cost


@dataclass
class Seen:
    """The decisions of plays as stored events, with the names that were known."""

    found: list[tuple[Event, Names]] = field(default_factory=list)

    def watch(self, policy: str, seed: int) -> None:
        play = Timed(
            world=SCENARIOS["default"],
            seed=seed,
            budget=20 * 600.0,
            policy=policy,
            settings=Settings(),
            slots=2,
        )

        def take(tree: Tree, step: int, made: Decision) -> None:
            trials = {name: Known(TITLES[int(name[1:]) % 3]) for name in play.networks}
            self.found.append((stored(made, step), Names(trials, TITLES[0], (60, 240))))

        play.watch = take
        play.run()


def stored(made: Decision, number: int) -> Event:
    """Return a decision as the store gives it back: through JSON, with a number."""
    event = replace(event_of(made, 0.0), id=number + 1)
    return replace(event, figures=json.loads(json.dumps(event.figures)))


@pytest.fixture(scope="module")
def played() -> dict[str, list[tuple[Event, Names]]]:
    found = {}
    for policy in POLICIES:
        own = Seen()
        for seed in range(3):
            own.watch(policy, seed)
        found[policy] = own.found
    return found


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_lines(name: str) -> None:
    lines = GOLDEN[name]["lines"]
    assert list(explain(golden(name), NAMES)) == lines
    readable(lines)


def test_every_kind_has_golden_lines_or_a_real_maker() -> None:
    made_here = {"dry_run", "trial_result", "checkpoint", "memory_ladder"}
    assert {row["kind"] for row in GOLDEN.values()} | made_here >= {*DECISIONS, *OTHERS}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_real_decision_is_told_in_full(
    policy: str, played: dict[str, list[tuple[Event, Names]]]
) -> None:
    assert played[policy]
    for event, names in played[policy]:
        lines = explain(event, names)
        readable(lines)
        assert not any(line.endswith("…") for line in lines), lines
        assert not any(line.startswith(FALLBACKS) for line in lines), lines


def test_the_plays_hold_every_action(played: dict[str, list[tuple[Event, Names]]]) -> None:
    assert {event.kind for event, _ in played["qwbe"]} >= set(ACTIONS)
    reasons = {e.figures.get("reason") for own in played.values() for e, _ in own}
    assert reasons >= {"chance", "failed"}


def test_a_real_cut_says_its_own_figures(played: dict[str, list[tuple[Event, Names]]]) -> None:
    cuts = [(e, n) for e, n in played["qwbe"] if e.figures.get("reason") == "chance"]
    assert len(cuts) > 10
    for event, names in cuts:
        _, line, level = explain(event, names)
        own = event.figures
        assert points(own["posterior_mean"]) in line or "level with" in line
        assert line.endswith(f"was {chance_below(own['p_ever'], own['cut_below'])}.")
        assert f"below {chance(own['cut_below'])};" in level
        against = own["against"]
        assert ("the baseline by" in line) == (against == "baseline")
        assert against == "baseline" or f"({against[:6]})" in line


def test_a_real_choice_names_what_came_next(played: dict[str, list[tuple[Event, Names]]]) -> None:
    chosen = [(e, n) for e, n in played["qwbe"] if e.kind == "improve" and "arms" in e.figures]
    assert chosen
    for event, names in chosen:
        rest = [row for row in event.figures["arms"] if not row["chosen"]]
        best = max(rest, key=lambda row: float(row["score"]))
        line = explain(event, names)[2]
        assert f"{best['score']:.2f}" in line
        assert "a new idea" in line if best["node"] is None else f"({best['node']})" in line


def test_a_real_cross_names_both(played: dict[str, list[tuple[Event, Names]]]) -> None:
    crossed = [(e, n) for e, n in played["qwbe"] if e.kind == "crossover"]
    assert crossed
    for event, names in crossed:
        line = explain(event, names)[0]
        assert all(f"({one})" in line for one in (event.trial, event.figures["partner"]))


def test_a_smaller_batch_as_decided() -> None:
    full = Node("n1", None, "b", 1, Status.OUT_OF_MEMORY)
    fits = [Node(f"n{i}", None, f"c{i}", 0, Status.OK, ROOMY, cost_s=60.0) for i in (2, 3)]
    tree = Tree(
        branches=grown([full, *fits]),
        baseline_mean=(0.7, 0.8),
        cost_s=(60.0, 240.0),
        batch_size=8,
        cut_below=0.0,
    )
    made = decide(tree, Random(0), settings=Settings())
    assert made.action == "smaller_batch"
    names = Names({"n1": Known("Wide U-Net", "out_of_memory")}, "Wide U-Net", (60, 240))
    assert explain(stored(made, 4), names) == (
        'Event 5: decided to train "Wide U-Net" (n1) again with batches of 4 instead of 8, at '
        "rung 1 (240 iterations).",
        "It found no room in memory with batches of 8; 8 were planned.",
        "The baseline is trained with the same batches, to keep the comparison fair; that takes "
        "up to 16 minutes.",
    )


def trial(**changes: Any) -> Trial:
    """Return a trial whose title is known."""
    choices = (None, "b", None, "c" * 40, Kind.DRAFT, 1, 1, SplitName.SEARCH_VAL)
    return replace(Trial(ONE, *choices), **{"iterations": 240, **changes})


def test_a_checkpoint_and_its_cut() -> None:
    cases = [f"case{i:02}" for i in range(20)]
    base = {
        seed: {case: 0.8 + 0.001 * seed + 0.002 * (i % 3) for i, case in enumerate(cases)}
        for seed in range(3)
    }
    own = {case: 0.75 + 0.003 * (i % 4) for i, case in enumerate(cases)}
    verdict = judge(own, base, bar=0.0, margin=0.005, cut_below=0.05, link_sd=0.01)
    found = {"iteration": 120, "case_means": own}
    looked, cut = events_of(trial(), found, verdict, at=1.0)
    assert explain(looked, NAMES)[0] == (
        'Looked at "Residual encoder" (a1b2c3) of branch "Blur pool" at iteration 120 of 240.'
    )
    assert explain(looked, NAMES)[2] == (
        "The training stopped: it stops where that chance is below 1 in 20."
    )
    assert explain(looked, NAMES)[1] == explain(cut, NAMES)[1]
    assert (
        "points of Dice below the baseline; its chance to end more than 0.5 above it was"
        in (explain(cut, NAMES)[1])
    )
    assert (
        explain(cut, NAMES)[2] == "Trainings stop below 1 in 20; this one saved 50 % of its time."
    )
    kept = events_of(trial(), found, None, at=1.0)[0]
    assert explain(kept, NAMES)[2] == "The training went on."
    broken = events_of(trial(), {"iteration": 120, "failed": "no predictions"}, None, at=1.0)[0]
    assert explain(broken, NAMES)[1] == 'It could not be scored there: "no predictions".'


def test_the_ladder_under_an_out_of_memory() -> None:
    excerpt = {"failure_class": "out_of_memory", "failure_excerpt": "tried to allocate 2 GiB"}
    setup = {"checkpointing": True, "attempts": [{"checkpointing": False, **excerpt}]}
    result = {"status": Status.OUT_OF_MEMORY, "setup": setup, **excerpt}
    first, second, end = ladder_events(trial(), result, planned=8, at=1.0)
    assert explain(first, NAMES) == (
        '"Residual encoder" (a1b2c3) found no room in memory as it is, with batches of 8.',
        'It said: "tried to allocate 2 GiB".',
        "Next it is tried with activation checkpointing: the same result in less memory.",
    )
    assert "even with activation checkpointing" in explain(second, NAMES)[0]
    assert explain(end, NAMES)[2] == (
        "Next come batches of 4, and a baseline with the same to compare it with."
    )


def test_a_dry_run() -> None:
    good = (Verdict("static", True, {}, 0.5), Verdict("build", True, {}, 1.5))
    bad = Verdict("patch", False, {}, 1.0, "shape_mismatch", "24 and 23")
    passed = dry_run_event(trial(), Dry("", "", 1, 1, 0.1, 1.0, good), at=1.0)
    assert explain(passed, NAMES) == (
        '"Residual encoder" (a1b2c3) passed its dry run.',
        "It passed 2 checks: static, build.",
        "Only what passes is trained; all checks together took 2 s.",
    )
    dry = Dry("shape_mismatch", "24 and 23", None, None, None, None, (*good, bad))
    failed = dry_run_event(trial(), dry, at=1.0)
    assert explain(failed, NAMES)[:2] == (
        '"Residual encoder" (a1b2c3) failed its dry run: shape mismatch.',
        '2 checks passed, then patch failed: "24 and 23".',
    )


def test_results() -> None:
    done = result_event(trial(status=Status.OK, seconds=720.0), 120)
    assert explain(done, NAMES)[:2] == (
        '"Residual encoder" (a1b2c3) ended: scores are in.',
        "It took 12 minutes and has 120 scores.",
    )
    lost = trial(status=Status.OUT_OF_MEMORY, failure_class="gpu_memory", seconds=30.0)
    assert explain(result_event(lost, 0), NAMES)[:2] == (
        '"Residual encoder" (a1b2c3) ended: out of memory.',
        "It took less than a minute without scores: gpu memory.",
    )


FIGURES = sorted({name for row in GOLDEN.values() for name in row["figures"]} | {"verdict"})
LETTERS = "ab_ \n\t\x1b\u202e\u2028\ud800…\"'[;数"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([ONE, TWO, "baseline", "chance", "checkpoint", "ok", "\x1b[2J\u202e"]),
    st.text(LETTERS, max_size=300),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*FIGURES, "score", "reach", "node", "step"]), inner),
    ),
    max_leaves=12,
)


@given(
    kind=st.one_of(st.sampled_from([*DECISIONS, *OTHERS]), st.text(LETTERS, max_size=200)),
    text=st.text(LETTERS, max_size=400),
    figures=st.dictionaries(st.sampled_from(FIGURES), VALUES),
    about=st.sampled_from([None, ONE, "unknown", "\x1b]0;x\x07" * 50]),
    title=st.text(LETTERS, max_size=300),
    iterations=st.lists(st.integers(), max_size=3),
)
def test_three_lines_whatever_is_stored(
    kind: str,
    text: str,
    figures: dict[str, Any],
    about: str | None,
    title: str,
    iterations: list[int],
) -> None:
    names = Names({ONE: Known(title, title)}, title, iterations, ONE)
    found = explain(Event(kind, text, figures, about, None, 0.0, 3), names)
    readable(found)


@given(st.sampled_from(sorted(GOLDEN)), st.data())
def test_a_figure_of_another_version_costs_a_line_at_most(name: str, data: st.DataObject) -> None:
    event, whole = golden(name), GOLDEN[name]["lines"]
    gone = data.draw(st.sets(st.sampled_from(sorted(event.figures) or [""])))
    kept = {key: value for key, value in event.figures.items() if key not in gone}
    lines = explain(replace(event, figures=kept), NAMES)
    readable(lines)
    assert gone or list(lines) == whole


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0, "under 1 in 1000"),
        (0.0012, "1 in 830"),
        (0.05, "1 in 20"),
        (0.1, "1 in 10"),
        (0.37, "37 %"),
        (0.95, "95 %"),
        (1.0, "more than 99 %"),
    ],
)
def test_chances(p: float, words: str) -> None:
    assert chance(p) == words


def test_what_is_below_a_level_never_reads_like_it() -> None:
    assert chance_below(0.0499, 0.05) == "just under 1 in 20"
    assert chance_below(0.01, 0.05) == "1 in 100"


def test_other_words() -> None:
    assert [points(x) for x in (0.006, -0.0123, 0.0004)] == [
        "0.6 points of Dice",
        "1.2 points of Dice",
        "0.04 points of Dice",
    ]
    assert [duration(s) for s in (20, 60, 700, 12000)] == [
        "less than a minute",
        "1 minute",
        "12 minutes",
        "3.3 hours",
    ]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 22)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "22nd",
    ]
    assert [rounded(x) for x in (12.4, 99.6, 847.0)] == [12, 100, 850]
