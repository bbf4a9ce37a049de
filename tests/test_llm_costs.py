"""Costs of language models: sums agree, unknown is never 0, and every figure leads to its calls."""

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agent.check import check_campaign
from agent.cli import main
from agent.evidence import Evidence
from agent.llm_costs import (
    Made,
    Maker,
    Outcome,
    Usage,
    by_proposal,
    by_role,
    by_trial,
    outcome,
    per_usd,
    shares,
    tokens_text,
    usage,
    usd_text,
)
from agent.llm_view import usage_line
from agent.report import write_report
from agent.report_rows import read_rows
from memory.networks import Networks
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Event,
    Fact,
    Kind,
    LlmCall,
    Metric,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    Trial,
    short_id,
    trial_id,
)
from memory.store import Store
from sandbox.fingerprints import predictions_hash, text_hash
from sandbox.split import split_hash

HOSTILE = "<b>m</b> & \\input{x}"
LOST = "connection refused \x1b[31m<script>\nat 10:00 & \\input{y}" + "!" * 500
SOURCE = "def build_network(in_channels, num_classes, spec):\n    ...\n"
CALL = LlmCall("c", "generator", "m", "h", "p", "r", 100, 10, 0.5, 2.0, endpoint="fast")
PARTS = {SplitName.SEARCH_TRAIN: 4, SplitName.SEARCH_VAL: 6, SplitName.LOCKED_TEST: 3}
GAINS = {"p-fast": 0.03, "p-slow": -0.01, "p-own": 0.02}
CONFIG = {
    "name": "fixture",
    "split": {"seed": 1},
    "explore": {"policy": "qwbe", "seed": 1},
    "budget": {"hours": 0.5, "gpu_hours": 0.0, "usd": 0.0, "trials": 0},
}
TOLD = ("lost its language model", "answered again", "went on without a language model")


def call(name: str, scope: str, who: tuple[str, str, str], **changes: Any) -> LlmCall:
    role, endpoint, model = who
    own: dict[str, Any] = {"role": role, "endpoint": endpoint, "model": model, "scope": scope}
    return replace(CALL, id=name, **{**own, **changes})


def made_calls() -> list[LlmCall]:
    fast, slow = ("generator", "fast", HOSTILE), ("generator", "slow", "big")
    failed = {"reply": None, "tokens_in": None, "tokens_out": None, "seconds": None}
    return [
        call("c1", "decision/1", fast, price_usd=0.01),
        call("c2", "decision/1", slow, price_usd=None),
        call("c3", "decision/1", ("coder", "fast", HOSTILE), price_usd=0.03, tokens_out=1000),
        call("c4", "decision/2", fast, price_usd=0.0, error="timed out", **failed),
        call("c5", "decision/2", fast, price_usd=0.02),
        call("c6", "decision/3", slow, price_usd=None),
        call("c7", "decision/3", ("coder", "slow", "big"), price_usd=0.0, is_cached=True),
        call("c8", "decision/5", fast, price_usd=0.002),
        call("c9", "trial/T", ("diagnostician", "fast", HOSTILE), price_usd=0.04),
        call("c10", "campaign", slow, price_usd=None, tokens_in=None, tokens_out=None),
    ]


