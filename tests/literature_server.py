"""A server on this machine that answers as arXiv, OpenAlex, PubMed and Semantic Scholar do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.literature_sources import SOURCES, Source

BY_NAME = {source.name: source for source in SOURCES}
NNUNET_DOI = "10.1038/s41592-020-01008-z"
NNUNET = "nnU-Net: a self-configuring method for deep learning-based biomedical segmentation"

ARXIV = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <link href="http://arxiv.org/api/query?search_query%3Dall%3Aunet" rel="self"/>
  <title type="html">ArXiv Query: search_query=all:unet&amp;start=0&amp;max_results=8</title>
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">2</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/abs/1606.06650v1</id>
    <published>2016-06-21T16:53:47Z</published>
    <title>3D U-Net: Learning Dense Volumetric
  Segmentation from Sparse Annotation</title>
    <summary>  This paper introduces a network for volumetric segmentation
that learns from sparsely annotated images where p &lt; 0.05.
</summary>
    <author><name>Özgün Çiçek</name></author>
    <author><name>Ahmed Abdulkadir</name></author>
    <arxiv:journal_ref xmlns:arxiv="http://arxiv.org/schemas/atom">MICCAI 2016</arxiv:journal_ref>
    <link title="pdf" href="http://arxiv.org/pdf/1606.06650v1" rel="related"/>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/math/0309136v2</id>
    <published>2003-09-08T00:00:00Z</published>
    <title>An old one</title>
    <author><name>M. Nolan</name></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1063/1.1383585</arxiv:doi>
  </entry>
</feed>
"""
OPENALEX = {
    "meta": {"count": 4, "page": 1, "per_page": 8},
    "results": [
        {
            "title": NNUNET,
            "doi": f"https://doi.org/{NNUNET_DOI.upper()}",
            "publication_year": 2020,
            "is_retracted": False,
            "authorships": [
                {"author_position": "first", "author": {"display_name": "Fabian Isensee"}},
                {"author_position": "last", "author": {"display_name": "Klaus H. Maier\u2010Hein"}},
            ],
            "primary_location": {"source": {"display_name": "Nature Methods"}},
            "locations": [{"landing_page_url": "https://doi.org/10.1038/x"}],
            "abstract_inverted_index": {"needs": [3], "Biomedical": [0], "imaging": [1, 4]},
        },
        {
            "title": "3D U-Net: learning dense volumetric segmentation from sparse annotation",
            "doi": "https://doi.org/10.1007/978-3-319-46723-8_49",
            "publication_year": 2016,
            "authorships": [{"author": {"display_name": "Özgün Çiçek"}}],
            "primary_location": None,
            "locations": [{"landing_page_url": "http://arxiv.org/abs/1606.06650"}],
            "abstract_inverted_index": None,
        },
        {"title": "Withdrawn", "doi": "https://doi.org/10.1000/1", "is_retracted": True},
        {"title": "Neither number nor preprint", "doi": None},
    ],
}
ESEARCH = {
    "header": {"type": "esearch", "version": "0.3"},
    "esearchresult": {"count": "3", "retmax": "3", "retstart": "0", "idlist": ["11", "12", "13"]},
}
ESUMMARY = {
    "header": {"type": "esummary", "version": "0.3"},
    "result": {
        "uids": ["11", "12", "13"],
        "11": {
            "uid": "11",
            "pubdate": "2021 Feb",
            "sortpubdate": "2021/02/01 00:00",
            "source": "Nat Methods",
            "fulljournalname": "Nature methods",
            "title": f"{NNUNET}.",
            "authors": [
                {"name": "Isensee F", "authtype": "Author", "clusterid": ""},
                {"name": "Maier-Hein KH", "authtype": "Author", "clusterid": ""},
            ],
            "articleids": [
                {"idtype": "pubmed", "idtypen": 1, "value": "11"},
                {"idtype": "doi", "idtypen": 3, "value": NNUNET_DOI},
            ],
            "pubtype": ["Journal Article"],
        },
        "12": {
            "uid": "12",
            "title": "Only a PubMed number.",
            "authors": [],
            "articleids": [{"idtype": "pubmed", "idtypen": 1, "value": "12"}],
        },
        "13": {
            "uid": "13",
            "title": "Taken back.",
            "articleids": [{"idtype": "doi", "value": "10.1000/2"}],
            "pubtype": ["Journal Article", "Retracted Publication"],
        },
    },
}
SCHOLAR = {
    "total": 2,
    "offset": 0,
    "data": [
        {
            "paperId": "204e3073870fae3d05bcbc2f6a8e263d9b72e776",
            "externalIds": {"MAG": "1", "ArXiv": "2105.05537", "CorpusId": 234469981},
            "title": "Swin-Unet: Unet-like Pure Transformer",
            "abstract": None,
            "venue": "ECCV Workshops",
            "year": 2021,
            "authors": [{"authorId": "1", "name": "Hu Cao"}],
        },
        {
            "paperId": "f",
            "externalIds": {"DOI": NNUNET_DOI, "PubMed": "11"},
            "title": NNUNET,
            "abstract": "Semantic Scholar's own words.",
            "venue": "",
            "year": None,
            "authors": [],
        },
    ],
}
PATHS = {
    "arxiv": "/api/query",
    "openalex": "/works",
    "pubmed": "/entrez/eutils/esearch.fcgi",
    "semantic_scholar": "/graph/v1/paper/search",
}

Answer = Callable[[BaseHTTPRequestHandler], None]


def sends(
    body: Any, status: int = 200, headers: dict[str, str] | None = None, *, chunk: int = 1 << 16
) -> Answer:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    raw = text.encode() if isinstance(text, str) else text

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(raw))} | (headers or {})).items():
            handler.send_header(name, value)
        handler.end_headers()
        for start in range(0, len(raw), chunk):
            handler.wfile.write(raw[start : start + chunk])

    return answer


class Library(ThreadingHTTPServer):
    """The four sources on one port; each path's answer can be replaced."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.ends = threading.Event()  # a hanging answer waits for it
        self.answers: dict[str, Answer] = {
            "/api/query": sends(ARXIV),
            "/works": sends(OPENALEX),
            "/entrez/eutils/esearch.fcgi": sends(ESEARCH),
            "/entrez/eutils/esummary.fcgi": sends(ESUMMARY),
            "/graph/v1/paper/search": sends(SCHOLAR),
        }
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        self.ends.wait(10)

    def sources(self, *names: str) -> tuple[Source, ...]:
        chosen = names or tuple(BY_NAME)
        return tuple(replace(BY_NAME[n], base=self.address, gap_s=0.0) for n in chosen)

    def paths(self) -> list[str]:
        return [path for path, *_ in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Library

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append((url.path, query, {k.lower(): v for k, v in self.headers.items()}))
        with suppress(ConnectionError):  # the client may have had enough
            self.server.answers[url.path](self)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Library]:
    """Run a library until the block ends, and wait for every answer under way."""
    with Library() as server:
        server.daemon_threads = False  # closing waits for every answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ends.set()
            server.shutdown()
            thread.join()
