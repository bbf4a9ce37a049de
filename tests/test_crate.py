"""The crate: a valid RO-Crate of everything that was run, and nothing that is nobody's business."""

import getpass
import hashlib
import importlib.util
import json
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.check import check_campaign
from agent.crate import LOG_BYTES, write_crate
from agent.crate_graph import METADATA, Matter, metadata
from agent.facts import facts_of
from agent.privacy import Privacy
from agent.report_rows import read_rows
from agent.run import drive
from memory.errors import CheckError, ReportError, StoreError
from memory.networks import Networks
from memory.records import Kind, SplitName, Status, Trial
from memory.store import Store
from tests.campaigns import build_campaign
from tests.scripted import ScriptedExecutor, new_campaign, session_of

Entities = dict[str, dict[str, Any]]
LOG = """start of the log of case_003 in /home/alice/lab and C:\\Users\\alice\\lab
Traceback (most recent call last):
  File "/usr/lib/python3/nn/conv.py", line 7, in forward
RuntimeError: sizes 24/2 and 23 differ; see https://wiki.clinic.example/alice or alice@clinic.example
"""


def better(source: str) -> float:
    """Make some networks better than the baseline and others far worse, by their source."""
    return 0.06 if "Squeeze" in source else -0.2 if len(source) % 2 else 0.0


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a whole campaign with a failed trial, and logs of every trial."""
    folder = new_campaign(tmp_path_factory.mktemp("crate"))
    executor = ScriptedExecutor(folder, gain=better, fails=lambda count: count == 8)
    assert drive(session_of(folder, executor), lambda what, detail: None) == "done"
    for place in (folder / "trials").iterdir():
        text = LOG + f"{folder} {socket.gethostname()}\n" + "x" * 2 * LOG_BYTES
        (place / "log.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def crate(done: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("crates") / "crate"
    written = write_crate(done, to)
    assert written[0].name == METADATA
    assert set(written) == {path for path in to.rglob("*") if path.is_file()}
    return to


@pytest.fixture(scope="module")
def entities(crate: Path) -> Entities:
    return entities_of(crate)


@pytest.fixture(scope="module")
def trials(done: Path) -> list[Trial]:
    with Store.open(done / "campaign.db", read_only=True) as store:
        return store.trials()


def entities_of(crate: Path) -> Entities:
    loaded = json.loads((crate / METADATA).read_text(encoding="utf-8"))
    found = {entity["@id"]: entity for entity in loaded["@graph"]}
    assert len(found) == len(loaded["@graph"])
    return found


def referred(value: Any) -> Iterator[str]:
    """Yield the identifiers that a value refers to."""
    if isinstance(value, list):
        for inner in value:
            yield from referred(inner)
    elif isinstance(value, dict):
        assert value.keys() == {"@id"}
        yield value["@id"]


def problems(crate: Path) -> list[str]:
    """Return what RO-Crate 1.3 and Process Run Crate 0.6 ask for and a crate lacks."""
    loaded = json.loads((crate / METADATA).read_text(encoding="utf-8"))
    found, wrong = entities_of(crate), []
    if loaded["@context"][0] != "https://w3id.org/ro/crate/1.3/context":
        wrong.append("context")
    head, root = found.get(METADATA, {}), found.get("./", {})
    if head.get("about") != {"@id": "./"} or head.get("@type") != "CreativeWork":
        wrong.append("descriptor")
    if head.get("conformsTo") != {"@id": "https://w3id.org/ro/crate/1.3"}:
        wrong.append("descriptor conformsTo")
    if root.get("conformsTo") != {"@id": "https://w3id.org/ro/wfrun/process/0.6"}:
        wrong.append("root conformsTo")
    wrong += [f"root {n}" for n in ("name", "description", "license") if not root.get(n)]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", root.get("datePublished", "")):
        wrong.append("root datePublished")
    for name, entity in found.items():
        wrong += [f"{name} has no type"] if "@type" not in entity else []
        for key, value in entity.items():
            own = {} if key == "conformsTo" and name == METADATA else found
            wrong += [f"{name} {key} {one}" for one in referred(value) if own and one not in own]
    return wrong + file_problems(crate, found) + action_problems(found)


def file_problems(crate: Path, found: Entities) -> list[str]:
    listed = {n: e for n, e in found.items() if "File" in e["@type"]}
    parts = {part["@id"] for part in found["./"]["hasPart"]}
    there = {str(p.relative_to(crate)) for p in crate.rglob("*") if p.is_file()} - {METADATA}
    wrong = sorted((parts ^ listed.keys()) | (there ^ listed.keys()))
    for name in there & listed.keys():
        raw, entity = (crate / name).read_bytes(), listed[name]
        if entity["contentSize"] != str(len(raw)):
            wrong.append(f"{name} contentSize")
        if entity["sha256"] != hashlib.sha256(raw).hexdigest():
            wrong.append(f"{name} sha256")
        wrong += [f"{name} {n}" for n in ("name", "description", "encodingFormat") if not entity[n]]
    return wrong


def action_problems(found: Entities) -> list[str]:
    mentioned = set(referred(found["./"]["mentions"]))
    wrong = []
    for name, entity in found.items():
        if entity["@type"] != "CreateAction":
            continue
        wrong += [] if name in mentioned else [f"{name} is not mentioned"]
        wrong += [f"{name} {k}" for k in ("name", "instrument", "object") if not entity.get(k)]
        is_failed = entity["actionStatus"] == "http://schema.org/FailedActionStatus"
        if not is_failed and entity["actionStatus"] != "http://schema.org/CompletedActionStatus":
            wrong.append(f"{name} actionStatus")
        if ("error" in entity) != is_failed:
            wrong.append(f"{name} error")
    return wrong


def test_the_crate_is_valid(crate: Path) -> None:
    assert problems(crate) == []


def test_the_validator_finds_what_is_wrong(crate: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(crate, tmp_path / "copy"))
    (copy / "facts.json").write_text("{}")
    (copy / "extra.txt").write_text("1")
    loaded = json.loads((copy / METADATA).read_text())
    root = next(entity for entity in loaded["@graph"] if entity["@id"] == "./")
    root["about"] = {"@id": "#nothing"}
    (copy / METADATA).write_text(json.dumps(loaded))
    found = problems(copy)
    for name in ("facts.json sha256", "facts.json contentSize", "extra.txt", "./ about #nothing"):
        assert name in found


@pytest.mark.skipif(importlib.util.find_spec("rocrate") is None, reason="rocrate is not installed")
def test_rocrate_reads_it(crate: Path, trials: list[Trial]) -> None:
    module = pytest.importorskip("rocrate.rocrate")
    read = module.ROCrate(str(crate))
    actions = [e for e in read.contextual_entities if e.type == "CreateAction"]
    assert len(actions) == len(trials)


def test_every_trial_is_an_action(entities: Entities, trials: list[Trial]) -> None:
    assert len(trials) > 20
    for trial in trials:
        action = entities[f"#trial-{trial.id}"]
        objects = set(referred(action["object"]))
        assert {"#split-search-train", f"#split-{trial.split}"} <= objects
        network = f"networks/{trial.commit[:12]}/network.py" if trial.commit else "#baseline"
        assert network in objects
        assert (action["startTime"], action["endTime"]) == (
            "1970-01-01T00:00:01+00:00",
            "1970-01-01T00:00:02+00:00",
        )
        assert action["instrument"] == {"@id": "#segwright"}


def test_parents_are_objects_and_networks_say_what_they_are_based_on(
    entities: Entities, trials: list[Trial]
) -> None:
    by_id = {trial.id: trial for trial in trials}
    derived = [
        (trial, by_id[trial.parent])
        for trial in trials
        if trial.parent and trial.commit != by_id[trial.parent].commit
    ]
    assert derived
    for trial, parent in derived:
        assert trial.commit is not None
        assert parent.commit is not None
        source = f"networks/{parent.commit[:12]}/network.py"
        assert source in set(referred(entities[f"#trial-{trial.id}"]["object"]))
        own = entities[f"networks/{trial.commit[:12]}/network.py"]
        assert source in set(referred(own["isBasedOn"]))


def test_scores_say_which_they_are_and_are_facts(
    entities: Entities, crate: Path, trials: list[Trial]
) -> None:
    facts = {f["key"]: f for f in json.loads((crate / "facts.json").read_text())["facts"]}
    for trial in trials:
        results = [entities[r] for r in referred(entities[f"#trial-{trial.id}"].get("result", []))]
        scores = [one for one in results if one["@type"] == "PropertyValue"]
        assert bool(scores) == (trial.status is Status.OK)
        kind = "locked" if trial.split is SplitName.LOCKED_TEST else "selection"
        for score in scores:
            assert score["description"].startswith(f"{kind} score")
            assert facts[score["identifier"]]["value"] == score["value"]
            assert facts[score["identifier"]]["sources"]
    named = {e["name"] for e in entities.values() if e["@type"] == "PropertyValue"}
    assert {"Dice", "NSD", "HD95"} <= named


def test_a_failed_trial_has_its_error_and_log(entities: Entities, trials: list[Trial]) -> None:
    failed = [t for t in trials if t.status is Status.FAILED]
    assert failed
    for trial in failed:
        action = entities[f"#trial-{trial.id}"]
        assert action["error"] == "exception: RuntimeError: scripted failure"
        assert list(referred(action["result"])) == [f"logs/{trial.id}.txt"]


def test_networks_are_their_commits_to_the_byte(
    done: Path, crate: Path, entities: Entities, trials: list[Trial]
) -> None:
    networks = Networks.open(done / "networks")
    for commit in {trial.commit for trial in trials if trial.commit}:
        name = f"networks/{commit[:12]}/network.py"
        assert (crate / name).read_text(encoding="utf-8") == networks.source(commit)
        assert entities[name]["version"] == commit


def test_logs_are_bounded_and_tell_nothing_of_the_machine(
    crate: Path, done: Path, trials: list[Trial]
) -> None:
    wanted = {t.id for t in trials if t.kind is Kind.CONFIRM or t.status is Status.FAILED}
    logs = {path.stem: path.read_text() for path in (crate / "logs").iterdir()}
    assert logs.keys() == wanted
    for text in logs.values():
        assert len(text) < LOG_BYTES + 200
        assert text.startswith("start of the log of (case) in (path) and (path)\n")
        assert 'File "(path)/conv.py", line 7' in text
        assert "sizes 24/2 and 23 differ; see (address) or (address)" in text
        assert "alice" not in text


def test_environment_and_seeds_are_kept(crate: Path, trials: list[Trial]) -> None:
    told = json.loads((crate / "environment.json").read_text())
    assert told["environment"]["nnunetv2"]
    assert told["protocol"]["rung_iterations"] == [10, 40]
    assert told["seeds"]["trials"] == {trial.id: trial.seed for trial in trials}
    assert told["isolation"] == ["level A: scripted 0"]


def test_nothing_private_is_in_what_the_crate_says(crate: Path, done: Path) -> None:
    with Store.open(done / "campaign.db", read_only=True) as store:
        cases = [case.case for case in store.split()]
    printed = (crate / "report" / "report.html").read_text()
    texts = [
        *crate.glob("*.json"),
        *(crate / "logs").iterdir(),
        *(crate / "networks").rglob("*.py"),
    ]
    host, user = socket.gethostname(), getpass.getuser()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for name in [str(done), str(Path.home()), *([host] if host != "localhost" else [])]:
            assert name not in text, path
        if user != "root":
            assert not re.search(rf"\b{re.escape(user)}\b", text), path
        for case in cases:
            assert case not in text or case in printed, path
        assert not re.search(r"(?<![\w.:/*)])/(?:home|tmp|root|usr|work)/", text), path


def test_no_image_or_label_is_in_it(crate: Path) -> None:
    endings = {path.suffix for path in crate.rglob("*") if path.is_file()}
    assert endings <= {".html", ".tex", ".typ", ".md", ".bib", ".json", ".pdf", ".svg", ".png", ".py", ".txt"}  # fmt: skip
    assert not list(crate.rglob("*.npz"))


def test_the_same_rows_give_the_same_bytes(crate: Path, done: Path, tmp_path: Path) -> None:
    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    moved = Path(shutil.copytree(done, tmp_path / "elsewhere"))
    write_crate(moved, tmp_path / "crate")
    first = read(crate)
    assert read(tmp_path / "crate") == first
    write_crate(moved, tmp_path / "crate")
    assert read(tmp_path / "crate") == first
    assert check_campaign(moved) == []


def test_other_files_are_not_mixed_with_it(done: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(ReportError, match=r"diary\.txt"):
        write_crate(done, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_report_that_does_not_hold_is_refused(done: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    page = copy / "report" / "report.html"
    page.write_text(page.read_text().replace("</main>", "<p>97.3</p></main>"), encoding="utf-8")
    with pytest.raises(CheckError, match=r"report\.html"):
        write_crate(copy, tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a campaign with hostile titles whose commits are in a repository."""
    folder = build_campaign(tmp_path_factory.mktemp("hostile") / "campaign", hostile=True)
    networks = Networks.create(folder / "networks")
    with sqlite3.connect(folder / "campaign.db") as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        for place in range(3):
            commit = networks.commit(
                f"NETWORK = {place}\n", branch=f"{place:04x}", message="a network", trailers={}
            )
            db.execute('UPDATE "trial" SET "commit" = ? WHERE "commit" = ?', (commit, f"{place + 1:040x}"))  # fmt: skip
    db.close()
    return folder