class Built:
    """A finished campaign that `check` finds sound: four ideas, their trainings, ten calls."""

    def __init__(self, folder: Path, *, calls: bool = True, told: bool = True) -> None:
        """Build it in a folder that does not exist yet."""
        (folder / "report").mkdir(parents=True)
        self.folder, self.trials = folder, dict[str, Trial]()
        self.networks = Networks.create(folder / "networks")
        cases = [
            SplitCase(
                f"{part[:2]}{part[7:]}{n}", f"p{part}{n}", part, 9.0, f"{n:064x}", f"{n:064x}"
            )
            for part, count in PARTS.items()
            for n in range(count)
        ]
        dataset = {"name": "Demo", "labels": {"organ": 1}, "channels": ["T1"], "dims": 2}
        row = Campaign(
            *("c", "fixture", 1.5e9, "0.1", CONFIG, dataset, "d" * 64, split_hash(cases)), {}
        )
        with Store.create(folder / "campaign.db", row) as self.store:
            self.store.add_split(cases)
            budget = {"hours": 1.0, "gpu_hours": 0.0, "usd": 0.0, "trials": 0}
            self.store.add_event(Event("started", "started", {"budget": budget}, at=1.5e9))
            for seed in range(3):
                self.train(None, seed=seed)
            for proposal in GAINS:
                self.idea(proposal)
                self.train(proposal)
            self.idea("p-bad")
            self.train("p-bad", status=Status.REJECTED)
            if calls:
                self.ask()
            if told:
                self.tell()
            self.store.set_state("done")
            self.store.add_event(Event("done", "the campaign is done", {}, at=1.5e9 + 900))

    def idea(self, name: str) -> None:
        """Add a proposal and its branch; one names no endpoint, one carries out a suggestion."""
        by = {"p-fast": ("fast", HOSTILE), "p-bad": ("fast", HOSTILE), "p-slow": ("slow", "big")}
        detail: dict[str, Any] = dict(zip(("endpoint", "model"), by.get(name, ()), strict=False))
        planner, parent = "llm" if detail else "grammar", None
        if name == "p-slow":
            parent, detail["suggestion"] = "p-fast", {"number": 0, "category": "capacity"}
        self.store.add_proposal(
            Proposal(name, f"Idea {name}", "because", (), "no gain", (), planner, parent, detail)
        )
        self.store.add_branch(Branch(short_id(name), name, "open", 1.5e9))

    def train(self, proposal: str | None, *, seed: int = 7, status: Status = Status.OK) -> None:
        """Add a training and its files; a network has its gain over the baselines' mean."""
        commit = None
        if proposal:
            commit = self.networks.commit(
                SOURCE, branch=short_id(proposal), message="m", trailers={"Proposal-Id": proposal}
            )
        trial = Trial(
            id="",
            parent=None,
            branch=short_id(proposal) if proposal else None,
            proposal=proposal,
            commit=commit,
            kind=Kind.DRAFT if proposal else Kind.BASELINE,
            rung=0,
            seed=seed,
            split=SplitName.SEARCH_VAL,
            title=proposal or "nnU-Net default",
            iterations=10,
            network_hash=text_hash(SOURCE) if commit else None,
        )
        trial = replace(trial, id=trial_id(trial))
        self.store.add_trial(trial)
        self.trials[proposal or f"baseline{seed}"] = trial
        place = self.folder / "trials" / trial.id
        (place / "predictions").mkdir(parents=True)
        known = predictions_hash(place / "predictions")
        gain = GAINS.get(proposal or "", 0.01 * (seed - 1))
        scores = self.scores(trial.id, gain) if status is Status.OK else []
        rows = [[s.case, s.label, s.metric, s.value, s.reason] for s in scores]
        result = {"status": status, "predictions_hash": known, "scores": rows}
        (place / "result.json").write_text(json.dumps(result))
        changes = {"status": status, "predictions_hash": known, "seconds": 3.0, "ended_at": 1.5e9}
        self.store.record_result(trial.id, changes=changes, scores=scores)

    def scores(self, trial: str, gain: float) -> list[CaseScore]:
        """Return scores whose mean over the baseline's three seeds is the same with gain 0."""
        return [
            CaseScore(trial, case.case, "organ", metric, 0.5 + 0.01 * place + gain)
            for place, case in enumerate(self.store.split(SplitName.SEARCH_VAL))
            for metric in (Metric.DICE, Metric.NSD)
        ] + [
            CaseScore(trial, case.case, "organ", Metric.HD95, 2.0)
            for case in self.store.split(SplitName.SEARCH_VAL)
        ]

    def ask(self) -> None:
        """Add the calls, and what their decisions led to."""
        for number, proposal in enumerate(("p-fast", "p-bad", "p-slow"), 1):
            key = f"decision/{number}"
            self.store.set_effect(f"{key}/proposal", {"proposal": proposal})
            self.store.set_effect(f"{key}/trial", {"trial": self.trials[proposal].id})
        suggested = {"suggestions": [{"category": "capacity"}, {"category": "code"}]}
        self.store.add_event(Event("diagnosis", "diagnoses", suggested, at=1.5e9))
        for one in made_calls():
            scope = one.scope.replace("trial/T", f"trial/{self.trials['p-fast'].id}")
            self.store.add_llm_call(replace(one, scope=scope))

    def tell(self) -> None:
        """Add what a planner tells of a model that it lost."""
        for kind in ("planner_lost", "planner_back", "fell_back"):
            figures = {} if kind == "planner_back" else {"error": LOST}
            self.store.add_event(Event(kind, LOST, figures, at=1_500_000_100.0))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    made = Built(tmp_path_factory.mktemp("asked") / "c")
    write_report(made.folder)
    return made


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Built(tmp_path_factory.mktemp("silent") / "c", calls=False, told=False).folder
    write_report(folder)
    return folder


