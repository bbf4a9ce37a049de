"""What all tests share: one thread, no network, and real data where they are."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.real_llm import RealServer

# Read when torch or matplotlib is first imported. On a busy machine, a second thread is slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# What one test's campaign learnt is no business of another's, or of whoever runs the tests.
os.environ["SEGWRIGHT_LIBRARY"] = "off"
# A deadline would measure how busy the machine is.
settings.register_profile("segwright", deadline=None)
settings.load_profile("segwright")

HIPPOCAMPUS = Path(__file__).parents[2] / "shared" / "data" / "Dataset004_Hippocampus"


def is_local(host: str | bytes | None) -> bool:
    """True when a host is this machine: no host, localhost or a loopback address."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test whose process asks for a name or connects to an address beyond this machine."""

    def guard(owner: Any, name: str, host_of: Any) -> None:
        real = getattr(owner, name)

        def guarded(*args: Any, **kwargs: Any) -> Any:
            host = host_of(*args)
            if not is_local(host):
                pytest.fail(f"{name} to {host!r}: tests reach no further than this machine")
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, guarded)

    def target(sock: socket.socket, address: Any) -> str | None:
        return address[0] if sock.family in (socket.AF_INET, socket.AF_INET6) else None

    guard(socket, "getaddrinfo", lambda host, *rest: host)
    guard(socket.socket, "connect", target)
    guard(socket.socket, "connect_ex", target)


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """Return the 160 real cases of Dataset004_Hippocampus, or skip where they are missing."""
    if not (HIPPOCAMPUS / "dataset.json").is_file():
        pytest.skip(f"no {HIPPOCAMPUS}: real patients' data are not part of the project")
    return HIPPOCAMPUS


@pytest.fixture(scope="session")
def parent() -> Path:
    """Return the socket of a warm parent that listens; it ends by itself when idle."""
    from sandbox import warm

    path = warm.ensure()
    assert warm.await_ready(path), path.with_suffix(".log").read_text()
    return path


@pytest.fixture(scope="session")
def real_llm() -> Iterator["RealServer"]:
    """Yield a server with a real, small language model; it answers one request at a time."""
    from tests.real_llm import real_server

    with real_server() as server:
        yield server


def pytest_configure() -> None:
    """Have campaigns inside of tests find lessons by their words, with the extra or without."""
    import agent.meaning

    agent.meaning.shared = lambda: None  # type: ignore[assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests, with a message, where there is no CUDA device."""
    wanting = [item for item in items if "gpu" in item.keywords]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