def test_hostile_titles_make_a_valid_crate(hostile: Path, tmp_path: Path) -> None:
    write_crate(hostile, tmp_path / "crate")
    assert problems(tmp_path / "crate") == []
    found = entities_of(tmp_path / "crate")
    actions = [e for e in found.values() if e["@type"] == "CreateAction"]
    text = json.dumps(actions, ensure_ascii=False)
    assert "<script>" in text
    assert "/etc/passwd" not in text
    assert "\u202e" not in text
    assert "simulated subjects" in found["./"]["description"]
    assert found["#dataset"]["license"] == "CC0-1.0"
    assert found["#licence"]["name"] == "Not chosen yet"
    assert not list((tmp_path / "crate").rglob("*.npz"))


def test_before_the_opening_no_locked_score_is_told(hostile: Path) -> None:
    with Store.open(hostile / "campaign.db", read_only=True) as store:
        opened = read_rows(store)
    facts = {fact.key: fact for fact in facts_of(opened)}
    for rows, is_open in ((opened, True), (replace(opened, accesses=()), False)):
        graph = metadata(Matter(rows, facts, (), Privacy()))["@graph"]
        told = [e["description"] for e in graph if e["@type"] == "PropertyValue"]
        assert any(text.startswith("selection score") for text in told)
        assert any(text.startswith("locked score") for text in told) is is_open


def test_a_network_that_is_left_out_is_told(hostile: Path) -> None:
    with Store.open(hostile / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    graph = metadata(Matter(rows, {}, (), Privacy()))["@graph"]
    names = {entity["@id"]: entity for entity in graph}
    commits = {trial.commit for trial in rows.trials if trial.commit}
    assert len(commits) == 3
    for commit in commits:
        assert "left out" in names[f"#network-{commit}"]["description"]


def test_a_commit_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", confirmed=False)
    with pytest.raises(StoreError, match="no git repository of networks"):
        write_crate(folder, tmp_path / "crate")
    assert not (tmp_path / "crate").exists()