def facts_in(folder: Path) -> dict[str, Fact]:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return store.facts()


def status_json(folder: Path) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["status", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    loaded = json.loads(done.output)
    assert isinstance(loaded, dict)
    return loaded


def report_texts(folder: Path) -> tuple[str, str]:
    names = ("report.html", "manuscript.tex")
    html, tex = ((folder / "report" / name).read_text(encoding="utf-8") for name in names)
    return html, tex


def summed(rows: Sequence[Usage]) -> tuple[int, int, int, int, int, float]:
    return (
        sum(r.calls for r in rows),
        sum(r.failed for r in rows),
        sum(r.cached for r in rows),
        sum(r.tokens_in or 0 for r in rows),
        sum(r.unpriced for r in rows),
        round(sum(r.usd or 0.0 for r in rows), 9),
    )


MADE = {
    "decision/1": Made("p-fast", "T"),
    "decision/2": Made("p-bad", "U"),
    "decision/3": Made("p-slow", "V"),
    "decision/5": Made(None, None),
}


def test_a_usage_counts_failed_cached_and_unknown_apart() -> None:
    used = usage(made_calls())
    assert (used.calls, used.failed, used.cached) == (10, 1, 1)
    assert (used.unpriced, used.unmetered) == (3, 1)
    assert used.usd == pytest.approx(0.102)
    assert (used.tokens_in, used.tokens_out) == (800, 1070)
    assert used.seconds == pytest.approx(18.0)
    assert usd_text(used) == "at least 0.1020"
    assert tokens_text(used.tokens_in, used) == "at least 800"


def test_a_price_that_nobody_knows_is_unknown_and_never_0() -> None:
    failed = replace(CALL, id="f", price_usd=0.0, reply=None, error="refused")
    for calls in ([replace(CALL, price_usd=None)], [replace(CALL, price_usd=None), failed]):
        used = usage(calls)
        assert used.usd is None
        assert usd_text(used) == "unknown"
        assert usage_line(used).endswith("price unknown (1 call without a known price)")


def test_a_server_that_counts_no_tokens_is_told_so() -> None:
    used = usage([replace(CALL, tokens_in=None, tokens_out=None)])
    assert (used.tokens_in, used.tokens_out) == (None, None)
    assert tokens_text(used.tokens_in, used) == "unknown"


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.0, "0.00"), (12.3456, "12.35"), (0.5, "0.5000"), (0.01234, "0.0123"), (2.3e-5, "0.000023")],
)
def test_dollars_keep_two_digits_that_count(usd: float, text: str) -> None:
    assert usd_text(usage([replace(CALL, price_usd=usd)])) == text


SCOPES = (*MADE, "decision/9", "trial/T", "campaign", "")
CALLS = st.builds(
    LlmCall,
    id=st.uuids().map(str),
    role=st.sampled_from(("generator", "coder", HOSTILE, "")),
    model=st.sampled_from(("m", HOSTILE, "")),
    prompt_hash=st.just("h"),
    prompt=st.just("p"),
    reply=st.sampled_from(("r", None)),
    tokens_in=st.none() | st.integers(0, 10**6),
    tokens_out=st.none() | st.integers(0, 10**6),
    price_usd=st.none() | st.sampled_from((0.0, 0.25, 1.5)),
    seconds=st.none() | st.floats(0, 1e4),
    endpoint=st.sampled_from(("fast", "slow", "")),
    scope=st.sampled_from(SCOPES),
    is_cached=st.booleans(),
    error=st.sampled_from((None, "timed out")),
)


@given(st.lists(CALLS, max_size=30))
def test_each_division_adds_up_to_the_total(calls: list[LlmCall]) -> None:
    own, other = by_proposal(calls, MADE)
    divisions = (
        list(by_role(calls).values()),
        [share.calls for share in shares(calls, [])],
        [*own.values(), *other.values()],
    )
    for groups in divisions:
        assert summed([usage(group) for group in groups]) == summed([usage(calls)])


