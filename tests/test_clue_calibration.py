"""Calibration as a clue: gaps by hand, beside the baseline's; a reason wherever it is not known."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from agent.clue_calibration import NO_PREDICTION, TOO_FEW
from agent.clues import CALIBRATION, gather
from agent.diagnosis import suggest
from agent.suggestions import KEY, TEXT_CHARACTERS, Clue, Suggestion
from memory.records import CaseScore, Kind, Metric, Module, Proposal, SplitName, Status, Trial
from memory.store import Store
from tests import diagnosed
from tests.diagnosed import CASES, LABELS, SMALL, Array, add

LESION = 2 * 18 / (19 + 18)  # Dice without the lesion of one voxel
SURE = {"organ": 0.95, "lesion": 0.999}
USUAL = ({"organ": 0.97, "lesion": 0.96}, {"organ": 0.98, "lesion": 0.97}, {"organ": 0.96, "lesion": 0.98})  # fmt: skip


def missing_small(label: Array, _: int) -> Array:
    label[SMALL] = 0
    return label


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with diagnosed.make(tmp_path) as opened:
        add(opened, tmp_path, "trial", drawn=missing_small)
        yield opened


def keep(folder: Path, trial: str, confidence: Any) -> None:
    """Leave a result as a supervisor does."""
    path = folder / "trials" / trial / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"status": "ok", "confidence": confidence}))


def means(row: dict[str, float], **changes: float | None) -> dict[str, Any]:
    """Return the same row for each case; the first has `changes`."""
    found: dict[str, Any] = {case: dict(row) for case in CASES}
    found[CASES[0]] |= changes
    return {"means": found}


def keep_all(folder: Path) -> None:
    keep(folder, "trial", means(SURE))
    for seed, row in enumerate(USUAL):
        keep(folder, f"base{seed}", means(row))


def told(store: Store, folder: Path, trial: str = "trial") -> dict[str, Clue]:
    found = gather(store, folder, store.trial(trial))
    return {clue.key: clue for clue in found if "calibration" in clue.key}


def usual_gaps() -> list[list[float]]:
    """Return the baseline's gaps by seed: of the organ, of the lesion, of both."""
    found = []
    for shaved, row in enumerate(USUAL):
        organ = row["organ"] - 2 * (72 - shaved) / (144 - shaved)
        lesion = row["lesion"] - 1.0
        found.append([organ, lesion, (organ + lesion) / 2])
    return found


def test_gaps_are_confidence_minus_dice(store: Store, tmp_path: Path) -> None:
    keep_all(tmp_path)
    found = told(store, tmp_path)
    organ, lesion = SURE["organ"] - 1.0, SURE["lesion"] - LESION
    both = (organ + lesion) / 2
    values = {key: clue.value for key, clue in found.items()}
    seen = usual_gaps()
    assert values == {
        "calibration": pytest.approx(both, abs=1e-4),
        "calibration.change": pytest.approx(both - fmean(g[2] for g in seen), abs=1e-6),
        "class.organ.calibration": pytest.approx(organ, abs=1e-4),
        "class.lesion.calibration": pytest.approx(lesion, abs=1e-4),
    }
    assert {(clue.unit, clue.count) for clue in found.values()} == {("share", 6)}
    usual = f"the baseline's is {100 * fmean(g[1] for g in seen):+.1f}"
    assert found["class.lesion.calibration"].text.endswith(usual)
    assert f"{100 * lesion:+.1f} points" in found["class.lesion.calibration"].text
    assert "surer than right" in found["calibration"].text


def test_the_error_holds_the_cases_and_the_seeds_of_both_sides(
    store: Store, tmp_path: Path
) -> None:
    keep_all(tmp_path)
    keep(tmp_path, "trial", means(SURE, organ=0.65))
    found = told(store, tmp_path)
    whole = [(row["organ"] - 1.0 + row["lesion"] - LESION) / 2 for row in rows(organ=0.65)]
    assert found["calibration"].se == pytest.approx(stdev(whole) / 6**0.5, abs=1e-4)
    seeds = stdev([g[2] for g in usual_gaps()]) * (4 / 3) ** 0.5
    # c4(3), by which the SD of three seeds is too small on average.
    assert found["calibration.change"].se == pytest.approx(
        np.hypot(stdev(whole) / 6**0.5, seeds / 0.8862), abs=1e-5
    )


