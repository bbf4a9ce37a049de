"""Literature search, against a server on this machine that answers as the four sources do."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent.literature import MOST_BYTES, Found, Literature, Pace
from agent.literature_sources import SOURCES
from agent.papers import Paper
from memory.errors import ConfigError
from memory.records import Campaign
from memory.store import Store
from tests.literature_server import (
    ARXIV,
    BY_NAME,
    NNUNET,
    NNUNET_DOI,
    OPENALEX,
    PATHS,
    Answer,
    Library,
    sends,
    serving,
)

CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {}, {"n": "d"}, "dh", "sh", {})


@pytest.fixture
def library() -> Iterator[Library]:
    with serving() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "campaign.db", CAMPAIGN) as made:
        yield made


def literature(store: Store, library: Library, *names: str, **settings: Any) -> Literature:
    given = {"allowed": True, "sources": library.sources(*names), "pace": Pace(), **settings}
    return Literature(store, **given)


def found_by(store: Store, library: Library, *names: str, **settings: Any) -> Found:
    return literature(store, library, *names, **settings).find("u-net")


def test_papers_of_four_sources_are_read_merged_and_ordered(store: Store, library: Library) -> None:
    found = found_by(store, library)
    assert set(found.answered) == set(PATHS)
    assert not found.left_out
    assert not found.is_cached
    first, second, *rest = found.papers
    assert first == Paper(
        key=f"doi:{NNUNET_DOI}",
        title=NNUNET,
        authors=("Fabian Isensee", "Klaus H. Maier\u2010Hein"),
        year=2020,
        doi=NNUNET_DOI,
        arxiv="",
        venue="Nature Methods",
        abstract="Biomedical imaging needs imaging",
        source="openalex+semantic_scholar+pubmed",
    )
    assert second.key == "doi:10.1007/978-3-319-46723-8_49"
    assert (second.arxiv, second.source) == ("1606.06650", "openalex+arxiv")
    assert second.venue == "MICCAI 2016"
    assert second.abstract.endswith("sparsely annotated images where p < 0.05.")
    assert [paper.key for paper in rest] == ["arxiv:2105.05537", "doi:10.1063/1.1383585"]
    assert rest[0].abstract == ""


def test_each_source_is_asked_as_it_documents(store: Store, library: Library) -> None:
    literature(store, library, mailto="a@b.org", per_source=5).search("3D U-Net hippocampus")
    asked = {path: (query, headers) for path, query, headers in library.asked}
    assert asked["/api/query"][0]["search_query"] == 'all:3d AND all:"u net" AND all:hippocampus'
    assert asked["/api/query"][0]["max_results"] == "5"
    works = asked["/works"][0]
    assert (works["search"], works["per_page"]) == ("3d u-net hippocampus", "5")
    assert works["mailto"] == "a@b.org"
    search = asked["/entrez/eutils/esearch.fcgi"][0]
    assert (search["db"], search["retmode"], search["retmax"]) == ("pubmed", "json", "5")
    assert (search["tool"], search["email"]) == ("segwright", "a@b.org")
    assert asked["/entrez/eutils/esummary.fcgi"][0]["id"] == "11,12,13"
    assert asked["/graph/v1/paper/search"][0]["query"] == "3d u net hippocampus"
    for _, headers in asked.values():
        assert headers["user-agent"].startswith("segwright/")
        assert headers["user-agent"].endswith("(mailto:a@b.org)")
        assert "x-api-key" not in headers


def test_a_key_goes_to_its_source_alone(
    store: Store, library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCHOLAR_KEY", "planted-key")
    found_by(store, library, key_env="SCHOLAR_KEY")
    keys = {path: headers.get("x-api-key") for path, _, headers in library.asked}
    assert keys.pop("/graph/v1/paper/search") == "planted-key"
    assert set(keys.values()) == {None}
    store.close()
    assert all(b"planted-key" not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


@pytest.mark.parametrize("key", ["two\nlines", "clé"])
def test_a_key_that_no_header_can_hold_is_told_and_not_shown(
    store: Store, library: Library, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SCHOLAR_KEY", key)
    found = found_by(store, library, "semantic_scholar", key_env="SCHOLAR_KEY")
    why = found.left_out["semantic_scholar"]
    assert "SCHOLAR_KEY" in why
    assert key not in why
    assert not library.asked


def test_nothing_leaves_without_leave(store: Store, library: Library) -> None:
    assert literature(store, library, allowed=False).search("u-net") == []
    assert literature(store, library).search(' "AND" (%) not ') == []
    assert not library.asked


def test_a_second_search_asks_nobody(store: Store, library: Library) -> None:
    first = found_by(store, library)
    count = len(library.asked)
    again = literature(store, library).find('  "U-Net" ')
    with Store.open(store.path) as other:
        elsewhere = found_by(other, library)
    assert len(library.asked) == count
    assert again.is_cached
    assert again == elsewhere == replace(first, is_cached=True)
    assert len(literature(store, library).search("u-net", limit=1)) == 1
    found_by(store, library, "arxiv")  # other sources are another question
    assert len(library.asked) == count + 1


def test_a_search_that_nobody_answered_is_not_kept(store: Store, library: Library) -> None:
    answer = library.answers["/works"]
    library.answers["/works"] = sends("down", 500)
    assert found_by(store, library, "openalex").papers == ()
    library.answers["/works"] = answer
    assert found_by(store, library, "openalex").papers


def test_no_hits_are_an_answer(store: Store, library: Library) -> None:
    library.answers["/works"] = sends({"results": []})
    library.answers["/entrez/eutils/esearch.fcgi"] = sends({"esearchresult": {"idlist": []}})
    library.answers["/graph/v1/paper/search"] = sends({"total": 0, "offset": 0})
    library.answers["/api/query"] = sends('<feed xmlns="http://www.w3.org/2005/Atom"/>')
    found = found_by(store, library)
    assert (found.papers, set(found.answered)) == ((), set(PATHS))
    assert found_by(store, library).is_cached


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><feed>&b;</feed>'
DEEP = "[" * 200_000
HTML = "<!doctype html><html><body><h1>Service unavailable</h1></body></html>"
ELSEWHERE = "http://192.0.2.1/works"


@pytest.mark.parametrize(
    ("name", "answer", "why"),
    [
        ("openalex", sends("down", 500), "HTTP status 500"),
        ("openalex", sends("slow down", 429), "HTTP status 429"),
        ("openalex", sends(json.dumps(OPENALEX)[:400]), "no JSON"),
        ("openalex", sends(HTML), "no JSON"),
        ("openalex", sends(DEEP), "no JSON"),
        ("openalex", sends({"error": "Invalid query"}), "no list 'results'"),
        ("openalex", sends(b"\xff\xfe\x00"), "no UTF-8"),
        ("openalex", sends(b"x", headers={"Content-Encoding": "gzip"}), "compressed"),
        ("openalex", sends(b" " * 10 * 1024 * 1024), f"more than {MOST_BYTES} bytes"),
        ("openalex", sends(b" " * 10, headers={"Content-Length": "99"}), "RemoteProtocolError"),
        ("openalex", lambda handler: handler.wfile.write(b"rubbish\r\n\r\n"), "ProtocolError"),
        ("openalex", sends("", 302, {"Location": ELSEWHERE}), "another host"),
        ("openalex", sends("", 302, {"Location": "https://127.0.0.1/works"}), "another host"),
        ("openalex", sends("", 302, {"Location": "http://[bad"}), "redirected"),
        ("openalex", sends("", 302, {"Location": "/works"}), "redirected more than 3 times"),
        ("pubmed", sends({"esearchresult": {"ERROR": "bad"}}), "no list 'idlist'"),
        ("semantic_scholar", sends({"message": "Forbidden"}, 403), "HTTP status 403"),
        ("arxiv", sends(BOMB), "document type or entities"),
        ("arxiv", sends(HTML), "document type or entities"),
        ("arxiv", sends(ARXIV[:900]), "no XML"),
        ("arxiv", sends("<html/>"), "no Atom feed"),
        (
            "arxiv",
            sends(ARXIV.replace("arxiv.org/abs/1606.06650v1", "arxiv.org/api/errors#bad")),
            "an error of the source",
        ),
    ],
)
def test_a_source_that_fails_is_left_out_and_told(
    store: Store, library: Library, name: str, answer: Answer, why: str
) -> None:
    library.answers[PATHS[name]] = answer
    found = found_by(store, library)
    assert list(found.left_out) == [name]
    assert why in found.left_out[name]
    assert set(found.answered) == set(PATHS) - {name}
    assert found.papers


def test_a_source_that_is_gone_is_left_out(store: Store, library: Library) -> None:
    with Library() as gone:
        address = gone.address
    sources = (*library.sources("openalex"), replace(library.sources("arxiv")[0], base=address))
    found = found_by(store, library, sources=sources)
    assert found.answered == ("openalex",)
    assert "ConnectError" in found.left_out["arxiv"]


def test_an_address_that_is_not_https_is_not_asked(store: Store, library: Library) -> None:
    sources = (replace(SOURCES[0], base="http://192.0.2.1"),)
    assert "https" in found_by(store, library, sources=sources).left_out["openalex"]


def test_a_redirect_on_the_same_host_is_followed(store: Store, library: Library) -> None:
    library.answers["/moved"] = library.answers["/works"]
    library.answers["/works"] = sends("", 301, {"Location": "/moved?a=1"})
    assert found_by(store, library, "openalex").answered == ("openalex",)
    assert library.paths() == ["/works", "/moved"]


def test_a_source_that_hangs_loses_only_itself(store: Store, library: Library) -> None:
    library.answers["/api/query"] = library.hang
    found = found_by(store, library, timeout_s=0.3)
    assert found.left_out == {"arxiv": "it was too slow"}
    assert len(found.answered) == 3


def test_a_source_that_drips_is_cut_off(store: Store, library: Library) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not library.ends.wait(0.02):
            handler.wfile.write(b" ")

    library.answers["/works"] = drip
    found = found_by(store, library, "openalex", timeout_s=0.3)
    assert found.left_out == {"openalex": "it was too slow"}


def test_the_search_waits_no_longer_than_its_wall(store: Store, library: Library) -> None:
    library.answers["/api/query"] = library.hang
    pace = Pace()
    search = literature(store, library, timeout_s=5, total_s=0.4, pace=pace)
    found = search.find("u-net")
    assert found.left_out == {"arxiv": "no answer within 0.4 s"}
    assert len(found.answered) == 3
    # What is still under way keeps its source's turn.
    assert list(search.find("v-net").left_out) == ["arxiv"]
    assert library.paths().count("/api/query") == 1
    library.ends.set()
    with pace.turn(BY_NAME["arxiv"], until=pace.clock() + 60):
        pass  # the request under way has ended


class Hours:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self) -> Pace:
        return Pace(self.clock, self.sleep)


def test_requests_keep_the_gap_of_their_source(store: Store, library: Library) -> None:
    hours = Hours()
    sources = [replace(s, base=library.address) for s in SOURCES if s.name in ("arxiv", "pubmed")]
    pace = hours.pace()  # shared by two objects, as by the searches of a process
    for query in ("one", "two"):
        found = found_by(store, library, sources=[sources[0]], pace=pace)
        literature(store, library, sources=[sources[1]], pace=pace).search(query)
    assert found.answered == ("pubmed",)
    assert hours.slept == pytest.approx([0.34, 3.0])


def test_threads_share_the_pace() -> None:
    hours = Hours()
    pace = hours.pace()
    inside: list[int] = []

    def ask() -> None:
        with pace.turn(SOURCES[0], until=1e9):
            inside.append(1)
            assert len(inside) == 1
            inside.pop()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hours.slept == pytest.approx([SOURCES[0].gap_s] * 3)


@pytest.mark.parametrize(
    ("headers", "held_s"),
    [
        ({"Retry-After": "120"}, 120.0),
        ({}, 60.0),
        ({"Retry-After": "soon"}, 60.0),
        ({"Retry-After": "999999999"}, 86400.0),
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, 86400.0),
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:00"}, 60.0),  # no time zone
    ],
)
def test_a_source_that_refuses_is_left_alone_as_long_as_it_asks(
    store: Store, library: Library, headers: dict[str, str], held_s: float
) -> None:
    hours = Hours()
    answer = library.answers["/works"]
    library.answers["/works"] = sends("slow down", 429, headers)
    search = literature(store, library, "openalex", pace=hours.pace())
    search.find("one")
    library.answers["/works"] = answer
    assert "not be asked again yet" in search.find("one").left_out["openalex"]
    hours.now += held_s - 30
    assert "not be asked again yet" in search.find("one").left_out["openalex"]
    assert len(library.asked) == 1
    hours.now += 31
    assert search.find("one").answered == ("openalex",)


def test_a_date_to_wait_for_is_read_by_the_clock_of_its_source(
    store: Store, library: Library
) -> None:
    def busy(handler: BaseHTTPRequestHandler) -> None:
        later = handler.date_time_string(int(time.time()) + 90)
        sends("busy", 503, {"Retry-After": later})(handler)

    hours = Hours()
    library.answers["/works"] = busy
    search = literature(store, library, "openalex", pace=hours.pace())
    search.find("one")
    hours.now += 60
    assert "not be asked again yet" in search.find("one").left_out["openalex"]
    hours.now += 40
    assert "503" in search.find("one").left_out["openalex"]


def test_hostile_texts_arrive_clean_and_bounded(store: Store, library: Library) -> None:
    hostile = {
        "title": "A\x1b[31m <i>red</i>\u202e title&#8238;\n" + "t" * 5000,
        "doi": "10.1000/\u202eevil",
        "publication_year": 10**30,
        "authorships": [{"author": {"display_name": ["x"]}}, {"author": None}, 7]
        + [{"author": {"display_name": f"\ud800N{n}"}} for n in range(99)],
        "primary_location": {"source": {"display_name": "V\r\nenue"}},
        "locations": [{"landing_page_url": "https://arxiv.org/abs/2101.00001v3"}, None],
        "abstract_inverted_index": {"word\x00": [*range(3000), 10**12, "x"], "n": "no"},
    }
    library.answers["/works"] = sends({"results": [hostile, None, 5, [], {}]})
    (paper,) = found_by(store, library, "openalex").papers
    assert paper.title.startswith("A red title ttt")
    assert len(paper.title) == 300
    assert (paper.key, paper.arxiv, paper.year) == ("doi:10.1000/evil", "2101.00001", None)
    assert paper.authors[0] == "N0"
    assert len(paper.authors) <= 30
    assert paper.venue == "V enue"
    assert len(paper.abstract) <= 1200
    assert paper.abstract.startswith("word word word")


def test_more_papers_than_asked_for_are_cut(store: Store, library: Library) -> None:
    many = [{"title": f"T{n}", "doi": f"10.1000/{n}"} for n in range(50)]
    library.answers["/works"] = sends({"results": many})
    found = found_by(store, library, "openalex", per_source=3)
    assert [paper.title for paper in found.papers] == ["T0", "T1", "T2"]


def test_an_address_of_the_user_must_be_one(store: Store, library: Library) -> None:
    with pytest.raises(ConfigError, match="NAME@HOST"):
        literature(store, library, mailto="me@b.org\r\nX: y")