def test_what_a_decision_asked_for_falls_to_its_proposal_and_first_trial() -> None:
    own, other = by_proposal(made_calls(), MADE)
    ids = {name: [c.id for c in calls] for name, calls in own.items()}
    assert ids == {"p-fast": ["c1", "c2", "c3"], "p-bad": ["c4", "c5"], "p-slow": ["c6", "c7"]}
    rest = {name: [c.id for c in calls] for name, calls in other.items()}
    assert rest == {"diagnoses": ["c9"], "campaign": ["c10"], "without proposal": ["c8"]}
    trials = {name: [c.id for c in calls] for name, calls in by_trial(made_calls(), MADE).items()}
    assert trials == {"T": ["c1", "c2", "c3", "c9"], "U": ["c4", "c5"], "V": ["c6", "c7"]}


def test_a_proposal_without_a_model_is_its_endpoints_only_one() -> None:
    def named(**detail: str) -> Proposal:
        return Proposal(str(detail), "t", "m", (), "r", (), "llm", detail=dict(detail))

    calls = [CALL, replace(CALL, endpoint="slow"), replace(CALL, endpoint="slow", model="n")]
    ideas = [
        named(endpoint="fast"),
        named(endpoint="slow"),
        named(endpoint="gone", model="g"),
        named(),
    ]
    found = {s.maker: len(s.proposals) for s in shares(calls, ideas)}
    assert found[Maker("fast", "m")] == 1
    assert found[Maker("slow", "")] == 1
    assert found[Maker("gone", "g")] == 1
    assert sum(found.values()) == 3


def evidence(delta: float) -> Evidence:
    return Evidence(delta, 0.01, 0.01, 0.014, 0.5, 6)


def trial(name: str, proposal: str, **changes: Any) -> Trial:
    made = Trial(name, None, "b", proposal, "c", Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL, Status.OK)
    return replace(made, **changes)


def test_an_outcome_takes_one_effect_a_proposal_at_its_lowest_rung() -> None:
    ideas = [Proposal(name, "t", "m", (), "r", (), "llm") for name in ("a", "b", "c")]
    trials = [
        trial("a0", "a"),
        trial("a0again", "a", seed=2),
        trial("a1", "a", rung=1),
        trial("asmall", "a", batch_size=2),
        trial("b1", "b", rung=1, kind=Kind.REPAIR),
        trial("c0", "c", status=Status.REJECTED),
        trial("aconfirm", "a", kind=Kind.CONFIRM, split=SplitName.LOCKED_TEST),
        trial("afold", "a", kind=Kind.SELECT, fold=1),
        trial("z", "elsewhere"),
    ]
    deltas = {"a0": 0.02, "a0again": 0.04, "a1": 0.5, "asmall": 0.6, "b1": 0.01}
    found = {name: evidence(delta) for name, delta in deltas.items()}
    found |= {name: evidence(0.9) for name in ("aconfirm", "afold", "z")}
    led_to = outcome(ideas, trials, found)
    assert (led_to.proposals, led_to.scored, led_to.compared, led_to.rejected) == (3, 2, 2, 1)
    assert led_to.mean == pytest.approx(0.02)
    assert led_to.best == pytest.approx(0.03)
    assert led_to.se == pytest.approx(0.01)  # SD 0.0141 of two, by the root of two
    alone = outcome(ideas[1:2], trials, found)
    assert (alone.mean, alone.se) == (0.01, 0.014)


def test_effect_for_a_dollar_needs_an_effect_and_a_price() -> None:
    led_to = Outcome(3, 2, 2, 0.02, 0.01, 0.03, 1)
    assert per_usd(led_to, usage([replace(CALL, price_usd=0.5)])) == pytest.approx(8.0)
    unknown = [replace(CALL, price_usd=0.5), replace(CALL, price_usd=None)]
    for calls in (unknown, [replace(CALL, price_usd=0.0)], []):
        assert per_usd(led_to, usage(calls)) is None
    assert per_usd(led_to._replace(mean=None), usage([CALL])) is None


def test_status_tells_calls_tokens_and_dollars_by_role(built: Built) -> None:
    done = CliRunner().invoke(main, ["status", str(built.folder)])
    assert done.exit_code == 0, done.output
    block = done.output[done.output.index("  language model:") :]
    lines = block.splitlines()
    assert lines[0] == (
        "  language model: 10 calls (1 failed, 1 from an earlier campaign), tokens at least 800 in "
        "and at least 1,070 out, at least 0.1020 USD (3 calls without a known price)"
    )
    assert (
        lines[1]
        == "    coder: 2 calls (1 from an earlier campaign), tokens 200 in and 1,010 out, 0.0300 USD"
    )
    assert lines[2] == "    diagnostician: 1 call, tokens 100 in and 10 out, 0.0400 USD"
    assert lines[3].startswith("    generator: 7 calls (1 failed), tokens at least 500 in")
    assert "  usd: at least 0.10 spent, no limit" in done.output


