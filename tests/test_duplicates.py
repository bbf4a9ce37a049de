"""Whether an idea was had before, by modules, words and code."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.duplicates import code_fingerprint, cosine, nearest, overlap, rarity, words_of
from memory.records import Module, Proposal

EDGE = Proposal(
    id="a",
    title="Edge-weighted skips",
    motivation="Borders of thin structures are blurred; a gate weighs each skip by local contrast.",
    modules=(Module("EdgeGate", "skip", (0, 1)),),
    refutation="no gain",
    citations=(),
    planner="llm",
    detail={"ideas": {"EdgeGate": "contrast of features decides what passes"}},
)
OTHER = replace(
    EDGE,
    id="b",
    title="Wide context",
    motivation="Distant anatomy is unseen by the bottleneck; averages of the map are added there.",
    modules=(Module("ContextMixer", "bottleneck", ()),),
    detail={},
)


def test_the_same_modules_at_the_same_places_are_the_same_idea() -> None:
    again = replace(EDGE, id="c", title="Quite another", motivation="New words altogether here.")
    found = nearest(again, [OTHER, EDGE])
    assert found is not None
    assert (found.id, found.modules) == ("a", 1.0)


def test_the_same_words_are_the_same_idea_where_half_of_the_modules_agree() -> None:
    more = (*EDGE.modules, Module("ContextMixer", "bottleneck", ()))
    found = nearest(replace(EDGE, id="c", modules=more), [OTHER, EDGE])
    assert found is not None
    assert found.id == "a"
    assert found.words > 0.8
    assert found.modules == pytest.approx(2 / 3)


def test_another_idea_is_new() -> None:
    assert nearest(OTHER, [EDGE]) is None
    assert nearest(EDGE, []) is None


@given(st.lists(st.sampled_from(["edge", "gate", "skip", "wide", "mix"]), min_size=1, max_size=9))
def test_the_cosine_of_a_text_with_itself_is_one_and_symmetric(words: list[str]) -> None:
    one = words_of(replace(EDGE, title=" ".join(words), motivation="", detail={}))
    two = words_of(OTHER)
    rare = rarity([one, two])
    assert cosine(one, one, rare) == pytest.approx(1.0)
    assert cosine(one, two, rare) == pytest.approx(cosine(two, one, rare))
    assert 0.0 <= cosine(one, two, rare) <= 1.0


def test_overlap_counts_places() -> None:
    assert overlap(frozenset(), frozenset()) == 1.0
    assert overlap(frozenset({("a", "skip0")}), frozenset()) == 0.0


def test_comments_and_docstrings_make_no_other_network() -> None:
    plain = "import torch\n\n\ndef build_network(a, b, c):\n    return torch.nn.Identity()\n"
    told = plain.replace("    return", '    """Words."""\n    # more words\n    return')
    assert (
        code_fingerprint(told)
        == code_fingerprint(f'"""Top."""\n{plain}')
        == code_fingerprint(plain)
    )
    assert code_fingerprint(plain.replace("Identity", "ReLU")) != code_fingerprint(plain)
    assert code_fingerprint("def f(:") != code_fingerprint("def g(:")