def rows(**changes: float) -> list[dict[str, float]]:
    found: list[dict[str, float]] = list(means(SURE, **changes)["means"].values())
    return found


def test_a_case_without_a_predicted_voxel_has_no_gap(store: Store, tmp_path: Path) -> None:
    keep_all(tmp_path)
    keep(tmp_path, "trial", means(SURE, lesion=None))
    found = told(store, tmp_path)
    assert found["class.lesion.calibration"].count == 5
    assert found["calibration"].count == 6
    lesion = SURE["lesion"] - LESION
    whole = [-0.05] + 5 * [(-0.05 + lesion) / 2]
    assert found["calibration"].value == pytest.approx(fmean(whole), abs=1e-4)


def test_a_dice_that_is_undefined_has_no_gap(store: Store, tmp_path: Path) -> None:
    store.add_trial(Trial(**same_as(store, "odd")))
    scores = [
        replace_case(row, "odd", None if row.label == "lesion" else row.value)
        for row in store.case_scores("trial")
    ]
    store.record_result("odd", changes={"status": Status.OK}, scores=scores)
    keep(tmp_path, "odd", means(SURE))
    found = told(store, tmp_path, "odd")
    assert found["calibration"].value == pytest.approx(-0.05, abs=1e-4)
    assert "class.lesion.calibration" not in found


def same_as(store: Store, name: str) -> dict[str, Any]:
    planned = store.trial("trial")
    fields = ("parent", "branch", "proposal", "commit", "kind", "rung", "split", "title")
    return {"id": name, "seed": 5, **{field: getattr(planned, field) for field in fields}}


def replace_case(row: CaseScore, trial: str, value: float | None) -> CaseScore:
    reason = "both empty" if value is None else row.reason
    return CaseScore(trial, row.case, row.label, row.metric, value, reason)


def test_without_the_baselines_confidence_its_own_is_told(store: Store, tmp_path: Path) -> None:
    keep(tmp_path, "trial", means(SURE))
    found = told(store, tmp_path)
    assert "calibration.change" not in found
    assert "baseline" not in found["calibration"].text
    keep(tmp_path, "base0", means(USUAL[0]))
    keep(tmp_path, "base1", {"unknown": "it is gone"})
    found = told(store, tmp_path)
    # One seed shows no spread, so nothing is compared; its gap is told all the same.
    assert "calibration.change" not in found
    assert found["calibration"].text.endswith(f"is {100 * usual_gaps()[0][2]:+.1f}")


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (None, "holds no confidence"),
        ([1], "holds no confidence"),
        ({}, "allowed: an object"),
        ({"unknown": "the trial's confidence.json is missing"}, "confidence.json is missing"),
        ({"means": {case: SURE for case in CASES[1:]}}, "the 6 cases asked for"),
        ({"means": {case: {"organ": 0.5} for case in CASES}}, "the 2 classes asked for"),
        (means(SURE, organ=1.5), "out of range"),
        ({"means": {case: dict.fromkeys(LABELS) for case in CASES}}, TOO_FEW),
    ],
)
def test_what_is_not_known_is_said_with_its_reason(
    store: Store, tmp_path: Path, kept: Any, why: str
) -> None:
    keep_all(tmp_path)
    keep(tmp_path, "trial", kept)
    [only] = told(store, tmp_path).values()
    assert only.key == "calibration"
    assert only.text.startswith("calibration is not known: ")
    assert why in only.text
    assert (only.value, only.unit, only.se, only.count) == (None, "", None, None)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", "\xff"])
def test_a_result_that_is_none_is_as_if_it_were_gone(
    store: Store, tmp_path: Path, text: str
) -> None:
    (tmp_path / "trials" / "trial" / "result.json").write_text(text, encoding="latin-1")
    assert told(store, tmp_path) == {"calibration": CALIBRATION}


