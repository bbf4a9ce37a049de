"""What is said of a network against the lines of its code: real networks, and hostile texts."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from agent.bibliography import load_references
from agent.binding import html_problems
from agent.check import check_campaign
from agent.code_places import code_of, find
from agent.confirmed_sources import read_sources
from agent.facts import facts_of
from agent.figures import drawings
from agent.markdown_report import markdown_problems, render_markdown
from agent.method_code import CHANGED, OWN, SHIPPED, Link, MethodCode, method_code
from agent.method_facts import MOST_ITEMS, build_method_view
from agent.network_source import network_source
from agent.report import HtmlWriter, Picture, render_html
from agent.report_rows import Rows, read_rows
from agent.report_view import build_view
from agent.suggestions import Clue
from agent.trials import network_hash
from memory.networks import Networks
from memory.records import Event, Fact, Figures, Kind, Module, Proposal, SplitName, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.placement import placements
from tests.campaigns import build_campaign
from tests.scripted_model import with_class

GATES = Module("attention_gate", "skip", (0, 1, 2))
RESIDUAL = Module("residual_encoder", "encoder", (0, 1))
COMMIT = f"{1:040x}"
REFERENCES = load_references()
NET = """\
from torch import nn
{imports}

class Other(nn.Module):
    def forward(self, x):
        return x + 1


{classes}
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.first = nn.Conv2d(n, n, 1)
        {init}

    def forward(self, x):
        x = self.first(x)
        {forward}


def build_network(in_channels, num_classes, spec):
    return Net(in_channels)
"""
PART = """\
{%- import 'method.j2' as me with context -%}
{% for module in v.modules %}<p>{{ me.told(loop.index0) }}</p>{% endfor %}
<p>{{ me.lead() }}</p>{% if v.method.parts %}
{% for one in v.method.parts %}<p>{{ me.where(one, loop.index0) }} {{ me.active(one) }} {{ me.outcome(one) }}</p>{% endfor %}
<p>{{ me.lacking() }} {{ me.beyond() }}</p>{% endif %}
"""
GATE = """\
class {name}(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 1)

    def forward(self, x):
        return x * self.conv(x)