def test_status_as_json_has_every_division(built: Built) -> None:
    shown = status_json(built.folder)["llm"]
    assert shown["total"]["usd"] == pytest.approx(0.102)
    assert set(shown["roles"]) == {"coder", "diagnostician", "generator"}
    fast, slow = shown["endpoints"][f"fast/{HOSTILE}"], shown["endpoints"]["slow/big"]
    assert (fast["calls"], fast["proposals"], fast["scored"], fast["rejected"]) == (6, 2, 1, 1)
    assert fast["mean"] == pytest.approx(0.03)
    assert fast["points_per_usd"] == pytest.approx(3.0 / 0.102)
    assert (slow["calls"], slow["usd"], slow["unpriced"]) == (4, None, 3)
    assert slow["mean"] == pytest.approx(-0.01)
    assert slow["points_per_usd"] is None
    assert set(shown["proposals"]) == {"p-fast", "p-bad", "p-slow"}
    assert set(shown["other"]) == {"diagnoses", "campaign", "without proposal"}
    own = shown["trials"][built.trials["p-fast"].id]
    assert (own["calls"], own["unpriced"]) == (4, 1)
    assert own["usd"] == pytest.approx(0.08)


def test_a_budget_of_which_nothing_is_known_says_so(tmp_path: Path) -> None:
    built = Built(tmp_path / "c", calls=False, told=False)
    with Store.open(built.folder / "campaign.db") as store:
        store.add_llm_call(replace(CALL, price_usd=None, scope="campaign"))
    done = CliRunner().invoke(main, ["status", str(built.folder)])
    assert "  usd: an unknown amount spent, no limit" in done.output
    assert "price unknown (1 call without a known price)" in done.output


def test_names_from_servers_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    built = Built(tmp_path / "c", calls=False, told=False)
    with Store.open(built.folder / "campaign.db") as store:
        evil = "gen\x1b[2J\nerator" + "x" * 500
        store.add_llm_call(replace(CALL, role=evil, model=evil, endpoint=evil))
    done = CliRunner().invoke(main, ["status", str(built.folder)])
    assert "\x1b" not in done.output
    assert max(map(len, done.output.splitlines())) < 300
    assert all(len(name) < 200 for name in status_json(built.folder)["llm"]["endpoints"])


def test_a_trial_tells_what_its_calls_cost(built: Built) -> None:
    def shown(name: str, *more: str) -> str:
        command = ["show", str(built.folder), built.trials[name].id, *more]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        return done.output

    assert (
        "  language model: 4 calls, tokens 400 in and 1,030 out, at least 0.0800 USD "
        "(1 call without a known price)\n"
    ) in shown("p-fast")
    assert json.loads(shown("p-fast", "--json"))["llm"]["calls"] == 4
    assert "language model" not in shown("p-own")
    assert "llm" not in json.loads(shown("p-own", "--json"))


def test_every_fact_about_calls_names_rows_that_exist(built: Built) -> None:
    with Store.open(built.folder / "campaign.db", read_only=True) as store:
        rows, facts = read_rows(store), store.facts()
    trials = set(rows.by_id)
    known = {
        "llm_call": {one.id for one in rows.llm_calls},
        "event": {str(event.id) for event in rows.events},
        "proposal": set(rows.proposals),
        "trial": trials,
        "case_score": trials,
    }
    own = [fact for key, fact in facts.items() if key.startswith("llm.")]
    assert len(own) > 100
    for fact in own:
        assert fact.sources or fact.key.endswith((".proposals", ".scored", ".compared")), fact.key
        for source in fact.sources:
            kind, _, name = source.partition(":")
            assert name in known[kind], (fact.key, source)


def test_facts_say_what_each_endpoint_led_to(built: Built) -> None:
    facts = facts_in(built.folder)
    assert facts["llm.endpoint.0.model"].text == HOSTILE
    assert facts["llm.endpoint.0.effect"].text == "+0.030"
    assert facts["llm.endpoint.0.points_per_usd"].text == "+29.41"
    assert (facts["llm.endpoint.1.usd"].value, facts["llm.endpoint.1.usd"].text) == ("unknown",) * 2
    assert facts["llm.endpoint.1.points_per_usd"].text == "undefined"
    assert facts["llm.total.usd"].text == "at least 0.1020"
    assert facts["llm.proposal.p-slow.by"].text == "slow, big"
    assert f"case_score:{built.trials['p-fast'].id}" in facts["llm.endpoint.0.best"].sources