def test_a_reason_tells_no_case_and_no_path(store: Store, tmp_path: Path) -> None:
    reason = f"the file of '{CASES[0]}' at /home/me/x has 12345 bytes\n\x1b[0m" + "y" * 900
    keep(tmp_path, "trial", {"unknown": reason})
    text = told(store, tmp_path)["calibration"].text
    assert "\n" not in text
    assert len(text) < 300
    assert not any(gone in text for gone in (CASES[0], "/home", "12345", "\x1b"))


def test_a_failed_trial_made_no_prediction(store: Store, tmp_path: Path) -> None:
    diagnosed.plan(store, "bad", seed=9)
    changes = {"status": Status.FAILED, "failure_class": "exception", "failure_excerpt": "x"}
    store.record_result("bad", changes=changes, scores=[])
    keep(tmp_path, "bad", means(SURE))
    assert NO_PREDICTION in told(store, tmp_path, "bad")["calibration"].text


def test_texts_are_plain(store: Store, tmp_path: Path) -> None:
    keep_all(tmp_path)
    for clue in told(store, tmp_path).values():
        assert KEY.fullmatch(clue.key)
        assert len(clue.text) <= TEXT_CHARACTERS
        assert not any(case in clue.text for case in CASES)
        assert not re.search(r"\d\s?(s|ms|min|h)\b", clue.text)


def test_a_confidence_of_the_locked_test_moves_no_clue(store: Store, tmp_path: Path) -> None:
    keep_all(tmp_path)
    before = gather(store, tmp_path, store.trial("trial"))
    for number, kind in enumerate((Kind.CONFIRM, Kind.ABLATE, Kind.BASELINE)):
        name, part = f"planted{number}", SplitName.LOCKED_TEST
        diagnosed.plan(store, name, kind, split=part, seed=50 + number)
        if kind is not Kind.BASELINE:
            scores = [
                CaseScore(name, f"locked_{i}", label, metric, 0.01)
                for i in range(4)
                for label in LABELS
                for metric in Metric
            ]
            store.record_result(name, changes={"status": Status.OK}, scores=scores)
        keep(tmp_path, name, {"means": {f"locked_{i}": SURE for i in range(4)}})
    assert gather(store, tmp_path, store.trial("trial")) == before


GATE = Proposal("p", "T", "m", (Module("attention_gate", "skip", (0, 1)),), "r", (), "grammar")


def learning(*clues: tuple[str, float, float], of: Proposal = GATE) -> Suggestion:
    """Return what the rules suggest of learning."""
    given = [Clue(key, f"{key} is told", value, "share", se) for key, value, se in clues]
    found = suggest(given, of, mode="loss", source="", dims=3, n_stages=5, tried=())
    return next(one for one in found if one.category == "optimisation")


LOST, SURER = ("overall.delta", -0.01, 0.004), ("calibration.change", 0.1, 0.01)


def test_a_network_that_is_surer_and_no_better_is_restrained() -> None:
    found = learning(LOST, SURER)
    assert found.modules is not None
    assert {one.component for one in found.modules} == {"attention_gate", "even_supervision"}
    assert found.clues == ("calibration.change", "overall.delta")
    assert "surer" in found.text
    even = Proposal("e", "T", "m", (Module("even_supervision", "heads", ()),), "r", (), "grammar")
    assert learning(LOST, SURER, of=even).text.startswith("Drop channels at random")


@pytest.mark.parametrize(
    "clues",
    [
        [LOST],
        [LOST, ("calibration.change", -0.1, 0.01)],
        [LOST, ("calibration.change", 0.01, 0.01)],
        [("overall.delta", 0.02, 0.004), SURER],
    ],
)
def test_nothing_is_restrained_without_need(clues: list[tuple[str, float, float]]) -> None:
    assert "surer" not in learning(*clues).text


def test_a_reported_confidence_counts_no_more_than_a_reported_curve() -> None:
    noisy = ("curve.final", 0.5, 0.001)
    assert learning(LOST, ("calibration.change", 1.0, 1e-6), noisy).clues[0] == "calibration.change"
    assert learning(LOST, ("calibration.change", 0.02, 0.01), noisy).clues == ("curve.final",)