"""


def proposal(*modules: Module, detail: Figures | None = None) -> Proposal:
    return Proposal("p", "T", "m", modules, "r", (), "llm", None, detail or {})


def net(
    *, classes: str = "", init: str = "pass", forward: str = "return x", imports: str = ""
) -> str:
    return NET.format(classes=classes, init=init, forward=forward, imports=imports)


def against(source: str, *modules: Module, detail: Figures | None = None) -> MethodCode:
    found = method_code(proposal(*modules, detail=detail), source)
    assert found is not None
    return found


def only(source: str, name: str) -> Link:
    [link] = against(source, Module(name, "skip", (0,))).links
    return link


def lines_of(source: str, first: int, last: int) -> str:
    return "\n".join(source.splitlines()[first - 1 : last])


def names(code: MethodCode, part: str) -> list[str]:
    return [item.name for item in getattr(code, part)]


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_of_the_grammar_is_tied_to_its_lines(name: str) -> None:
    for module in (
        placements(name, dims=2, n_stages=5)[0],
        placements(name, dims=2, n_stages=5)[-1],
    ):
        source = network_source(proposal(module))
        code = against(source, module)
        [link] = code.links
        assert link.found.by == "name"
        assert link.found.span is not None
        own = lines_of(source, *link.found.span)
        assert re.match(rf"(class|def) {link.wanted}\b", own)
        assert (link.state, link.origin) == ("complete", SHIPPED), link.why
        assert link.places
        assert all(
            link.wanted in source.splitlines()[n - 1] or "kind(" in source.splitlines()[n - 1]
            for n in link.places
        )
        assert code.is_written
        assert (code.changed, code.others) == ((), ())
        assert "build_network" in names(code, "planned")


def test_helpers_are_part_of_a_module() -> None:
    module = Module("mednext", "decoder", (0, 1))
    source = network_source(proposal(module))
    [link] = against(source, module).links
    assert [item.name for item in link.helpers] == ["MedNeXtBlock"]
    assert link.inside == ("Decoder",)
    changed = source.replace("nn.GELU()", "nn.ReLU()")
    [other] = against(changed, module).links
    assert other.digest != link.digest
    assert (link.origin, other.origin) == (SHIPPED, CHANGED)


def test_two_places_of_one_network_keep_their_order() -> None:
    source = network_source(proposal(RESIDUAL, GATES))
    found = against(source, RESIDUAL, GATES).links
    assert [link.wanted for link in found] == ["ResidualStage", "AttentionGate"]
    assert [link.inside for link in found] == [("Encoder",), ("Decoder",)]


def test_a_network_of_a_model_has_what_it_added_and_changed() -> None:
    module = Module("EdgeGate", "encoder", (0,))
    source = with_class(network_source(proposal(GATES)), "EdgeGate")
    code = against(source, GATES, module)
    assert [(one.state, one.origin) for one in code.links] == [
        ("complete", SHIPPED),
        ("complete", OWN),
    ]
    assert code.links[1].inside == ("Encoder",)
    assert names(code, "changed") == ["Encoder"]
    assert not code.is_written
    assert names(against(source, GATES), "others") == ["EdgeGate"]


def test_docstrings_and_comments_change_nothing() -> None:
    source = network_source(proposal(GATES)).replace(
        "    def forward", "    # a note\n    def forward"
    )
    code = against(source, GATES)
    assert not code.is_written
    assert code.changed == ()
    assert code.links[0].origin == SHIPPED


NAMED = {
    "attribute": ("self.edge_gate = Gate(n)", "return self.edge_gate(x)"),
    "registered": ("self.add_module('edge_gate', Gate(n))", "return self.edge_gate(x)"),
    "setattr": ("setattr(self, 'edge_gate', Gate(n))", "return getattr(self, 'edge_gate')(x)"),
    "dictionary": ("self.all = nn.ModuleDict({'edge_gate': Gate(n)})", "return self.all['edge_gate'](x)"),
    "key": ("self.all = nn.ModuleDict(); self.all['edge_gate'] = Gate(n)", "return self.all['edge_gate'](x)"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_another_name_is_found_by_what_keeps_it(name: str) -> None:
    init, forward = NAMED[name]
    link = only(net(classes=GATE.format(name="Gate"), init=init, forward=forward), "edge_gate")
    assert (link.found.name, link.found.by, link.state) == ("Gate", "attribute", "complete")
    assert link.inside == ("Net",)


def test_another_spelling_is_found() -> None:
    source = net(
        classes=GATE.format(name="EdgeGate"),
        init="self.g = EdgeGate(n)",
        forward="return self.g(x)",
    )
    link = only(source, "edge_gate")
    assert (link.found.name, link.found.by, link.state) == ("EdgeGate", "spelling", "complete")


def test_layers_of_torch_under_a_name_are_found_where_they_are_read() -> None:
    init = "self.edge_gate = nn.Sequential(nn.Conv2d(n, n, 1), nn.ReLU())"
    link = only(net(init=init, forward="return self.edge_gate(x)"), "edge_gate")
    assert (link.found.name, link.found.by, link.state) == ("", "attribute", "complete")
    assert link.digest
    assert only(net(init=init), "edge_gate").state == "missing"


def test_a_class_inside_another_one_is_found() -> None:
    inner = GATE.format(name="Gate").rstrip().replace("\n", "\n    ")
    source = net(
        classes=f"class Outer(nn.Module):\n    {inner}\n\n    def __init__(self, n):\n"
        "        super().__init__()\n        self.g = Outer.Gate(n)\n\n"
        "    def forward(self, x):\n        return self.g(x)\n\n\n",
        init="self.o = Outer(n)",
        forward="return self.o(x)",
    )
    link = only(source, "Gate")
    assert (link.found.by, link.found.within, link.state) == ("nested", "Outer", "complete")
    assert only(source.replace("self.o = Outer(n)", "pass"), "Gate").state == "missing"


def test_a_module_in_another_file_is_not_in_the_code() -> None:
    source = net(
        imports="from blocks import Gate", init="self.g = Gate(n)", forward="return self.g(x)"
    )
    link = only(source, "Gate")
    assert (link.found.by, link.state) == ("import", "missing")
    assert "elsewhere" in link.why


def test_a_class_that_is_named_and_never_built_is_missing() -> None:
    source = net(classes=GATE.format(name="Gate"))
    link = only(source, "Gate")
    assert (link.state, link.places) == ("missing", ())
    assert link.found.span is not None
    assert link.why.endswith("never built")
    assert names(against(source), "others") == ["Other", "Gate", "Net"]
    assert [item.is_used for item in against(source).others] == [False, False, True]


@pytest.mark.parametrize("name", ["/etc/passwd", "a b", "", "Gate\x00", "класс", "x" * 5000])
def test_a_name_that_no_class_can_have_is_missing(name: str) -> None:
    assert only(net(), name).state == "missing"


def test_a_test_of_a_type_builds_nothing() -> None:
    source = net(
        classes=GATE.format(name="Gate"),
        init="self.g: Gate = Gate(n)",
        forward="return self.g(x) if isinstance(self.g, Gate) else x",
    )
    line = next(n for n, text in enumerate(source.splitlines(), 1) if "self.g: Gate" in text)
    assert only(source, "Gate").places == (line,)


def test_a_class_under_another_name_is_built_where_that_is_called() -> None:
    source = net(
        classes=GATE.format(name="Gate"),
        init="kind = Gate\n        self.g = kind(n)",
        forward="return self.g(x)",
    )
    first = next(n for n, text in enumerate(source.splitlines(), 1) if "kind = Gate" in text)
    assert only(source, "Gate").places == (first, first + 1)


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "x = 1\x00",
        "",
        "x = (" * 200 + ")" * 200,
        "x = " + "a+" * 20_000 + "a\n",
        "x = a" + "[0]" * 900 + " = 1\n",
        "x" * (1 << 19),
        "\ud800",
    ],
    ids=["syntax", "null", "empty", "deep", "long", "subscripts", "large", "surrogate"],
)
def test_a_hostile_text_is_no_code_or_has_nothing(source: str) -> None:
    found = method_code(proposal(GATES), source)
    assert found is None or [one.state for one in found.links] == ["missing"]


def test_lines_are_counted_as_git_counts_them() -> None:
    source = 'x = "\x0c \u2028 \x1c"\n' + net(
        classes=GATE.format(name="Gate"), init="self.g = Gate(n)", forward="return self.g(x)"
    )
    code = code_of(source)
    assert code is not None
    found = find(code, ["Gate"])
    assert found.span is not None
    assert code.text(found.span).startswith("class Gate(nn.Module):\n")


def test_parts_that_are_only_described_are_promised_too() -> None:
    detail = {"ideas": {"Mixer": "mixes", "attention_gate": "x"}}
    code = against(network_source(proposal(GATES)), GATES, detail=detail)
    assert [(one.module, one.wanted, one.state) for one in code.links] == [
        (GATES, "AttentionGate", "complete"),
        (None, "Mixer", "missing"),
    ]


def test_fewer_instances_than_places_are_simplified() -> None:
    clue = Clue("dry.instances.AttentionGate", "", 1.0, "places")
    found = method_code(proposal(GATES), network_source(proposal(GATES)), [clue])
    assert found is not None
    assert found.links[0].state == "simplified"


def test_a_network_of_many_lines_is_tied_whole() -> None:
    layers = "".join(GATE.format(name=f"Gate{n}") for n in range(220))
    init = "self.all = nn.ModuleList([" + ", ".join(f"Gate{n}(n)" for n in range(220)) + "])"
    source = net(classes=layers, init=init, forward="return self.all[0](x)")
    assert len(source.splitlines()) > 2000
    code = against(source, *(Module(f"Gate{n}", "skip", (0,)) for n in range(0, 220, 20)))
    assert {one.state for one in code.links} == {"complete"}
    assert len(code.others) == 220 - 11 + 2


# The rows of a campaign.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("method") / "campaign")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def sourced(rows: Rows, source: str, *, hashed: str | None = None) -> Rows:
    """Return rows with the text of the confirmed network, and with its recorded hash."""
    trials = tuple(
        replace(t, network_hash=hashed) if t.commit == COMMIT else t for t in rows.trials
    )
    return replace(rows, sources={COMMIT: source}, trials=trials)


def dry_run(at: int, evidence: Figures, *, passed: bool = True) -> Event:
    verdicts = [{"step": "parts", "passed": passed, "evidence": evidence}]
    return Event("dry_run", "passed", {"commit": COMMIT, "verdicts": verdicts}, "t", id=at)


def ablation(rows: Rows, module: Module, delta: float | None, at: int) -> Event:
    finalist = next(t.id for t in rows.trials if t.commit == COMMIT)
    figures = {
        "finalist": finalist,
        "component": module.component,
        "position": module.position,
        "stages": list(module.stages),
        "split": "locked-test",
        "module": "m",
        "trials": [],
        "n_cases": 53,
        "n_seeds": 3,
        "undefined": 0,
        "delta": delta,
        "low": delta and delta - 0.01,
        "high": delta and delta + 0.01,
    }
    return Event("ablation", "without", figures, finalist, id=at)


def whole(rows: Rows) -> Rows:
    """Return rows with the real text, a dry run, and an ablation of one of the two modules."""
    found = sourced(rows, network_source(rows.proposals["proposal0"]))
    evidence = {
        "instances": {"ResidualStage": 2, "AttentionGate": 3},
        "effect": {"ResidualStage": 0.81234, "AttentionGate": 16763.7},
    }
    events = (dry_run(9001, evidence), ablation(rows, GATES, 0.0042, 9002))
    return replace(found, events=(*rows.events, *events))


def facts(rows: Rows) -> dict[str, Fact]:
    return {fact.key: fact for fact in facts_of(rows)}


def pages(rows: Rows, folder: Path) -> tuple[str, str]:
    """Return the page as HTML and the manuscript as Markdown."""
    chosen = drawings(rows, folder / "report")
    pictures = [Picture(d.name, d.alt, d.caption, "", f"{d.name}.svg") for d in chosen]
    told = (build_view(rows, REFERENCES), facts(rows), REFERENCES, pictures)
    return render_html(*told), render_markdown(*told)


def part(rows: Rows) -> tuple[str, dict[str, Fact]]:
    """Return the part on the code alone, as HTML, and the facts that it may print."""
    known = facts(rows)
    writer = HtmlWriter(known, REFERENCES)
    environment = Environment(
        loader=PackageLoader("templates", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=escape,
    )
    template = environment.from_string(PART)
    page = template.render(v=build_view(rows, REFERENCES), **writer.calls())
    assert html_problems(page, known) == []
    return page, known


def said(rows: Rows) -> str:
    """Return the text of the part on the code alone."""
    return plain(part(rows)[0])


def plain(page: str) -> str:
    """Return the text of a page without markup."""
    text = re.sub(r"<!--.*?-->|<[^>]*>", "", page).replace("&zwnj;", "").replace("`", "")
    return re.sub(r"\s+", " ", text.replace("\\", "").replace("&#39;", "'"))


@pytest.fixture(scope="module")
def printed(rows: Rows, folder: Path) -> tuple[str, str, dict[str, Fact]]:
    """The page and the manuscript of a whole campaign, and its facts."""
    full = whole(rows)
    return (*pages(full, folder), facts(full))


def test_facts_name_lines_of_the_commit(rows: Rows) -> None:
    found = facts(whole(rows))
    source = network_source(rows.proposals["proposal0"])
    for place, name in enumerate(("ResidualStage", "AttentionGate")):
        assert found[f"method.{place}.class"].text == name
        first, last = map(int, re.findall(r"\d+", found[f"method.{place}.lines"].text))
        assert lines_of(source, first, last).startswith(f"class {name}")
        address = f"commit:{COMMIT}:network.py#L{first}-L{last}"
        assert found[f"method.{place}.lines"].sources[0] == address
    assert found["method.0.active"].text == "0.812"
    assert found["method.1.active"].text == "16,800"
    assert found["method.1.active"].sources == ("event:9001",)
    assert found["method.1.ablation"].sources == ("event:9002",)
    assert [found[f"method.{n}.ablation"].text for n in (0, 1)] == [
        "not carried out",
        "compared",
    ]


def test_the_same_rows_give_the_same_facts(rows: Rows) -> None:
    assert facts_of(whole(rows)) == facts_of(whole(rows))


def test_the_pages_say_it_in_sentences(printed: tuple[str, str, dict[str, Fact]]) -> None:
    html, text, known = printed
    assert html_problems(html, known) == []
    assert markdown_problems(text, known) == []
    for page in (plain(html), plain(text)):
        assert "The class AttentionGate (network.py:" in page
        assert "disturbed, the logits changed" in page
        assert "In Dice, the whole network minus that without it is +0.004 [−0.006, +0.014]" in page
        assert "No ablation of it was carried out" in page
        assert "Every part that the proposal names is in the code." in page
        assert "to the letter what segwright writes" in page


def test_one_changed_line_number_is_found(printed: tuple[str, str, dict[str, Fact]]) -> None:
    html, text, known = printed
    for key in ("method.0.lines", "method.1.built", "method.digest"):
        own = known[key].text
        other = f"{own[:-1]}{'0' if own[-1] != '0' else '1'}"
        changed = html.replace(f">{own}<", f">{other}<")
        assert any(key in line for line in html_problems(changed, known))
    own = known["method.0.lines"].text
    assert markdown_problems(text.replace(own, f"{own}0"), known)


def test_a_check_tells_of_another_text_at_the_commit(rows: Rows, tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", searched=False)
    first = whole(rows)
    moved = sourced(first, "\n" + first.sources[COMMIT])
    other = sourced(first, first.sources[COMMIT].replace("0.01", "0.02"))
    gone = replace(first, sources={})
    with Store.open(folder / "campaign.db") as store:
        store.replace_facts(facts_of(first))
    for changed in (moved, other, gone):
        found = check_campaign(folder, derive=lambda _, now=changed: facts_of(now))  # type: ignore[misc]
        assert any(line.startswith("fact method.") for line in found)


def test_what_is_promised_and_lacking_is_said(rows: Rows) -> None:
    source = net(classes=GATE.format(name="AttentionGate"))
    page = said(sourced(rows, source))
    assert (
        "Promised and not found in the code: residual encoder (network.py defines nothing of that "
        "name); attention gates (it is defined, and never built)." in page
    )
    assert (
        "In the code, and not mentioned by the proposal: Other (network.py:4-6, never used)" in page
    )
    assert "Whether it changes the logits is not on record" not in page


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("missing", "The code repository is missing beside the records"),
        ("different", "has another hash than its training is recorded with"),
        ("unreadable", "cannot be followed as Python"),
    ],
)
def test_a_text_that_cannot_be_used_ties_nothing(rows: Rows, state: str, told: str) -> None:
    source = network_source(rows.proposals["proposal0"])
    changed = {
        "missing": rows,
        "different": sourced(rows, source, hashed=network_hash(f"{source}\n")),
        "unreadable": sourced(rows, "def f(:"),
    }[state]
    assert build_method_view(changed).state == state
    page, known = part(changed)
    assert told in plain(page)
    assert "method.0.lines" not in known


def test_the_recorded_hash_lets_the_text_be_used(rows: Rows) -> None:
    source = network_source(rows.proposals["proposal0"])
    assert build_method_view(sourced(rows, source, hashed=network_hash(source))).state == "linked"


def test_no_chosen_network_has_no_part(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", confirmed=False)
    with Store.open(folder / "campaign.db", read_only=True) as store:
        early = read_rows(store)
    assert not [key for key in facts(early) if key.startswith("method.")]
    assert "No network was chosen" in pages(early, folder)[0]


EVIDENCE: Mapping[str, tuple[Figures, str]] = {
    "finite": ({"instances": {"AttentionGate": 1}, "effect": {"AttentionGate": 0.5}}, "moved"),
    "coarse": ({"instances": {"AttentionGate": 1}, "effect": {"AttentionGate": 0.0}}, "coarse"),
    "no size": ({"instances": {"AttentionGate": 1}, "effect": {}}, "passed"),
    "old": ({"instances": {"AttentionGate": 1}}, "passed"),
    "empty": ({}, "unchecked"),
    "no table": ({"effect": [1], "instances": "many"}, "unchecked"),
    "text": (
        {"effect": {"AttentionGate": "1.0"}, "instances": {"AttentionGate": True}},
        "unchecked",
    ),
    "infinite": ({"effect": {"AttentionGate": float("inf")}}, "unchecked"),
    "negative": ({"effect": {"AttentionGate": -1.0}}, "unchecked"),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_the_dry_run_reports_is_taken_with_care(rows: Rows, name: str) -> None:
    evidence, check = EVIDENCE[name]
    source = network_source(rows.proposals["proposal0"])
    told = replace(sourced(rows, source), events=(*rows.events, dry_run(9001, evidence)))
    assert build_method_view(told).parts[1].check == check
    part(told)


def test_a_failed_dry_run_shows_nothing(rows: Rows) -> None:
    evidence: Figures = {"instances": {"AttentionGate": 1}, "effect": {"AttentionGate": 0.5}}
    failed = dry_run(9001, evidence, passed=False)
    told = replace(whole(rows), events=(*rows.events, failed))
    assert build_method_view(told).parts[1].check == "unchecked"


def test_weights_of_the_loss_are_not_said_to_be_tested(rows: Rows) -> None:
    idea = replace(rows.proposals["proposal0"], modules=(Module("fine_supervision", "heads", ()),))
    told = sourced(replace(rows, proposals={**rows.proposals, idea.id: idea}), network_source(idea))
    assert build_method_view(told).parts[0].check == "weights"
    page = said(told)
    assert "The function fine_weights (network.py:" in page
    assert "noise on maps does not test it" in page


def test_an_ablation_that_compared_nothing_says_so(rows: Rows) -> None:
    finalist = next(t.id for t in rows.trials if t.commit == COMMIT)
    lost: Figures = {"reason": "impossible", "trials": [], "component": "residual_encoder", "position": "encoder"}  # fmt: skip
    events = (
        ablation(rows, GATES, None, 9002),
        Event("ablation_left_out", "leaves it out", lost, finalist, id=9003),
    )
    told = replace(whole(rows), events=(*rows.events, *events))
    page = said(told)
    assert "Its ablation on locked-test was begun and left too few scores to compare." in page
    assert "It could not be taken out for an ablation" in page


def test_long_lists_are_cut_and_counted(rows: Rows) -> None:
    layers = "".join(GATE.format(name=f"Gate{n}") for n in range(30))
    told = sourced(rows, net(classes=layers))
    assert len(build_method_view(told).others) == MOST_ITEMS
    _, known = part(told)
    assert known["method.others.more"].value == 30 + 2 - MOST_ITEMS


def test_words_of_a_model_stay_words(rows: Rows, folder: Path) -> None:
    idea = "<b>7</b> \\input{x} `|` gate"
    module = Module("EdgeGate", "encoder", (0,))
    own = replace(
        rows.proposals["proposal0"], modules=(module,), detail={"ideas": {"EdgeGate": idea}}
    )
    source = with_class(network_source(proposal()), "EdgeGate")
    told = sourced(replace(rows, proposals={**rows.proposals, own.id: own}), source)
    html, text = pages(told, folder)
    assert "<b>7</b>" not in html
    assert html_problems(html, facts(told)) == []
    assert markdown_problems(text, facts(told)) == []
    assert "In the words of the planner: " in plain(html)


def trial(commit: str | None, kind: Kind = Kind.CONFIRM) -> Trial:
    return Trial("t", None, None, "p", commit, kind, 0, 1, SplitName.LOCKED_TEST)


def test_texts_are_read_from_the_repository(tmp_path: Path) -> None:
    networks = Networks.create(tmp_path / "networks")
    source = network_source(proposal(GATES))
    commit = networks.commit(source, branch="b00b", message="m", trailers={})
    known = [trial(commit), trial(commit), trial(None), trial("0" * 40), trial("z", Kind.DRAFT)]
    assert read_sources(tmp_path / "networks", known) == {commit: source}
    assert read_sources(tmp_path / "nowhere", known) == {}
