"""Figures: drawn from rows, bound to them, the same bytes each time, and sound on odd input."""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from agent.budget_figure import budget_drawing, draw_budget
from agent.case_figure import cropped, draw_cases, notable_cases, read_slice
from agent.curve_figure import curves_drawing, draw_curves
from agent.diagram import draw_diagram
from agent.facts import facts_of
from agent.figures import (
    MOST_PAINTED,
    PAINTED,
    draw_forest,
    draw_selection,
    drawings,
    forest_drawing,
    paint_all,
    selection_drawing,
)
from agent.paired_figure import draw_paired, paired_drawing
from agent.plotting import LEAST_PT, PALETTE, PRINTED, SMALL_PT, WIDE_IN, Data, safe_label, wrapped
from agent.report_rows import Rows, branch_letters, read_rows
from agent.tree_figure import draw_tree, tree_data
from memory.errors import ReportError
from memory.records import Kind, Metric, SplitName, Status, digest
from memory.store import Store
from tests.campaigns import HOSTILE, build_campaign
from tests.drawn import colours, drawn, outside, overlaps, printed_pt, texts

DRAW: dict[str, Callable[[Data], Figure]] = {
    "tree": draw_tree,
    "budget": draw_budget,
    "curves": draw_curves,
    "network": draw_diagram,
    "paired": draw_paired,
    "forest": draw_forest,
    "selection": draw_selection,
}
NAMES = ["tree", "budget", "curves", "network", "paired", "forest", "selection", "cases"]
LONG = "Boundary-guided residual encoder with gated skips and scale-aware aggregation of patches"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("figures") / "campaign")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    return with_curves(rows_of(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    folder = build_campaign(tmp_path_factory.mktemp("hostile") / "campaign", hostile=True)
    return folder, with_curves(rows_of(folder))


def rows_of(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def with_curves(rows: Rows) -> Rows:
    """Return the rows with an invented curve for each training that ended well."""
    curves = {
        t.id: tuple(math.exp(-step / 8) + 0.01 * t.seed % 0.05 for step in range(20))
        for t in rows.trials
        if t.status is Status.OK
    }
    return replace(rows, curves=curves)


@pytest.fixture(scope="module")
def figures(folder: Path, rows: Rows) -> dict[str, Figure]:
    return figures_of(folder, rows)


@pytest.fixture(scope="module")
def files(folder: Path, rows: Rows) -> dict[str, bytes]:
    return paint_all(drawings(rows, folder / "report"))


def figures_of(folder: Path, rows: Rows) -> dict[str, Figure]:
    """Return every figure of a campaign, laid out."""
    cases = folder / "report" / "cases"
    draw = DRAW | {"cases": lambda data: draw_cases(data, cases)}
    found = drawings(rows, folder / "report")
    return {one.name: drawn(draw[one.name], one.data) for one in found}


def assert_legible(figure: Figure, name: str = "") -> None:
    assert printed_pt(figure) >= LEAST_PT - 0.01, name
    assert not overlaps(figure), name
    assert not outside(figure), name


def test_a_finished_campaign_has_every_figure(folder: Path, rows: Rows) -> None:
    assert [drawing.name for drawing in drawings(rows, folder / "report")] == NAMES


def test_figures_are_legible_in_print(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        assert_legible(figure, name)


def test_hostile_and_long_names_leave_figures_legible(hostile: tuple[Path, Rows]) -> None:
    folder, rows = hostile
    for name, figure in figures_of(folder, rows).items():
        assert_legible(figure, name)
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in "".join(t.get_text() for t in texts(figure))


def test_figures_keep_to_the_palette(figures: dict[str, Figure]) -> None:
    allowed = {c.lower() for c in PALETTE} | {"#ffffff", "#f4f6f7", "#000000"}
    for name, figure in figures.items():
        assert colours(figure) <= allowed, (name, colours(figure) - allowed)


def test_a_changed_score_changes_the_digest_of_what_is_drawn(rows: Rows) -> None:
    trial = rows.of(Kind.CONFIRM)[0].id
    first = next(s for s in rows.scores[trial] if s.metric is Metric.DICE)
    scores = tuple(replace(s, value=0.123456) if s is first else s for s in rows.scores[trial])
    changed = replace(rows, scores={**rows.scores, trial: scores}, _values={})
    for before, after in (
        (paired_drawing(rows), paired_drawing(changed)),
        (forest_drawing(rows, rows.finalists[0]), forest_drawing(changed, changed.finalists[0])),
    ):
        assert before is not None
        assert after is not None
        assert digest(before.data) != digest(after.data)


def test_the_tree_shows_every_trial_of_the_search_and_marks_them(rows: Rows) -> None:
    nodes = tree_data(rows)["nodes"]
    assert len(nodes) == 10
    assert [n["letter"] for n in nodes if n["cut"]] == ["B"]
    assert [n["letter"] for n in nodes if n["delta"] is None] == ["C"]
    assert {n["letter"] for n in nodes if n["finalist"]} == {"A"}
    child = next(n for n in nodes if n["rung"] == 1 and not n["baseline"])
    assert child["parent"] in {n["id"] for n in nodes}


def many_nodes(rows: Rows, count: int) -> Data:
    """Return a tree with that many trials of the search."""
    data = tree_data(rows)
    model = next(n for n in data["nodes"] if n["letter"] and n["delta"] is not None)
    random = np.random.default_rng(3)
    nodes = [
        model
        | {
            "id": str(place),
            "parent": str(place // 3) if place else None,
            "hours": float(place / 7),
            "delta": None if place % 9 == 0 else float(random.normal(0.0, 0.01)),
            "cut": place % 4 == 0,
            "finalist": place in (70, 71),
            "rung": place % 3,
            "letter": list(letters(count))[place],
        }
        for place in range(count)
    ]
    return data | {"nodes": nodes, "name": LONG * 3}


def letters(count: int) -> list[str]:
    return [
        chr(65 + n % 26) if n < 26 else chr(64 + n // 26) + chr(65 + n % 26) for n in range(count)
    ]


def test_a_tree_of_many_trials_is_legible_and_whole(rows: Rows) -> None:
    data = many_nodes(rows, 300)
    figure = drawn(draw_tree, data)
    assert_legible(figure)
    places = {(round(n["hours"], 6), n["delta"]) for n in data["nodes"] if n["delta"] is not None}
    marks = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    points = np.vstack([np.asarray(c.get_offsets()) for c in marks])
    shown = {(round(float(x), 6), float(y)) for x, y in points}
    assert places <= shown
    written = [text.get_text() for text in figure.axes[0].texts]
    assert set(written) >= {data["nodes"][70]["letter"], data["nodes"][71]["letter"]}
    assert len(written) > 20


def test_a_tree_of_one_trial_is_drawn(rows: Rows) -> None:
    data = tree_data(rows)
    assert_legible(drawn(draw_tree, data | {"nodes": data["nodes"][:1]}))


def test_painting_twice_gives_the_same_bytes(
    folder: Path, rows: Rows, files: dict[str, bytes]
) -> None:
    PAINTED.clear()
    assert paint_all(drawings(rows, folder / "report")) == files
    kept = len(PAINTED)
    assert 0 < kept <= MOST_PAINTED
    assert paint_all(drawings(rows, folder / "report")) == files
    assert len(PAINTED) == kept


def test_simulated_subjects_are_named_in_every_figure(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        assert "simulated subjects" in [text.get_text() for text in texts(figure)], name


def test_figures_are_vector_graphics_but_the_gallery(files: dict[str, bytes]) -> None:
    for name in NAMES:
        assert files[f"{name}.pdf"].startswith(b"%PDF")
        if name != "cases":
            assert ET.fromstring(files[f"{name}.svg"]) is not None
            assert b"<image" not in files[f"{name}.svg"], name
    assert files["cases.png"].startswith(b"\x89PNG")


def test_a_sidecar_names_rows_and_files(rows: Rows) -> None:
    drawing = selection_drawing(rows)
    assert drawing is not None
    files = paint_all([drawing])
    record = json.loads(files["selection.json"])
    assert record["rows_sha256"] == digest(drawing.data)
    assert set(record["files"]) == {"selection.svg", "selection.pdf"}


def test_alternative_texts_and_captions_hold_no_number(folder: Path, rows: Rows) -> None:
    for drawing in drawings(rows, folder / "report"):
        for text in (drawing.alt, drawing.caption):
            assert not any(c.isnumeric() for c in text.replace("HD95", "")), drawing.name


def panel(cases: int, *, undefined: int = 0) -> Data:
    """Return the pairs of a finalist with that many cases."""
    random = np.random.default_rng(5)
    base = random.uniform(0.2, 0.95, cases)
    pairs = [
        [float(a), float(a + d)] for a, d in zip(base, random.normal(0, 0.02, cases), strict=True)
    ]
    ordered = sorted(pairs, key=lambda pair: pair[1] - pair[0])
    told = {"undefined": undefined, "delta": [0.001, -0.01, 0.012]}
    return told | {"pairs": ordered, "candidate": LONG * 2, "batch_size": None}


@pytest.mark.parametrize("cases", [2, 6, 72, 400])
def test_every_pair_is_drawn_and_no_text_covers_another(cases: int) -> None:
    panels = [panel(cases, undefined=2), panel(cases)]
    data = {"panels": panels, "simulated": False}
    figure = drawn(draw_paired, data)
    assert_legible(figure)
    for row, (left, right) in zip(panels, (figure.axes[:2], figure.axes[2:]), strict=True):
        marks = [c for c in left.collections if isinstance(c, PathCollection)]
        shown = np.vstack([np.asarray(c.get_offsets()) for c in marks]).tolist()
        assert sorted(shown) == sorted(row["pairs"])
        heights = sorted(float(b.get_height()) for c in right.containers for b in c)
        assert heights == pytest.approx([b - a for a, b in row["pairs"]])
        legend = left.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= left.get_window_extent().y1 - 2
    said = [text.get_text() for text in texts(figure)]
    assert f"{cases} locked cases, sorted; 2 undefined" in said


def test_a_single_value_and_ties_are_drawn() -> None:
    row = panel(1) | {"pairs": [[0.5, 0.5]], "delta": [0.0, None, None]}
    assert_legible(drawn(draw_paired, {"panels": [row], "simulated": True}))


def test_undefined_values_are_said(rows: Rows) -> None:
    data = forest_drawing(rows, rows.finalists[0]).data
    entries = [[LONG, None, None, None], ["b" * 60, 0.01, None, None], ["c", -0.02, -0.03, 0.0]]
    several = data | {"rows": {str(metric): entries * 6 for metric in Metric}}
    figure = drawn(draw_forest, several)
    assert_legible(figure)
    assert [t.get_text() for t in texts(figure)].count("undefined") == 6 * len(Metric)


def test_what_selection_promised_is_legible_for_many_finalists() -> None:
    spans = [[0.02, 0.01, 0.03], [None, None, None]]
    finalists = [[f"{place} {LONG}", *spans[:: 1 - 2 * (place % 2)]] for place in range(5)]
    figure = drawn(draw_selection, {"finalists": finalists, "simulated": True})
    assert_legible(figure)
    assert figure.get_figwidth() / WIDE_IN == pytest.approx(0.625)
    assert sum(t.get_text() == "undefined" for t in texts(figure)) == 5


def test_the_budget_adds_up_to_the_facts(rows: Rows) -> None:
    drawing = budget_drawing(rows)
    assert drawing is not None
    facts = {fact.key: fact.value for fact in facts_of(rows)}
    bars = drawing.data["bars"]
    total = math.fsum(good + lost for _, _, good, lost, _ in bars)
    assert total == pytest.approx(facts["compute.seconds.total"])
    assert math.fsum(bar[3] for bar in bars) == pytest.approx(facts["compute.failed.seconds.total"])
    assert {bar[1] for bar in bars} == {"baseline", "search", "confirmation"}


def test_the_failed_part_of_the_budget_is_hatched(rows: Rows) -> None:
    drawing = budget_drawing(rows)
    assert drawing is not None
    figure = drawn(draw_budget, drawing.data)
    bars = [b for c in figure.axes[0].containers for b in c]
    lost = [bar for bar in drawing.data["bars"] if bar[3]]
    assert [bool(b.get_hatch()) for b in bars].count(True) == len(lost) == 1
    assert any("of it failed" in text.get_text() for text in texts(figure))


@pytest.mark.parametrize("longest_s", [3.0, 900.0, 4e6])
def test_the_budget_is_legible_at_any_size(longest_s: float) -> None:
    names = ("search", "baseline", "staged selection", "confirmation", "ablation")
    bars = [[rung, name, longest_s, longest_s / 3, 1000] for rung in range(3) for name in names]
    figure = drawn(draw_budget, {"bars": bars, "simulated": True})
    assert_legible(figure)
    assert len([b for c in figure.axes[0].containers for b in c]) == 2 * len(bars)


def test_bands_lie_between_the_smallest_and_the_largest_seed(rows: Rows) -> None:
    drawing = curves_drawing(rows)
    assert drawing is not None
    figure = drawn(draw_curves, drawing.data)
    sides = drawing.data["panels"][0]["sides"]
    assert [side["name"] for side in sides] == ["baseline", "candidate"]
    axes = figure.axes[0]
    for side, band, line in zip(sides, axes.collections, axes.lines, strict=True):
        assert len(side["trials"]) == len(side["losses"]) == 3
        losses = np.array(side["losses"])
        points = np.asarray(band.get_paths()[0].vertices)
        assert float(points[:, 1].min()) == pytest.approx(losses.min())
        assert float(points[:, 1].max()) == pytest.approx(losses.max())
        assert np.asarray(line.get_ydata()) == pytest.approx(losses.mean(axis=0))
        assert np.asarray(line.get_xdata())[-1] == side["iterations"]
    assert len({line.get_linestyle() for line in axes.lines}) == 2


def test_a_gap_in_a_curve_is_a_gap_in_its_figure(rows: Rows) -> None:
    curves = {name: (1.0, None, 0.5, 0.25) for name in rows.curves}
    drawing = curves_drawing(replace(rows, curves=curves))
    assert drawing is not None
    line = drawn(draw_curves, drawing.data).axes[0].lines[0]
    assert np.isnan(np.asarray(line.get_ydata(), dtype=float)).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_before_a_confirmation_curves_are_those_of_the_search(tmp_path: Path) -> None:
    rows = with_curves(rows_of(build_campaign(tmp_path / "campaign", confirmed=False)))
    drawing = curves_drawing(rows)
    assert drawing is not None
    assert [side["name"] for side in drawing.data["panels"][0]["sides"]] == ["baseline", "idea A"]
    assert_legible(drawn(draw_curves, drawing.data))
    assert curves_drawing(replace(rows, curves={})) is None
    only_baseline = {t.id: rows.curves[t.id] for t in rows.of(Kind.BASELINE)}
    assert curves_drawing(replace(rows, curves=only_baseline)) is None


def test_several_finalists_have_a_panel_each(rows: Rows) -> None:
    drawing = curves_drawing(rows)
    assert drawing is not None
    panels = [drawing.data["panels"][0] | {"title": f"{place} {LONG}"} for place in range(3)]
    figure = drawn(draw_curves, drawing.data | {"panels": panels})
    assert_legible(figure)
    assert len(figure.axes) == 4


def test_labels_are_safe_and_wrap() -> None:
    assert "数" not in safe_label("数 _x")
    assert not safe_label("_hidden").startswith("_")
    assert wrapped("", 10) == ""
    for text in (LONG, "x" * 300, HOSTILE, "a\nb\tc"):
        lines = wrapped(text, 20).split("\n")
        assert len(lines) <= 2
        assert all(len(line) <= 20 for line in lines)
    assert pytest.approx(7.0, abs=0.03) == SMALL_PT * PRINTED


def test_notable_cases_follow_the_rows(rows: Rows) -> None:
    found = {n.role: n.case for n in notable_cases(rows)}
    assert set(found) == {"worst", "most improved", "most harmed"}
    assert set(found.values()) <= {c.case for c in rows.cases(SplitName.LOCKED_TEST)}


def test_the_caption_names_the_cases_that_there_are(
    folder: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def caption() -> str:
        return next(d for d in drawings(rows, folder / "report") if d.name == "cases").caption

    whole = notable_cases(rows)
    assert caption().startswith("The worst, most improved and most harmed case of the locked test")
    monkeypatch.setattr("agent.case_figure.notable_cases", lambda rows: whole[:2])
    assert caption().startswith("The worst and most improved case of the locked test, chosen by")
    monkeypatch.setattr("agent.case_figure.notable_cases", lambda rows: whole[:1])
    assert caption().startswith("The worst case of the locked test, chosen by rule: ")


def test_a_case_with_two_roles_is_shown_once(folder: Path, rows: Rows) -> None:
    shown = next(d for d in drawings(rows, folder / "report") if d.name == "cases").data["cases"]
    roles = [role for entry in shown for role in entry[0].split(" and ")]
    assert sorted(roles) == sorted(n.role for n in notable_cases(rows))
    assert len({entry[1] for entry in shown}) == len(shown)


def test_outlines_are_told_apart_by_their_width(figures: dict[str, Figure]) -> None:
    lines = figures["cases"].legends[0].get_lines()
    handles = {line.get_label(): line.get_linewidth() for line in lines}
    assert handles["reference (thick)"] >= 2 * handles["prediction (thin)"]


def test_a_slice_is_data_and_nothing_else(tmp_path: Path) -> None:
    good: dict[str, Any] = {"image": np.zeros((4, 5)), "label": np.zeros((4, 5), int)}
    good |= {"baseline": np.zeros((4, 5), int), "candidate": np.zeros((4, 5), int)}
    np.savez(tmp_path / "good.npz", **good)
    assert cropped(read_slice(tmp_path / "good.npz")).image.shape == (4, 5)
    np.savez(tmp_path / "pickled.npz", **(good | {"label": np.array([{}], dtype=object)}))
    with pytest.raises(ReportError, match=r"pickled\.npz"):
        read_slice(tmp_path / "pickled.npz")
    np.savez(tmp_path / "shape.npz", **(good | {"label": np.zeros((3, 5), int)}))
    with pytest.raises(ReportError, match="shapes"):
        read_slice(tmp_path / "shape.npz")


def test_letters_go_on_after_z(rows: Rows) -> None:
    assert list(branch_letters(rows).values()) == ["A", "B", "C"]
    branches = tuple(replace(rows.branches[0], id=str(n)) for n in range(28))
    letters = branch_letters(replace(rows, branches=branches))
    assert (letters["25"], letters["26"], letters["27"]) == ("Z", "AA", "AB")