def test_facts_say_which_suggestions_paid(built: Built) -> None:
    facts = {key: one.text for key, one in facts_in(built.folder).items() if "payoff" in key}
    own = {key.removeprefix("llm.payoff.capacity."): text for key, text in facts.items()}
    assert own == {
        **{"category": "capacity", "offered": "1", "carried": "1", "scored": "1"},
        **{"failures": "0", "gain": "\N{MINUS SIGN}0.040", "gain_se": "undefined"},
    }
    for text in report_texts(built.folder):
        assert "What the suggestions of each category brought" in text


def test_the_report_has_a_section_about_its_language_models(built: Built) -> None:
    html, tex = report_texts(built.folder)
    assert '<li><a href="#language">Language model</a></li>' in html
    assert '<h2 id="language">' in html
    assert r"\subsection{Language model}" in tex
    for text in (html, tex):
        assert "it scores nothing, picks no winner" in text
        assert "Language models were used as" in text
        assert "Proposals of this campaign came from" in text
        assert "decisions that led to no proposal" in text
        assert all(said in text for said in TOLD)
        assert "2017-07-14 02:41 UTC" in text
        assert "connection refused" in text


def test_hostile_names_and_errors_are_escaped(built: Built) -> None:
    html, tex = report_texts(built.folder)
    assert "&lt;b&gt;m&lt;/b&gt; &amp; \\input{x}" in html
    assert "<b>m</b>" not in html
    assert "<script>" not in html
    assert (
        r"\textless{}b\textgreater{}m\textless{}/b\textgreater{} \& \textbackslash{}input\{x\}"
        in tex
    )
    assert r"\input{" not in tex
    assert "\x1b" not in html + tex
    assert "[31m" not in html + tex
    assert "!" * 300 not in html + tex


def test_a_campaign_with_calls_passes_its_check(built: Built) -> None:
    assert check_campaign(built.folder) == []


def test_writing_the_report_again_gives_the_same_bytes(copy: Path) -> None:
    before = report_texts(copy)
    write_report(copy)
    assert report_texts(copy) == before


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ("price_usd = 0.011 WHERE id = 'c1'", ("llm.total.usd", "llm.proposal.p-fast.usd")),
        ("price_usd = 0.0 WHERE id = 'c2'", ("llm.total.unpriced", "llm.endpoint.1.unpriced")),
        ("tokens_in = 101 WHERE id = 'c9'", ("llm.other.diagnoses.tokens_in",)),
        ("tokens_out = 11 WHERE id = 'c7'", ("llm.role.coder.tokens_out",)),
        ("error = NULL WHERE id = 'c4'", ("llm.total.failed",)),
        ("scope = 'campaign' WHERE id = 'c8'", ("llm.other.campaign.calls",)),
    ],
)
def test_one_changed_call_is_found(copy: Path, change: str, keys: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(copy / "campaign.db", isolation_level=None)) as conn:
        sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        triggers = conn.execute(sql).fetchall()
        for name, _ in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        assert conn.execute(f"UPDATE llm_call SET {change}").rowcount == 1
        for _, sql in triggers:
            conn.execute(sql)
    problems = check_campaign(copy)
    for key in keys:
        assert any(line.startswith(f"fact {key}: ") for line in problems), (key, problems)
    assert all(line.startswith(("fact ", "report/")) for line in problems)


def test_a_changed_price_in_the_report_is_found(copy: Path) -> None:
    path = copy / "report" / "report.html"
    path.write_text(path.read_text().replace("at least 0.1020", "at least 0.1021", 1))
    assert any("llm.total.usd" in line for line in check_campaign(copy))


def test_a_campaign_without_calls_shows_nothing(silent: Path) -> None:
    assert "llm" not in status_json(silent)
    assert "language model" not in CliRunner().invoke(main, ["status", str(silent)]).output
    assert not any(key.startswith("llm.") for key in facts_in(silent))
    for text in report_texts(silent):
        assert "Language model" not in text
    assert check_campaign(silent) == []


def test_a_lost_model_is_told_though_no_call_was_made(tmp_path: Path) -> None:
    folder = Built(tmp_path / "c", calls=False).folder
    write_report(folder)
    for text in report_texts(folder):
        assert "No call to a language model was made." in text
        assert all(said in text for said in TOLD)
        assert "Language models were used as" not in text
    assert "llm" not in status_json(folder)
    assert check_campaign(folder) == []
