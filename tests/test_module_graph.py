"""The diagram: what a trace or a proposal says, in boxes that hold their texts and do not meet."""

from dataclasses import replace
from typing import Any

import pytest

from agent.diagram import (
    PLANNED,
    TRACED,
    WIDTH,
    Box,
    Label,
    diagram_drawing,
    draw_diagram,
    fitted,
    graph_data,
    layout,
)
from agent.module_graph import parsed, planned_graph, stored_trace, traced_graph
from agent.plotting import LEAST_PT, Data, painted, text_width
from agent.report_rows import Rows, read_rows
from memory.records import Event, Module
from memory.store import Store
from tests.campaigns import HOSTILE, build_campaign
from tests.drawn import drawn, outside, overlaps, printed_pt, texts

MODULES = (
    Module("residual_encoder", "encoder", (0, 1)),
    Module("attention_gate", "skip", (0,)),
    Module("fine_supervision", "heads", ()),
)
MANY = (
    *(Module("squeeze_excitation", "encoder", (0, 1)), Module("block_attention", "encoder", (1,))),
    *(Module("blur_pool", "downsample", (1, 2)), Module("attention_gate", "skip", (0, 1))),
    *(Module("dense_skip", "skip", (0,)), Module("linear_attention", "bottleneck", ())),
    *(Module("graph_aggregation", "decoder", (0, 1, 2)), Module("even_supervision", "heads", ())),
)


def node(name: str, shape: list[int], *inputs: list[int], parameters: int = 1200) -> dict[str, Any]:
    return {"class": name, "shape": shape, "parameters": parameters, "inputs": list(inputs)}


