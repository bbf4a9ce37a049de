"""The repository of networks: exact text, one commit a network, whoever else commits."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.errors import StoreError
from memory.networks import Networks

BRANCH, OTHER = "abcdef012345", "0123456789ab"
TRAILERS = {"Proposal-Id": "0f1e2d3c4b5a", "Planner": "grammar"}
ROOT = Path(__file__).parent.parent


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    return Networks.create(tmp_path / "networks")


def put(networks: Networks, source: str, branch: str = BRANCH, **more: object) -> str:
    named = {"message": "A network", "trailers": TRAILERS} | more
    return networks.commit(source, branch=branch, **named)  # type: ignore[arg-type]


def git(networks: Networks, *command: str) -> str:
    full = ["git", "--git-dir", str(networks.path), *command]
    return subprocess.run(full, check=True, capture_output=True, text=True).stdout


def parents(networks: Networks, commit: str) -> list[str]:
    return git(networks, "rev-list", "--parents", "-1", commit).split()[1:]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(source=st.text(max_size=200))  # fmt: skip
def test_any_source_comes_back_to_the_byte(networks: Networks, source: str) -> None:
    assert networks.source(put(networks, source)) == source


@pytest.mark.parametrize("source", ["", "x\r\n", "x\n\n\n", "\ufeffx", "é\0ü", "x" * 1_000_000])
def test_nothing_is_added_or_stripped(networks: Networks, source: str) -> None:
    commit = put(networks, source, extra_files={"plan.json": source})
    assert networks.files(commit) == {"network.py": source, "plan.json": source}
    assert networks.source(commit, "plan.json") == source


def test_the_same_network_is_the_same_commit_anywhere_and_for_ever(networks: Networks) -> None:
    first = put(networks, "a = 1\n")
    assert first == "95932db51baf207c38133d97c24360037f899d10"
    child = put(networks, "a = 2\n", OTHER, parent=first)
    assert child == "fc9bd279e358e5ca65b718f1d436eb50e587cd4d"


def test_a_commit_says_who_when_and_for_what(networks: Networks) -> None:
    commit = put(networks, "a = 1\n", message="Title\n\nBody é\n")
    assert git(networks, "log", "-1", "--format=%an <%ae> %at|%cn <%ce> %ct", commit).split(
        "|"
    ) == [
        "segwright <segwright@localhost> 946684800",
        "segwright <segwright@localhost> 946684800\n",
    ]
    assert git(networks, "log", "-1", "--format=%B", commit).rstrip("\n") == (
        "Title\n\nBody é\n\nPlanner: grammar\nProposal-Id: 0f1e2d3c4b5a"
    )
    trailers = git(networks, "log", "-1", "--format=%(trailers:key=Proposal-Id,valueonly)", commit)
    assert trailers.strip() == TRAILERS["Proposal-Id"]


def test_a_branch_grows_from_its_tip(networks: Networks) -> None:
    first, second = put(networks, "a = 1\n"), put(networks, "a = 2\n")
    assert parents(networks, first) == []
    assert parents(networks, second) == [first]
    assert networks.tip(BRANCH) == second
    assert networks.tip(OTHER) is None


def test_doing_it_again_changes_nothing(networks: Networks) -> None:
    first = put(networks, "a = 1\n")
    assert put(networks, "a = 1\n") == first
    second = put(networks, "a = 2\n", parent=first)
    assert put(networks, "a = 2\n", parent=first) == second
    assert networks.tip(BRANCH) == second
    assert git(networks, "rev-list", "--all", "--count").strip() == "2"


def test_a_named_parent_may_lie_on_another_branch(networks: Networks) -> None:
    first = put(networks, "a = 1\n")
    child = put(networks, "a = 2\n", OTHER, parent=first)
    assert parents(networks, child) == [first]
    assert (networks.tip(BRANCH), networks.tip(OTHER)) == (first, child)


def test_a_sibling_loses_no_commit(networks: Networks) -> None:
    root = put(networks, "a = 0\n")
    children = [put(networks, f"a = {n}\n", parent=root) for n in (1, 2, 3)]
    assert networks.tip(BRANCH) == children[-1]
    git(networks, "-c", "gc.pruneExpire=now", "gc", "--prune=now", "--quiet")
    assert [networks.source(c) for c in children] == ["a = 1\n", "a = 2\n", "a = 3\n"]
    assert put(networks, "a = 1\n", parent=root) == children[0]
    assert networks.tip(BRANCH) == children[-1]


def test_diff_is_unified_text(networks: Networks) -> None:
    a, b = put(networks, "one\ntwo\n"), put(networks, "one\nthree\n")
    lines = networks.diff(a, b).splitlines()
    assert lines[-5:] == ["+++ b/network.py", "@@ -1,2 +1,2 @@", " one", "-two", "+three"]
    assert networks.diff(a, a) == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, c: n.source("0" * 40), "has no commit 0000"),
        (lambda n, c: n.files("f" * 40), "has no commit ffff"),
        (lambda n, c: n.diff(c, "0" * 40), "has no commit 0000"),
        (lambda n, c: put(n, "x", parent="0" * 40), "has no commit 0000"),
        (lambda n, c: n.source("--help"), "commit '--help' is not allowed"),
        (lambda n, c: n.source("HEAD"), "commit 'HEAD' is not allowed"),
        (lambda n, c: n.source(c, "other.py"), "git cat-file failed"),
        (lambda n, c: n.source(c, "../x"), "file '../x' is not allowed"),
        (lambda n, c: put(n, "x", "../../heads/main"), "branch '../../heads/main' is not allowed"),
        (lambda n, c: put(n, "x", "ABCDEF"), "branch 'ABCDEF' is not allowed"),
        (lambda n, c: put(n, "x", "abcdef\n"), "is not allowed"),
        (lambda n, c: put(n, "x", extra_files={"a/b": ""}), "file 'a/b' is not allowed"),
        (lambda n, c: put(n, "x", extra_files={".git": ""}), "file '.git' is not allowed"),
        (lambda n, c: put(n, "x", extra_files={"a\nb": ""}), "is not allowed"),
        (lambda n, c: put(n, "x", trailers={"A b": "c"}), "trailer 'A b' is not allowed"),
        (lambda n, c: put(n, "x", trailers={"A": "c\nSigned-off-by: d"}), "a trailer is one line"),
        (lambda n, c: put(n, "x", message=" \n"), "a message has text"),
        (lambda n, c: put(n, "x", message="a\0b"), "a message has text"),
        (lambda n, c: put(n, "\udc80"), "no UTF-8 text"),
    ],
    ids=range(19),
)
def test_what_is_not_allowed_is_one_line(
    networks: Networks, call: Callable[[Networks, str], object], message: str
) -> None:
    commit = put(networks, "a = 1\n")
    with pytest.raises(StoreError, match=re.escape(message)) as caught:
        call(networks, commit)
    assert "\n" not in str(caught.value)
    assert git(networks, "rev-list", "--all").split() == [commit]


def test_open_wants_a_bare_repository(networks: Networks, tmp_path: Path) -> None:
    commit = put(networks, "a = 1\n")
    assert Networks.open(networks.path).source(commit) == "a = 1\n"
    assert Networks.create(networks.path).source(commit) == "a = 1\n"
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "HEAD").write_text("ref: refs/heads/main\n")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "fake"):
        with pytest.raises(StoreError, match="git repository|failed"):
            Networks.open(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created"):
        Networks.create(tmp_path / "file")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_eight_threads_on_branches_of_their_own(networks: Networks) -> None:
    def work(number: int) -> None:
        for step in range(3):
            put(networks, f"a = {number}, {step}\n", f"{number:04x}")

    in_threads(8, work)
    for number in range(8):
        tip = networks.tip(f"{number:04x}")
        assert git(networks, "rev-list", "--count", str(tip)).strip() == "3"
    assert networks.verify() == []


def test_eight_threads_on_one_branch_lose_no_commit(networks: Networks) -> None:
    def work(number: int) -> None:
        own = Networks.open(networks.path)
        for step in range(3):
            put(own, f"a = {number}, {step}\n")

    in_threads(8, work)
    tip = str(networks.tip(BRANCH))
    commits = git(networks, "rev-list", tip).split()
    sources = {networks.source(c) for c in commits}
    assert sources == {f"a = {n}, {s}\n" for n in range(8) for s in range(3)}
    assert len(commits) == 24


def test_two_processes_on_one_branch_lose_no_commit(networks: Networks) -> None:
    program = (
        "import sys; from pathlib import Path; from memory.networks import Networks\n"
        "networks = Networks.open(Path(sys.argv[1]))\n"
        "for n in range(10):\n"
        f"    networks.commit(sys.argv[2] + str(n), branch={BRANCH!r}, message='m', trailers={{}})\n"
    )
    command = [sys.executable, "-c", program, str(networks.path)]
    running = [subprocess.Popen([*command, name], cwd=ROOT) for name in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    assert git(networks, "rev-list", "--count", str(networks.tip(BRANCH))).strip() == "20"


def test_a_lock_that_a_killed_git_left_is_cleared_when_old(networks: Networks) -> None:
    put(networks, "a = 1\n")
    lock = networks.path / f"refs/heads/b/{BRANCH}.lock"
    lock.write_text("")
    with pytest.raises(StoreError, match="update-ref failed"):
        put(networks, "a = 2\n")
    os.utime(lock, (0, 0))
    commit = put(networks, "a = 2\n")
    assert networks.tip(BRANCH) == commit


def test_the_machine_has_no_say(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = put(networks, "a = 1\n")
    trap, mark = tmp_path / "trap", tmp_path / "mark"
    trap.write_text(f"#!/bin/sh\ntouch {mark}\n")
    trap.chmod(0o755)
    hook = networks.path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(trap.read_text())
    hook.chmod(0o755)
    with (networks.path / "config").open("a") as config:
        config.write(f"[diff]\n\texternal = {trap}\n[core]\n\tfsmonitor = {trap}\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(
        f"[user]\n\tname = Somebody\n[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = {trap}\n"
    )
    elsewhere = Networks.create(tmp_path / "elsewhere")
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "GIT_DIR": str(elsewhere.path),
        "GIT_AUTHOR_NAME": "Somebody",
        "GIT_AUTHOR_DATE": "1 +0000",
        "GIT_OBJECT_DIRECTORY": str(elsewhere.path / "objects"),
        "GIT_EXTERNAL_DIFF": str(trap),
    }.items():
        monkeypatch.setenv(name, value)
    again = Networks.open(networks.path)
    assert put(again, "a = 1\n") == expected
    other = put(again, "a = 2\n")
    assert "+a = 2" in again.diff(expected, other)
    assert again.verify() == []
    assert not mark.exists()
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_EXTERNAL_DIFF"):
        monkeypatch.delenv(name)
    assert (networks.tip(BRANCH), elsewhere.tip(BRANCH)) == (other, None)
    assert git(elsewhere, "count-objects").startswith("0 objects")
    assert git(networks, "log", "-1", "--format=%an", other) == "segwright\n"


def test_a_replaced_commit_is_not_believed(networks: Networks) -> None:
    good, bad = put(networks, "a = 1\n"), put(networks, "a = 2\n", OTHER)
    git(networks, "replace", good, bad)
    assert git(networks, "show", f"{good}:network.py") == "a = 2\n"
    assert networks.source(good) == "a = 1\n"


def test_verify_names_what_is_damaged(networks: Networks) -> None:
    commit = put(networks, "a = 1\n")
    assert networks.verify() == []
    blob = git(networks, "rev-parse", f"{commit}:network.py").strip()
    path = networks.path / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    assert any(blob in line for line in networks.verify())
    path.unlink()
    assert any(blob in line and "missing" in line for line in networks.verify())
    with pytest.raises(StoreError, match="git cat-file failed"):
        networks.source(commit)
