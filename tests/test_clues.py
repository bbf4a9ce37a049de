"""Clues: computed from search rows and files, told without names, paths and times."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clue_images import Maps, compare, of_class
from agent.clue_text import EXCERPT_CHARACTERS, label_name, points, scrubbed, shortened, slugs
from agent.clues import CALIBRATION, gather
from agent.standings import Standings
from agent.suggestions import KEY, TEXT_CHARACTERS, Clue
from agent.trials import ABLATED, dry_run_event
from memory.errors import ClaimError
from memory.records import CaseScore, Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.dry_run import Dry, Verdict
from sandbox.label_map import Volume
from tests import diagnosed
from tests.campaigns import build_campaign
from tests.diagnosed import CASES, SMALL, Array, add, write_code, write_curve

PATH = re.compile(r"(?<!\w)~?/\w|[A-Za-z]:\\")
TIME = re.compile(r"\d\s?(s|ms|seconds?|min|h)\b|\d:\d\d")


def by_key(found: tuple[Clue, ...]) -> dict[str, Clue]:
    return {clue.key: clue for clue in found}


def missing_small(label: Array, case: int) -> Array:
    """Miss the lesion of one voxel; invent one in the first two cases."""
    label[SMALL] = 0
    if case < 2:
        label[0, 15, 15] = 2
    return label


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed")
    with diagnosed.make(folder) as store:
        add(store, folder, "trial", drawn=missing_small)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "campaign"))


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.open(folder / "campaign.db") as opened:
        yield opened


def clues(store: Store, folder: Path, trial: str = "trial") -> dict[str, Clue]:
    return by_key(gather(store, folder, store.trial(trial)))


def test_the_effect_is_that_of_the_standings(store: Store, folder: Path) -> None:
    found = clues(store, folder)
    evidence = Standings(store).evidence(store.trial("trial"))
    assert evidence is not None
    told = found["overall.delta"]
    assert told.value == pytest.approx(evidence.delta, abs=1e-6)
    assert told.se == pytest.approx(evidence.se, abs=1e-6)
    assert told.count == 6
    assert f"{points(evidence.delta)} points" in told.text
    assert found["overall.p_better"].value == pytest.approx(evidence.p_better, abs=1e-4)


def test_each_class_has_its_own_difference(store: Store, folder: Path) -> None:
    found = clues(store, folder)
    # Dice of the lesion: 18 of 19 voxels found, a spurious one in two of six cases.
    dice = (2 * 2 * 18 / (19 + 19) + 4 * 2 * 18 / (18 + 19)) / 6
    assert found["class.lesion.delta"].value == pytest.approx(dice - 1.0, abs=1e-6)
    organ = found["class.organ.delta"]
    assert organ.value is not None
    assert organ.value > 0  # the baseline lacks a voxel or two of it
    assert organ.se is not None
    assert organ.se > 0
    assert found["class.lesion.nsd"].value is not None
    assert found["class.lesion.hd95"].unit == "mm"


def test_missed_and_spurious_parts_are_counted_against_the_baseline(
    store: Store, folder: Path
) -> None:
    found = clues(store, folder)
    # Thirds of twelve parts of the lesion by volume: four of one voxel, two more, four large.
    missed = [found[f"objects.missed.{name}"] for name in ("small", "middle", "large")]
    assert [(clue.value, clue.count) for clue in missed] == [(4.0, 6), (2.0, 6), (0.0, 6)]
    assert missed[0].text.startswith("4 of 6 parts")
    assert found["class.lesion.missed"].value == 6.0
    assert found["class.lesion.missed"].count == 12
    assert "class.organ.missed" not in found
    spurious = found["objects.spurious"]
    assert spurious.value == 2.0
    assert spurious.se == pytest.approx(np.std([1, 1, 0, 0, 0, 0], ddof=1) * 6**0.5, abs=1e-4)


def test_volumes_are_compared_with_the_reference_and_the_baseline(
    store: Store, folder: Path
) -> None:
    found = clues(store, folder)
    bias = found["class.lesion.volume"]
    assert bias.value == pytest.approx(4 / 6 * 2 * (18 - 19) / (18 + 19), abs=1e-4)
    assert "less" in bias.text
    assert found["class.lesion.volume_change"].value == bias.value
    organ = found["class.organ.volume_change"]
    assert organ.value is not None
    assert organ.value > 0


def test_parts_are_missed_or_spurious_by_overlap() -> None:
    reference = np.zeros((8, 8), bool)
    reference[1, 1] = reference[5:7, 5:7] = True
    prediction = np.zeros((8, 8), bool)
    prediction[5, 5] = prediction[1, 6] = True
    seen = compare(prediction, reference, voxel_mm3=2.0)
    assert seen.parts == ((2.0, True), (8.0, False))
    assert (seen.spurious, seen.predicted, seen.reference) == (1, 2, 5)
    nothing = compare(np.zeros((8, 8), bool), np.zeros((8, 8), bool), voxel_mm3=1.0)
    assert nothing == ((), 0, 0, 0)


def test_an_ignored_label_counts_for_nobody() -> None:
    reference, prediction = np.zeros((2, 8, 8), np.uint8)
    reference[1, 1], reference[5:7, 5:7] = 9, 1
    prediction[:3, :3] = prediction[5:7, 5:7] = 1
    volumes = [Volume(array, (2.0, 1.0), (0.0, 0.0), ()) for array in (prediction, reference)]
    maps = Maps(Path(), ".png", {"all": [1, 2]}, None, ())
    assert of_class(maps, "all", *volumes) == (((8.0, False),), 1, 13, 4)
    assert of_class(maps._replace(ignored=9), "all", *volumes) == (((8.0, False),), 1, 12, 4)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    reference = np.eye(6, dtype=bool)
    assert len(compare(reference, reference, voxel_mm3=1.0).parts) == 1


def test_what_is_gone_is_left_out(store: Store, folder: Path) -> None:
    for seed in range(3):
        shutil.rmtree(folder / "trials" / f"base{seed}")
    alone = clues(store, folder)["objects.missed.small"]
    assert alone.value is None
    assert "4 of 6" in alone.text
    (folder / "trials" / "trial" / "predictions" / f"{CASES[3]}.nii.gz").unlink()
    found = clues(store, folder)
    assert not any(key.startswith("objects.") or "volume" in key for key in found)
    assert "overall.delta" in found
    shutil.rmtree(folder / "labels")
    assert clues(store, folder) == found


def test_small_and_large_cases_are_told_apart(store: Store, folder: Path) -> None:
    def worse_when_small(label: Array, case: int) -> Array:
        label[2:, 9:12, 9 : 9 + 2 * (case < 2)] = 0
        return label

    add(store, folder, "second", drawn=worse_when_small, seed=2)
    found = clues(store, folder, "second")
    small, large, apart = (found[f"case.{name}"].value for name in ("small", "large", "contrast"))
    assert small is not None
    assert large is not None
    assert small < -0.1 < large
    assert apart == pytest.approx(small - large, abs=1e-5)
    assert found["case.small"].count == 2
    worst, rest = found["case.worst"], found["case.rest"]
    assert (worst.count, rest.count) == (1, 5)
    assert worst.value is not None
    assert rest.value is not None
    assert worst.value < rest.value
    assert "repeat of the baseline" in worst.text


def test_a_class_missed_whole_is_counted(store: Store, folder: Path) -> None:
    def without_lesion(label: Array, case: int) -> Array:
        return np.where(label == 2, 0, label).astype(np.uint8) if case < 4 else label

    add(store, folder, "second", drawn=without_lesion, seed=2)
    told = clues(store, folder, "second")["class.lesion.missed_whole"]
    assert (told.value, told.count) == (4.0, 4)


def test_a_child_is_set_beside_its_parent(store: Store, folder: Path) -> None:
    assert "parent.change" not in clues(store, folder)
    add(store, folder, "before", Kind.DRAFT, proposal="parent", commit="d" * 40)
    found = clues(store, folder)
    own, parent = found["overall.delta"].value, found["parent.delta"].value
    assert own is not None
    assert parent is not None
    assert found["parent.change"].value == pytest.approx(own - parent, abs=2e-6)


def test_costs_are_ratios_and_memory_is_coarse(store: Store, folder: Path) -> None:
    found = clues(store, folder)
    ratios = [found[f"cost.{name}"].value for name in ("parameters", "flops", "memory")]
    assert ratios == [1.5, 1.0, 2.0]


def falling(end: float, *, steep: float = 0.0, noise: float = 0.0) -> list[float]:
    """Return a curve of 50 epochs that is flat at its end, or falls, with a known scatter."""
    shape = [end + max(0.0, 0.02 * (35 - i)) - steep * max(0, i - 35) for i in range(50)]
    return [loss + noise * (-1) ** i for i, loss in enumerate(shape)]


def test_the_curve_is_set_beside_the_baselines(store: Store, folder: Path) -> None:
    write_curve(folder, "trial", falling(-0.4, steep=0.01, noise=0.004))
    assert "curve.final" not in clues(store, folder)
    for seed in range(3):
        write_curve(folder, f"base{seed}", falling(-0.5 + 0.01 * seed, noise=0.002))
    found = clues(store, folder)
    final = found["curve.final"]
    # The last tenth lies ten to fourteen epochs after the bend; 46 to 50 hold an odd number.
    assert final.value == pytest.approx(-0.4 - 0.01 * 12 + 0.49, abs=0.002)
    assert final.se == pytest.approx(0.01 * (4 / 3) ** 0.5, abs=1e-4)
    slope, steeper = found["curve.slope"], found["curve.steeper"]
    assert slope.value == pytest.approx(-0.11, abs=0.01)
    assert "still falls" in slope.text
    assert steeper.value == pytest.approx(slope.value, abs=0.01)
    assert found["curve.noise"].value == pytest.approx(2.0, abs=0.1)


def test_other_weights_of_the_heads_forbid_comparing_losses(store: Store, folder: Path) -> None:
    for name in ("trial", "base0", "base1", "base2"):
        write_curve(folder, name, falling(-0.4, noise=0.001))
    write_code(folder, "trial", "self.deep_supervision_weights = [1.0]\n")
    found = clues(store, folder)
    assert not {"curve.final", "curve.steeper", "curve.noise"} & found.keys()
    assert "curve.slope" in found


@pytest.mark.parametrize("text", ["{", "[1]", '{"loss": 3}', '{"loss": [1.0, 2.0]}'])
def test_a_curve_that_is_none_is_left_out(store: Store, folder: Path, text: str) -> None:
    (folder / "trials" / "trial" / "curve.json").write_text(text)
    assert not any(key.startswith("curve.") for key in clues(store, folder))


def dry(store: Store, trial: Trial, *verdicts: Verdict) -> None:
    failure = verdicts[-1].failure_class
    found = Dry(failure, verdicts[-1].text, 1, 2, 0.1, 5.0, verdicts)
    store.add_event(dry_run_event(trial, found, at=1.0))


def test_the_dry_run_is_told_without_seconds(store: Store, folder: Path) -> None:
    parts = {"instances": {"AttentionGate": 2, "/etc/passwd": 1}, "effect": {"AttentionGate": 0.5}}
    admitted = {"needed_mib": 500.0, "free_mib": 1000.0, "factor": 1.25}
    unused = {"unused": ["decoder.gate.0.weight", "bad name /x", 3], "step_seconds": 0.25}
    verdicts = [
        Verdict("static", True, {"findings": 0}, 0.02),
        Verdict("meta", True, {"parameters": 5}, 0.2),
        Verdict("small", True, {"unused": ["elsewhere"]}, 0.4),
        Verdict("parts", True, parts, 0.5),
        Verdict("planned", True, unused, 0.9),
        Verdict("admission", True, admitted, 0.0),
    ]
    dry(store, store.trial("trial"), *verdicts)
    found = clues(store, folder)
    assert found["dry.instances.AttentionGate"].value == 2.0
    assert found["dry.effect.AttentionGate"].value == 0.5
    assert found["dry.unused"].value == 3.0
    assert "decoder.gate.0.weight" in found["dry.unused"].text
    assert found["dry.memory"].value == 0.5
    assert not any("passwd" in clue.text or "bad name" in clue.text for clue in found.values())


@pytest.mark.parametrize(
    "evidence", [None, [], {"instances": 3, "unused": "x"}, {"needed_mib": []}]
)
def test_odd_evidence_of_a_dry_run_is_passed_over(
    store: Store, folder: Path, evidence: Any
) -> None:
    verdicts = [Verdict(step, True, evidence, 0.1) for step in ("parts", "planned", "admission")]
    dry(store, store.trial("trial"), *verdicts)
    assert not any(key.startswith("dry.") for key in clues(store, folder))


def failed(store: Store, kind: str, excerpt: str, *, status: Status = Status.FAILED) -> Trial:
    diagnosed.plan(store, "bad", seed=9)
    changes = {"status": status, "failure_class": kind, "failure_excerpt": excerpt}
    store.record_result("bad", changes=changes, scores=[])
    return store.trial("bad")


HOSTILE = (
    'RuntimeError: "sizes" 24/23 at /home/someone/work dir/x.py\n\x1b[31mnetwork.py line 3, in '
    f"forward: y = skip + up\nprediction of case '{CASES[0]}' after 12.5 s at 1834 MiB, locked_2, "
    "0x7f3a99 on 2026-01-02 10:11:12 (pid 4711) ../../etc/passwd C:\\Users\\me"
)


def test_a_failure_has_class_excerpt_and_line(store: Store, folder: Path) -> None:
    write_code(folder, "bad", "import torch\n\n    y = skip + up  # /root/key\n")
    failed(store, "exception", HOSTILE)
    found = clues(store, folder, "bad")
    assert "(exception)" in found["failure.class.exception"].text
    excerpt = found["failure.excerpt"].text
    assert "sizes" in excerpt
    assert "24/23" in excerpt
    assert "network.py line 3" in excerpt
    assert not PATH.search(excerpt)
    assert not TIME.search(excerpt)
    for gone in (CASES[0], "locked_2", "1834", "0x7f", "4711", "2026", "passwd", "Users", "\x1b"):
        assert gone not in excerpt
    line = found["failure.line"]
    assert line.value == 3.0
    assert line.text.endswith("y = skip + up # (path)")
    assert "overall.delta" not in found


def test_a_static_finding_gives_its_line_and_an_idle_part_its_name(
    store: Store, folder: Path
) -> None:
    said = "line 17: open is outside the contract; line 20: exec is outside"
    bad = failed(store, "names", said, status=Status.REJECTED)
    idle = "CheckError: AttentionGate is built, and changing its output changes no logit"
    dry(store, bad, Verdict("parts", False, {}, 0.3, "idle_module", idle))
    found = clues(store, folder, "bad")
    assert found["failure.line"].value == 17.0
    assert found["failure.line"].text == "it failed at line 17 of network.py"
    assert found["dry.idle.AttentionGate"].value == 0.0
    assert "failed at its step parts" in found["dry.failed"].text


def test_an_ablation_at_the_lowest_rung_is_told(store: Store, folder: Path) -> None:
    def without(label: Array, case: int) -> Array:
        label[2:, 9:12, 9:11] = 0
        return label

    assert not any(key.startswith("ablation.") for key in clues(store, folder))
    add(store, folder, "without", Kind.ABLATE, drawn=without, commit="e" * 40, seed=7)
    store.set_effect(f"{ABLATED}/{'e' * 40}", {"component": "attention_gate"})
    told = clues(store, folder)["ablation.attention_gate"]
    standings = Standings(store)
    own, other = (standings.case_means(store.trial(name)) for name in ("trial", "without"))
    expected = np.mean([(own[case] or 0.0) - (other[case] or 0.0) for case in CASES])
    assert told.value == pytest.approx(expected, abs=1e-6)
    assert told.value is not None
    assert told.value > 0


def test_calibration_is_said_to_be_unknown_once(store: Store, folder: Path) -> None:
    found = gather(store, folder, store.trial("trial"))
    assert [clue for clue in found if clue.key == "calibration"] == [CALIBRATION]
    assert CALIBRATION.value is None


def test_the_same_store_gives_the_same_clues(store: Store, folder: Path) -> None:
    trial = store.trial("trial")
    assert gather(store, folder, trial) == gather(store, folder, trial)
    assert gather(store, folder, trial, standings=Standings(store)) == gather(store, folder, trial)


def test_nothing_of_the_locked_test_moves_a_clue(store: Store, folder: Path) -> None:
    before = gather(store, folder, store.trial("trial"))
    locked = folder / "locked" / "labels"
    for number, kind in enumerate((Kind.CONFIRM, Kind.ABLATE, Kind.SELECT)):
        name = f"planted{number}"
        part = SplitName.SEARCH_VAL if kind is Kind.SELECT else SplitName.LOCKED_TEST
        fold = int(kind is Kind.SELECT)
        diagnosed.plan(store, name, kind, split=part, seed=50 + number, fold=fold)
        store.set_effect(f"{ABLATED}/{'c' * 39}{number}", {"component": "attention_gate"})
        cases = [f"locked_{i}" for i in range(4)] + list(CASES)
        scores = [
            CaseScore(name, case, label, metric, 0.01)
            for case in cases
            for label in diagnosed.LABELS
            for metric in Metric
        ]
        store.record_result(name, changes={"status": Status.OK}, scores=scores)
        for case in cases:
            diagnosed.write(locked / f"{case}.nii.gz", np.zeros((4, 16, 16), np.uint8))
    assert gather(store, folder, store.trial("trial")) == before
    assert not store.test_accesses()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": Kind.CONFIRM, "split": SplitName.LOCKED_TEST},
        {"kind": Kind.SELECT},
        {"kind": Kind.BASELINE},
        {"fold": 1},
        {"status": Status.RUNNING},
    ],
    ids=str,
)
def test_only_finished_trials_of_the_search_have_clues(
    store: Store, folder: Path, wrong: dict[str, Any]
) -> None:
    trial = replace(store.trial("trial"), **wrong)
    with pytest.raises(ClaimError, match="search-val alone"):
        gather(store, folder, trial)


def test_a_trial_without_a_baseline_has_clues_all_the_same(store: Store, folder: Path) -> None:
    add(store, folder, "rare", rung=1, seed=3)
    found = clues(store, folder, "rare")
    assert "overall.delta" not in found
    assert found["objects.spurious"].value is None
    assert "calibration" in found


def texts_of(folder: Path) -> list[Clue]:
    with Store.open(folder / "campaign.db", read_only=True) as opened:
        trials = [t for t in opened.trials() if t.kind in (Kind.DRAFT, Kind.IMPROVE)]
        return [clue for trial in trials for clue in gather(opened, folder, trial)]


def test_texts_are_bounded_and_tell_no_case_path_or_time(folder: Path, tmp_path: Path) -> None:
    other = build_campaign(tmp_path / "whole", hostile=True)
    with Store.open(folder / "campaign.db") as opened:
        failed(opened, "exception", HOSTILE * 9)
    for place, names in ((folder, CASES), (other, ("val_00", "test_00", "train_00"))):
        found = texts_of(place)
        assert found
        for clue in found:
            assert KEY.fullmatch(clue.key)
            assert 0 < len(clue.text) <= TEXT_CHARACTERS
            assert "\n" not in clue.text
            assert not PATH.search(clue.text)
            assert not TIME.search(clue.text)
            assert not any(name in clue.text for name in names)


WORDS = st.sampled_from(
    [
        *(
            "conv",
            "24/23",
            "and/or",
            "line 3:",
            "x -> y",
            "forward(self, x)",
            "1e-5",
            "'7'",
            "\x1b[0m",
        ),
        *(
            "/home/me/a b",
            "/code/network.py",
            "~/key",
            "../x/y",
            "C:\\x\\y",
            '"/tmp/a.py"',
            "\\\\h\\s",
        ),
        *("12 s", "0.5 seconds", "3ms", "1.2e-3 s", "10:11", "2 min", "4 MiB", "pid 12", "0xff"),
        *("case_007", "'7'", "case_007_0000", "file:///a/b"),
    ]
)


@given(st.lists(WORDS, max_size=30))
def test_scrubbed_text_is_safe_whatever_it_was(words: list[str]) -> None:
    text = scrubbed(" ".join(words), names=["case_007", "7"])
    assert len(text) <= EXCERPT_CHARACTERS
    assert not PATH.search(text)
    assert not TIME.search(text)
    assert "case_007" not in text
    assert "'7'" not in text
    assert scrubbed(text, names=["case_007", "7"]) == text


@given(st.text(max_size=900))
def test_any_text_stays_on_one_line_and_bounded(text: str) -> None:
    found = scrubbed(text)
    assert len(found) <= EXCERPT_CHARACTERS
    assert "\n" not in found
    assert len(label_name(text)) <= 40


@given(st.lists(st.text(max_size=40), unique=True, max_size=20))
def test_each_class_has_a_key_of_its_own(labels: list[str]) -> None:
    found = slugs(labels)
    assert list(found) == labels
    assert len(set(found.values())) == len(labels)
    assert all(KEY.fullmatch(f"class.{slug}.missed_whole") for slug in found.values())


def test_shortened_text_keeps_both_ends() -> None:
    text = "a" * 50 + "b" * 50
    assert shortened(text, 200) == text
    short = shortened(text, 21)
    assert len(short) <= 21
    assert short.startswith("aa")
    assert short.endswith("bb")


def test_points_have_a_sign_and_no_minus_zero() -> None:
    assert [points(x) for x in (-0.0214, 0.0, -0.0001, 0.1)] == ["-2.1", "+0.0", "+0.0", "+10.0"]


def test_clues_do_not_depend_on_the_order_of_planning(tmp_path: Path) -> None:
    orders = []
    for seed in (1, 2):
        place = tmp_path / str(seed)
        place.mkdir()
        with diagnosed.make(place) as opened:
            names = ["trial", "before"]
            Random(seed).shuffle(names)
            for name in names:
                own: dict[str, Any] = (
                    {"proposal": "parent", "commit": "d" * 40} if name == "before" else {}
                )
                add(opened, place, name, drawn=missing_small, seed=1, **own)
            orders.append(gather(opened, place, opened.trial("trial")))
    assert orders[0] == orders[1]
