"""Figures: drawn from rows, bound to them, the same bytes each time, and sound on odd input."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.case_figure import cropped, notable_cases, read_slice
from agent.diagram import Box, diagram_drawing, layout, paint_diagram, to_svg
from agent.figures import drawings, forest_drawing, paint_all, paired_drawing, selection_drawing
from agent.plotting import Drawing, safe_label
from agent.report_rows import Rows, branch_letters, read_rows
from agent.tree_figure import paint_tree, tree_data
from memory.errors import ReportError
from memory.records import Kind, Metric, SplitName, digest
from memory.store import Store
from tests.campaigns import HOSTILE, build_campaign

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("figures") / "campaign")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def test_a_finished_campaign_has_every_figure(folder: Path, rows: Rows) -> None:
    names = [drawing.name for drawing in drawings(rows, folder / "report")]
    assert names == ["tree", "network", "paired", "forest", "selection", "cases"]


def test_a_changed_score_changes_the_digest_of_what_is_drawn(rows: Rows) -> None:
    trial = rows.of(Kind.CONFIRM)[0].id
    first = next(s for s in rows.scores[trial] if s.metric is Metric.DICE)
    scores = tuple(replace(s, value=0.123456) if s is first else s for s in rows.scores[trial])
    changed = replace(rows, scores={**rows.scores, trial: scores}, _values={})
    for draw in (paired_drawing, forest_drawing):
        before, after = draw(rows, rows.finalists[0]), draw(changed, changed.finalists[0])
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


def test_painting_twice_gives_the_same_bytes(rows: Rows) -> None:
    data = tree_data(rows)
    assert paint_tree(data) == paint_tree(data)


def test_simulated_subjects_are_named_in_every_figure(folder: Path, rows: Rows) -> None:
    for drawing in drawings(rows, folder / "report"):
        assert drawing.data["simulated"] is True
    shapes, height = layout({"features": [8, 16], "modules": [], "simulated": True})
    assert "simulated subjects" in to_svg(shapes, height)


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


def test_the_diagram_puts_modules_at_their_stages(rows: Rows) -> None:
    drawing = diagram_drawing(rows, "proposal0")
    assert isinstance(drawing, Drawing)
    root = ET.fromstring(paint_diagram(drawing.data)["svg"])
    boxes = [r for r in root.iter(f"{SVG}rect") if r.get("stroke-dasharray")]
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert len(boxes) == 5
    assert texts.count("residual encoder") == 2
    assert texts.count("attention gates") == 3
    assert "128 channels" in texts


def test_boxes_of_the_diagram_do_not_overlap() -> None:
    modules = [
        ["a", "encoder", [0, 1]],
        ["b", "encoder", [1]],
        ["c", "downsample", [1, 2]],
        ["d", "skip", [0, 1]],
        ["e", "skip", [0]],
        ["f", "bottleneck", []],
        ["g", "decoder", [0, 1, 2]],
        ["h", "heads", []],
    ]
    shapes, _ = layout({"features": [8, 16, 32, 64], "modules": modules, "simulated": False})
    boxes = [s for s in shapes if isinstance(s, Box)]
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            apart_x = one.x + one.width <= other.x or other.x + other.width <= one.x
            apart_y = one.y + one.height <= other.y or other.y + other.height <= one.y
            assert apart_x or apart_y, (one, other)


def test_hostile_names_are_escaped_in_the_diagram_and_safe_in_labels() -> None:
    data = {"features": [8, 16], "modules": [[HOSTILE, "encoder", [0]]], "simulated": False}
    shapes, height = layout(data)
    drawn = to_svg(shapes, height)
    assert "<script" not in drawn
    ET.fromstring(drawn)
    assert "数" not in safe_label("数 _x")
    assert not safe_label("_hidden").startswith("_")


def test_notable_cases_follow_the_rows(rows: Rows) -> None:
    found = {n.role: n.case for n in notable_cases(rows)}
    assert set(found) == {"worst", "most improved", "most harmed"}
    assert set(found.values()) <= {c.case for c in rows.cases(SplitName.LOCKED_TEST)}


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
