"""The git repository of a campaign's networks: a commit is a network, a branch a proposal's.

The repository is bare and written with plumbing only (hash-object, mktree, commit-tree,
update-ref): no work tree and no index, so that nothing can be half-written, and what a sandbox
could reach is never a git directory. Author and dates are fixed: the same files, parent and
message are the same commit. The user's and the machine's git configuration, hooks, replaced
objects, external diff programs and GIT_* variables have no say.

Branch B is refs/heads/b/B. A tip that a new commit does not descend from stays reachable as
refs/keep/SHA. Any number of threads and processes may commit at once; they take turns.

Not covered: somebody who may write into the folder can rewrite history; `segwright check`
compares each commit with the hash that the store keeps.
"""

import fcntl
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from memory.errors import StoreError

if TYPE_CHECKING:
    from git.cmd import Git

NETWORK_FILE = "network.py"
_BRANCH = re.compile(r"[0-9a-f]{4,64}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_TRAILER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_WHO, _EMAIL, _WHEN = "segwright", "segwright@localhost", "946684800 +0000"  # 2000-01-01
_STALE_S = 60
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.logAllRefUpdates": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
}


def _environment(path: Path) -> dict[str, str]:
    settings = {"GIT_CONFIG_COUNT": str(len(_SETTINGS))}
    for place, (key, value) in enumerate(_SETTINGS.items()):
        settings |= {f"GIT_CONFIG_KEY_{place}": key, f"GIT_CONFIG_VALUE_{place}": value}
    people = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", _WHO), ("EMAIL", _EMAIL), ("DATE", _WHEN))
    }
    return {
        # Named, because inside another repository's hook these would point there.
        "GIT_DIR": str(path),
        "GIT_OBJECT_DIRECTORY": str(path / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
        **settings,
        **people,
    }


def _git(path: Path) -> "Git":
    # gitpython starts git when it is imported, and fails there when there is none.
    try:
        from git.cmd import Git
    except ImportError as error:
        raise StoreError("the program 'git' was not found; install git 2.32 or newer") from error
    program = Git(str(path))
    program.update_environment(**_environment(path))
    return program


def _valid(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise StoreError(f"{what} {text!r:.80} is not allowed; it must match {pattern.pattern}")
    return text


def _message(message: str, trailers: Mapping[str, str]) -> str:
    lines = [f"{_valid(_TRAILER, key, 'trailer')}: {trailers[key]}" for key in sorted(trailers)]
    if not message.strip() or "\0" in message or any("\n" in f"{line}" for line in lines):
        raise StoreError(
            f"commit message {message!r:.60} with trailers {lines!r:.120}: a message has text, "
            "and a trailer is one line"
        )
    return "\n\n".join(part for part in (message.strip(), "\n".join(lines)) if part) + "\n"


class Networks:
    """A campaign's networks. Holds no open file: it needs no closing, and threads may share it."""

    def __init__(self, path: Path) -> None:
        """Name the repository; use `Networks.create` or `Networks.open` instead."""
        self.path = path.resolve()
        self._git = _git(self.path)

    @classmethod
    def create(cls, path: Path) -> "Networks":
        """Make the repository; one that is there already is kept and opened.

        Raises:
            StoreError: the folder cannot be made, or there is no git.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be created: {error.strerror}") from error
        networks = cls(path)
        options = ("--bare", "--quiet", "--template=", "--object-format=sha1")
        networks._run("init", *options, "--initial-branch=main")
        return networks

    @classmethod
    def open(cls, path: Path) -> "Networks":
        """Open an existing repository.

        Raises:
            StoreError: there is none, or it is not bare.
        """
        if not (path / "HEAD").is_file():
            raise StoreError(
                f"{path} is no git repository of networks; make it with segwright init"
            )
        networks = cls(path)
        if networks._run("rev-parse", "--is-bare-repository").strip() != "true":
            raise StoreError(f"{path} is no bare git repository; networks live in a bare one")
        return networks

    def commit(
        self,
        source: str,
        *,
        branch: str,
        message: str,
        trailers: Mapping[str, str],
        extra_files: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> str:
        """Keep a network and return its commit, 40 hex digits.

        Args:
            source: network.py, to the byte (UTF-8).
            branch: a hexadecimal id; the branch is made with its first commit.
            message: what the network is; its first line is the subject.
            trailers: such as Proposal-Id; they are sorted by key.
            extra_files: more files of the commit by name, without folders.
            parent: a commit; by default the branch's tip, and none for a new branch.

        Idempotent: where the tip, or the named parent's child, is that very network with that
        message, its commit is returned and nothing is written.

        Raises:
            StoreError: a name that is not allowed, an unknown parent, or git failed.
        """
        _valid(_BRANCH, branch, "branch")
        text = _message(message, trailers)
        tree = self._tree({**(extra_files or {}), NETWORK_FILE: source})
        if parent is not None:
            parent = self._resolve(parent)
        with self._turn():
            tip = self.tip(branch)
            if parent is None and tip and self._is_same(tip, tree, text):
                return tip
            base = parent or tip
            sha = self._feed(text, "commit-tree", tree, *(("-p", base) if base else ())).strip()
            if not self._is_kept(sha):
                self._advance(branch, old=tip, new=sha, base=base)
        return sha

    def tip(self, branch: str) -> str | None:
        """Return the newest commit of a branch, or None if it has none yet."""
        ref = f"refs/heads/b/{_valid(_BRANCH, branch, 'branch')}"
        return self._run("for-each-ref", "--format=%(objectname)", ref).strip() or None

    def source(self, commit: str, name: str = NETWORK_FILE) -> str:
        """Return a file of a commit, to the byte.

        Raises:
            StoreError: no such commit, or no such file in it.
        """
        sha = self._resolve(commit)
        return self._run("cat-file", "blob", f"{sha}:{_valid(_FILE, name, 'file')}")

    def files(self, commit: str) -> dict[str, str]:
        """Return every file of a commit by name.

        Raises:
            StoreError: no such commit.
        """
        names = self._run("ls-tree", "--name-only", "-z", self._resolve(commit)).split("\0")
        return {name: self.source(commit, name) for name in names if name}

    def diff(self, a: str, b: str) -> str:
        """Return what changes from commit a to commit b, as unified text; empty when nothing does.

        Raises:
            StoreError: no such commit.
        """
        options = ("-r", "-p", "--no-color", "--no-renames")
        return self._run("diff-tree", *options, self._resolve(a), self._resolve(b))

    def verify(self) -> list[str]:
        """Return what git fsck finds wrong, one line each; an empty list when all is well."""
        options = ("--full", "--strict", "--no-dangling", "--no-progress")
        status, out, err = self._execute("fsck", *options)
        lines = [
            line for line in f"{out.decode(errors='replace')}\n{err}".splitlines() if line.strip()
        ]
        found = [line for line in lines if not line.startswith("notice:")]
        return found or ([f"git fsck ended with status {status}"] if status else [])

    def _is_same(self, commit: str, tree: str, text: str) -> bool:
        head, _, body = self._run("cat-file", "commit", commit).partition("\n\n")
        return head.splitlines()[0] == f"tree {tree}" and body == text

    def _is_kept(self, sha: str) -> bool:
        return bool(self._run("for-each-ref", "--count=1", "--contains", sha))

    def _advance(self, branch: str, *, old: str | None, new: str, base: str | None) -> None:
        if old and old != base:
            self._set_ref(f"refs/keep/{old}", new=old, old="")
        self._set_ref(f"refs/heads/b/{branch}", new=new, old=old or "0" * 40)

    def _set_ref(self, ref: str, *, new: str, old: str) -> None:
        # A git that was killed leaves its lock; whoever has the turn may clear an old one.
        lock = self.path / f"{ref}.lock"
        if lock.exists() and time.time() - lock.stat().st_mtime > _STALE_S:
            lock.unlink(missing_ok=True)
        self._run("update-ref", ref, new, *((old,) if old else ()))

    def _tree(self, files: Mapping[str, str]) -> str:
        blobs = {
            _valid(_FILE, name, "file"): self._feed(text, "hash-object", "-w", "--stdin").strip()
            for name, text in files.items()
        }
        listing = "".join(f"100644 blob {sha}\t{name}\n" for name, sha in blobs.items())
        return self._feed(listing, "mktree").strip()

    def _resolve(self, commit: str) -> str:
        _valid(_COMMIT, commit, "commit")
        try:
            return self._run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
        except StoreError as error:
            raise StoreError(f"{self.path} has no commit {commit}") from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (self.path / "segwright.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _feed(self, text: str, *command: str) -> str:
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise StoreError(f"a network file is no UTF-8 text: {error.reason}") from error
        with tempfile.TemporaryFile() as stdin:
            stdin.write(data)
            stdin.seek(0)
            return self._run(*command, stdin=stdin)

    def _run(self, *command: str, stdin: BinaryIO | None = None) -> str:
        status, out, err = self._execute(*command, stdin=stdin)
        if status:
            reason = (err.strip() or "no reason given").splitlines()[0]
            raise StoreError(f"{self.path}: git {command[0]} failed ({status}): {reason}")
        try:
            return out.decode("utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path}: git {command[0]} gave no UTF-8 text") from error

    def _execute(self, *command: str, stdin: BinaryIO | None = None) -> tuple[int, bytes, str]:
        from git.exc import GitCommandNotFound

        try:
            return self._git.execute(
                ["git", *command],
                istream=stdin,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        except GitCommandNotFound as error:
            raise StoreError(f"{self.path}: git could not be started; install git") from error