TRACE = [
    node("ResidualStage", [8, 64, 56], [-1]),
    node("ResidualStage", [16, 32, 28], [0]),
    node("ConvStage", [32, 16, 14], [1], parameters=0),
    node("ConvTranspose2d", [16, 32, 28], [2]),
    node("ConvStage", [16, 32, 28], [1, 3]),
    node("Conv2d", [3, 32, 28], [4]),
    node("AttentionGate", [8, 64, 56], [0], [4]),
    node("ConvTranspose2d", [8, 64, 56], [4]),
    node("ConvStage", [8, 64, 56], [6, 7]),
    node("Conv2d", [3, 64, 56], [8]),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = build_campaign(tmp_path_factory.mktemp("graph") / "campaign")
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def with_trace(rows: Rows, trace: object, commit: str | None = None) -> Rows:
    """Return the rows with a dry run that told a trace."""
    verdicts = [{"step": "static", "evidence": {}}, {"step": "meta", "evidence": {"graph": trace}}]
    figures = {"commit": commit or f"{1:040x}", "verdicts": verdicts}
    return replace(rows, events=(*rows.events, Event("dry_run", "passed", figures)))


def assert_legible(data: Data) -> None:
    figure = drawn(draw_diagram, data)
    assert printed_pt(figure) >= LEAST_PT - 0.01
    assert not overlaps(figure)
    assert not outside(figure)
    shapes, height = layout(data)
    boxes = [s for s in shapes if isinstance(s, Box) and not s.is_new]
    for place, one in enumerate(boxes):
        assert one.x >= 0
        assert one.x + one.width <= WIDTH
        assert one.y + one.height <= height
        for other in boxes[place + 1 :]:
            apart_x = one.x + one.width <= other.x or other.x + other.width <= one.x
            apart_y = one.y + one.height <= other.y or other.y + other.height <= one.y
            assert apart_x or apart_y, (one, other)
    for label in (s for s in shapes if isinstance(s, Label) and s.anchor == "left"):
        inside = [
            b for b in boxes if b.x <= label.x <= b.x + b.width and b.y <= label.y <= b.y + b.height
        ]
        ends = label.x + text_width(label.text, label.size, bold=label.bold)
        assert all(ends <= box.x + box.width for box in inside), label


def test_a_trace_becomes_a_u() -> None:
    graph = traced_graph(parsed(TRACE), MODULES)
    spots = {(p.side, p.level): p for p in graph.places}
    assert set(spots) == {
        *(("encoder", 0), ("encoder", 1), ("bottleneck", 2), ("skip", 0)),
        *(("decoder", 1), ("decoder", 0)),
    }
    assert spots["encoder", 0].shape == (8, 64, 56)
    assert spots["decoder", 1].shape == (16, 32, 28)
    assert spots["decoder", 0].shape == (8, 64, 56)
    assert [(p.title, p.is_new) for p in spots["skip", 0].parts] == [("attention gates", True)]
    assert [p.title for p in spots["decoder", 0].parts] == [
        "ConvTranspose2d",
        "ConvStage",
        "Conv2d",
    ]
    assert graph.heads == ("fine deep supervision",)
    assert (("encoder", 0), ("skip", 0)) in graph.edges
    assert (("decoder", 1), ("skip", 0)) in graph.edges
    assert (("encoder", 1), ("decoder", 1)) in graph.edges
    assert (("encoder", 0), ("decoder", 0)) not in graph.edges
    assert graph.is_traced


def test_neighbours_of_one_class_are_one_line() -> None:
    trace = [node("Block", [4, 8, 8], [-1]), *(node("Block", [4, 8, 8], [n]) for n in range(3))]
    (place,) = traced_graph(parsed(trace), ()).places
    assert [(p.title, p.calls, p.parameters) for p in place.parts] == [("Block", 4, 4800)]


@pytest.mark.parametrize(
    "said",
    [
        *(None, [], "x", [1], [{}], [node("A", [4, 8, 8], [0])], [node("A", [4, 8], [-1])]),
        *(
            [node("A", [4, 8, 8], [-2])],
            [node("A", [4, -8, 8], [-1])],
            [node("A", [True, 8, 8], [-1])],
        ),
        [node("A", [4, 8, 8], [-1], parameters=-1)],
        [node("A", [4, 8, 8], [-1]), node("B", [4, 8, 8, 8], [0])],
        [node("A", [4, 8, 8], [-1]) | {"class": 3}],
        [node("A", [4, 8, 8], [-1]) | {"inputs": {"0": 1}}],
        [node("A", [4, 8, 8], [-1])] * 401,
        [node("A", [4.0, 8, 8], [-1])],  # type: ignore[list-item]
    ],
)
def test_a_trace_that_our_code_did_not_write_is_none(said: object, rows: Rows) -> None:
    assert parsed(said) == ()
    drawing = diagram_drawing(with_trace(rows, said), "proposal0")
    assert drawing is not None
    assert drawing.caption.startswith(PLANNED)


def test_the_diagram_is_drawn_from_the_trace_of_the_network_that_was_confirmed(rows: Rows) -> None:
    drawing = diagram_drawing(with_trace(rows, TRACE), "proposal0")
    assert drawing is not None
    assert drawing.caption.startswith(TRACED)
    said = " ".join(text.get_text() for text in texts(drawn(draw_diagram, drawing.data)))
    assert "8 \N{MULTIPLICATION SIGN} 64 \N{MULTIPLICATION SIGN} 56" in said
    assert "residual encoder, 1.2k" in said
    assert_legible(drawing.data)
    strange = with_trace(rows, TRACE, commit="f" * 40)
    assert stored_trace(strange, f"{1:040x}") == ()
    assert stored_trace(rows, None) == ()


def test_without_a_trace_the_proposal_is_drawn(rows: Rows) -> None:
    drawing = diagram_drawing(rows, "proposal0")
    assert drawing is not None
    assert drawing.caption.startswith(PLANNED)
    new = [s for s in layout(drawing.data)[0] if isinstance(s, Box) and s.is_new]
    assert len(new) == 5 + 1  # and the legend's
    said = [text.get_text() for text in texts(drawn(draw_diagram, drawing.data))]
    assert "128 channels" in said
    assert diagram_drawing(rows, "nobody") is None


@pytest.mark.parametrize(
    "features", [[], [8, 16], [8, 16, 32, 64], [32, 64, 128, 256, 512, 512, 512, 512]]
)
def test_texts_stay_in_their_boxes_and_boxes_apart(features: list[int]) -> None:
    for modules in ((), MODULES, MANY):
        data = graph_data(planned_graph(features, modules)) | {"simulated": True}
        assert_legible(data)


def test_many_parts_are_counted_and_the_new_ones_are_kept() -> None:
    trace = [node(f"Layer{n}", [4, 8, 8], [n - 1]) for n in range(30)]
    trace += [node("ResidualStage", [4, 8, 8], [29])]
    data = graph_data(traced_graph(parsed(trace), MODULES)) | {"simulated": False}
    assert_legible(data)
    said = [text.get_text() for text in texts(drawn(draw_diagram, data))]
    assert "and 25 more" in said
    assert any(line.startswith("residual encoder") for line in said)


def test_hostile_names_are_drawn_as_plain_letters(rows: Rows) -> None:
    hostile = HOSTILE[:50]
    trace = [node(hostile, [8, 64, 56], [-1]), node("W" * 60, [16, 32, 28], [0])]
    data = graph_data(traced_graph(parsed(trace), (Module(hostile, "encoder", (0,)),)))
    assert_legible(data | {"simulated": True})
    files = painted(draw_diagram, data | {"simulated": False})
    assert files == painted(draw_diagram, data | {"simulated": False})
    assert b"<script" not in files["svg"]
    assert fitted("", 50.0) == []
    assert all(text_width(line, 9.6) <= 60 for line in fitted("W" * 60, 60.0))


def test_a_stage_that_sees_another_level_is_joined_by_a_dashed_line() -> None:
    trace = [*TRACE, node("ConvStage", [8, 64, 56], [1, 8])]
    data = graph_data(traced_graph(parsed(trace), ())) | {"simulated": False}
    assert_legible(data)
    said = [text.get_text() for text in texts(drawn(draw_diagram, data))]
    assert "other connection" in said


def test_volumes_are_traced_like_slices() -> None:
    trace = [node("A", [8, 16, 64, 56], [-1]), node("B", [16, 16, 32, 28], [0])]
    graph = traced_graph(parsed(trace), ())
    assert [(p.side, p.level) for p in graph.places] == [("encoder", 0), ("bottleneck", 1)]
