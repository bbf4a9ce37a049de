"""What may be asked of the sources, and that no reply does more than fail to be read."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.literature_sources import SOURCES, Ask, ReplyError, plain_query
from tests.literature_server import ARXIV, BY_NAME, PATHS


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ('all:"3D U-Net" OR (cat:cs.CV)', "all 3d u-net cat cs cv"),
        ("boundary--loss -negated ANDNOT x", "boundary loss negated x"),
        ("Größe²\x1b[31m\u202e hippocampus_[Title]", "größe2 31m hippocampus title"),
        ("; DROP %00 & | # \n", "drop 00"),
        ("", ""),
        ("word " * 100, ("word " * 60).strip()),
        ("x" * 900, ""),
    ],
)
def test_a_query_holds_words_alone(text: str, query: str) -> None:
    assert plain_query(text) == query


@given(st.text())
def test_any_query_is_plain_and_bounded(text: str) -> None:
    query = plain_query(text)
    assert len(query) <= 300
    assert all(c.isalnum() or c in " -" for c in query)
    assert plain_query(query) == query


def replies() -> st.SearchStrategy[str]:
    words = ["results", "data", "esearchresult", "idlist", "result", "title", "doi", "1", "authors"]
    keys = st.sampled_from(words)
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | keys
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
    feeds = st.text(max_size=40).map(lambda t: ARXIV.replace("1606.06650v1", t))
    return values.map(json.dumps) | st.text() | feeds


@pytest.mark.parametrize("name", PATHS)
@given(first=replies(), second=replies())
def test_any_reply_gives_papers_or_a_reply_error(name: str, first: str, second: str) -> None:
    dialogue = BY_NAME[name].dialogue("unet", 8, "")
    assert isinstance(next(dialogue), Ask)
    with suppress(StopIteration, ReplyError):  # and nothing else
        dialogue.send(first)
        dialogue.send(second)


def test_every_source_is_asked_over_https_and_names_its_gap() -> None:
    assert all(source.base.startswith("https://") for source in SOURCES)
    gaps = {source.name: source.gap_s for source in SOURCES}
    assert gaps == {"openalex": 0.1, "semantic_scholar": 1.0, "pubmed": 0.34, "arxiv": 3.0}
