"""A coding agent of the user's writes network.py inside the boundary, and reaches nothing else."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.own_agent import LOG, PORT, last_lines, network_of, write_network
from memory.errors import CollectError, ConfigError, PlannerError, SandboxError
from sandbox.boundary import Isolation, Limits
from sandbox.exchange import Tokens
from sandbox.isolation import available, choose
from sandbox.relay import Relay
from tests.endpoints import REPLY, Endpoint, endpoint

KEY = "sk-planted-abcdefghij"
LIMITS = Limits(wall_s=60, memory_mib=1024, disk_mib=64, processes=64, log_mib=1)
GOOD = "def build_network(in_channels, num_classes, spec):\n    return None\n"


@pytest.fixture(scope="module")
def boundary() -> Isolation:
    return choose("A")


@pytest.fixture
def there() -> Iterator[Endpoint]:
    with endpoint() as found:
        yield found


def write(boundary: Isolation, folder: Path, code: str, **changes: Any) -> str:
    """Have a short Python program be the agent."""
    settings = {"folder": folder, "isolation": boundary, "limits": LIMITS, **changes}
    return write_network([sys.executable, "-I", "-c", code], "Write a small network.", **settings)


@pytest.fixture(params=["A", "B"], scope="module")
def each(request: pytest.FixtureRequest) -> Isolation:
    found = [one for one in available() if one.level == request.param]
    if not found:
        pytest.skip(f"no isolation of level {request.param} on this machine")
    return found[0]


def test_an_agent_writes_a_network_from_the_brief(each: Isolation, tmp_path: Path) -> None:
    code = f"""
import os, sys
brief, parent, card = (open(n).read() for n in ('BRIEF.md', 'network.py', 'card.md'))
assert sys.stdin.read() == ''
open('notes.txt', 'w').write('of no interest')
open('network.py', 'w').write('# ' + brief + ' ' + parent + ' ' + card + chr(10) + {GOOD!r})
print('done')
"""
    files = {"network.py": "the parent", "card.md": "a card"}
    text = write(each, tmp_path, code, files=files)
    assert text == f"# Write a small network. the parent a card\n{GOOD}"
    assert [path.name for path in tmp_path.iterdir()] == [LOG]
    assert last_lines(tmp_path / LOG) == "done"


ASK = f"""
import json, os, urllib.request
base = os.environ['OPENAI_BASE_URL']
body = json.dumps({{'model': 'm'}}).encode()
headers = {{'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']}}
request = urllib.request.Request(base + '/chat/completions', body, headers)
with urllib.request.urlopen(request, timeout=30) as reply:
    said = [json.loads(reply.read())]
for at, folders, names in os.walk('/', topdown=True):
    folders[:] = [f for f in folders if os.path.join(at, f) not in ('/usr', '/etc/alternatives', '/proc/sys')]
    if at.startswith(({sys.prefix!r}, {sys.base_prefix!r})):
        folders.clear()
        continue
    for name in names:
        path = os.path.join(at, name)
        if os.path.isfile(path) and name not in ('kcore', 'kmsg', 'kpagecount', 'kpageflags'):
            try:
                flags = os.O_RDONLY | os.O_NONBLOCK
                with open(os.open(path, flags), 'rb') as file:
                    said.append([path, file.read(1 << 16).decode(errors='replace')])
            except OSError:
                pass
said.append(dict(os.environ))
print(json.dumps(said), flush=True)
own = [
    one for one in said if isinstance(one, dict)
    or one[0].endswith(('/environ', '/cmdline', '.md')) and '/task/' not in one[0]
]
open('network.py', 'w').write('# ' + json.dumps(own))
"""


def test_the_endpoint_sees_the_key_and_the_sandbox_does_not(
    boundary: Isolation, tmp_path: Path, there: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    told: list[object] = []
    with Relay(there.url, key=KEY, on_request=lambda *args: told.append(args)) as relay:
        limits = replace(LIMITS, log_mib=32)
        text = write(boundary, tmp_path, ASK, relay=relay, limits=limits)
    assert there.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert there.asked[0].path == "/base/chat/completions"
    assert told == [(200, 14, len(json.dumps(REPLY)), Tokens(7, 2))]
    assert json.dumps(REPLY) in text
    seen = ("/proc/1/environ", "/proc/1/cmdline", "/out/BRIEF.md")
    assert [path for path in seen if json.dumps(path) not in text] == []
    assert '"/proc/mounts"' in (tmp_path / LOG).read_text()  # all that could be read
    assert KEY not in text
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


REACH = """
import http.client, json, os, socket
def outcome(act):
    try:
        return str(act())
    except OSError as error:
        return type(error).__name__
def ask(method, path, host='127.0.0.1', port=PORT):
    line = http.client.HTTPConnection(host, port, timeout=10)
    line.request(method, path)
    return line.getresponse().status
found = {
    'host': outcome(lambda: socket.create_connection(('192.0.2.1', 443), timeout=5)),
    'name': outcome(lambda: socket.getaddrinfo('example.org', 443)),
    'loopback': outcome(lambda: socket.create_connection(('127.0.0.1', ENDPOINT), timeout=5)),
    'home': outcome(lambda: os.listdir(HOME)),
    'other trial': outcome(lambda: open(OTHER).read()),
    'path': outcome(lambda: ask('GET', '/v1/files')),
    'traversal': outcome(lambda: ask('GET', '/v1/../../admin')),
    'absolute': outcome(lambda: ask('GET', 'http://192.0.2.1/v1/models')),
    'method': outcome(lambda: ask('DELETE', '/v1/models')),
    'relay folder': outcome(lambda: open('/relay/x', 'w')),
}
open('network.py', 'w').write('# ' + json.dumps(found))
"""


def reach(there: Endpoint, tmp_path: Path) -> str:
    other = tmp_path / "trials" / "other" / "network.py"
    other.parent.mkdir(parents=True)
    other.write_text("another trial")
    places = {"PORT": PORT, "ENDPOINT": there.port, "HOME": str(Path.home()), "OTHER": str(other)}
    return "\n".join(f"{name} = {value!r}" for name, value in places.items()) + REACH


def test_nothing_else_is_reached_through_a_relay(
    boundary: Isolation, tmp_path: Path, there: Endpoint
) -> None:
    with Relay(there.url, key=KEY) as relay:
        text = write(boundary, tmp_path / "trials" / "own", reach(there, tmp_path), relay=relay)
    found = json.loads(text.removeprefix("# "))
    # The programs of this test may lie below the home, which then is an otherwise empty folder.
    own = [p for p in (sys.prefix, sys.base_prefix) if Path(p).is_relative_to(Path.home())]
    listed = [Path(p).relative_to(Path.home()).parts[0] for p in own]
    assert found.pop("home") in ("FileNotFoundError", "PermissionError", str(listed))
    assert found == {
        **{"host": "OSError", "name": "gaierror", "loopback": "ConnectionRefusedError"},
        **{"other trial": "FileNotFoundError", "relay folder": "OSError"},
        **dict.fromkeys(("path", "traversal", "absolute", "method"), "403"),
    }
    assert not there.asked


def test_without_a_relay_there_is_no_connection_at_all(
    each: Isolation, tmp_path: Path, there: Endpoint
) -> None:
    text = write(each, tmp_path / "trials" / "own", reach(there, tmp_path))
    found = json.loads(text.removeprefix("# "))
    ways = ("host", "name", "loopback", "path", "traversal", "absolute", "method")
    assert not [found[way] for way in ways if not found[way].endswith(("Error", "gaierror"))]
    assert found["other trial"] in ("FileNotFoundError", "PermissionError")
    assert not there.asked


def test_without_a_relay_no_variable_names_an_endpoint(each: Isolation, tmp_path: Path) -> None:
    code = "import os; open('network.py', 'w').write('# ' + ' '.join(os.environ))"
    assert "OPENAI" not in write(each, tmp_path, code)


LEFT = {
    "link": "import os; os.symlink('/etc/passwd', 'network.py')",
    "hard link": "import os; open('a', 'w').write('x'); os.link('a', 'network.py')",
    "folder": "import os; os.mkdir('network.py')",
    "socket": "import socket; socket.socket(socket.AF_UNIX).bind('network.py')",
    "10 MB": "open('network.py', 'w').write('#' * 10_000_000)",
    "sparse": "open('network.py', 'w').truncate(1 << 30)",
    "no UTF-8": r"open('network.py', 'wb').write(b'# \xff\xfe')",
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_no_plain_text_file_is_refused(
    boundary: Isolation, tmp_path: Path, what: str
) -> None:
    with pytest.raises(CollectError, match=r"network\.py"):
        write(boundary, tmp_path, LEFT[what])
    assert not (tmp_path / "work").exists()


def test_a_fifo_can_neither_be_made_nor_read(boundary: Isolation, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="Operation not permitted"):
        write(boundary, tmp_path, "import os; os.mkfifo('network.py')")
    os.mkfifo(tmp_path / "network.py")
    with pytest.raises(CollectError, match="is no regular file"):
        network_of(tmp_path, "coder", tmp_path / LOG, parent=None)


def test_an_agent_that_leaves_nothing(boundary: Isolation, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match=r"left no network\.py; its output ends:\nI gave up$"):
        write(boundary, tmp_path, "print('I gave up')")


def test_an_agent_that_leaves_the_parent_as_it_was(boundary: Isolation, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="as it was; it printed nothing"):
        write(boundary, tmp_path, "", files={"network.py": GOOD})


HANGS = """
import time
open('network.py', 'w').write('x')
print('thinking', flush=True)
time.sleep(600)
"""


def test_an_agent_that_hangs_is_ended(boundary: Isolation, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="used up its time"):
        write(boundary, tmp_path, HANGS, limits=replace(LIMITS, wall_s=1.0))
    assert not (tmp_path / "work").exists()


def test_an_agent_that_is_stopped(boundary: Isolation, tmp_path: Path) -> None:
    def thinks() -> bool:
        return b"thinking" in (tmp_path / LOG).read_bytes()

    with pytest.raises(PlannerError, match="was stopped; its output ends:\nthinking$"):
        write(boundary, tmp_path, HANGS, is_stopped=thinks)


def test_an_agent_that_prints_too_much_is_ended(boundary: Isolation, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="wrote too much"):
        write(boundary, tmp_path, "while True: print('x' * 10_000)")


def test_an_agent_that_fails_is_told_with_its_last_lines(
    boundary: Isolation, tmp_path: Path
) -> None:
    code = r"""
import sys
for n in range(100):
    print('line', n, 'y' * 1000)
print('\x1b[31mno \u202emodel\x1b[0m')
open('network.py', 'w').write('x')
sys.exit(3)
"""
    with pytest.raises(PlannerError) as caught:
        write(boundary, tmp_path, code)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(
        f"the coding agent {Path(sys.executable).name!r} ended with exit status 3"
    )
    assert (len(rest), rest[-1]) == (20, "no model")
    assert max(map(len, rest)) == 200


def test_a_program_that_the_program_needs_is_named(boundary: Isolation, tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "coder"
    tool.parent.mkdir()
    tool.write_text("#!/nowhere/python\n")
    tool.chmod(0o755)
    settings = {"isolation": boundary, "limits": LIMITS, "mounts": [tool.parent]}
    with pytest.raises(SandboxError, match="127: a program is not found .*mounts") as caught:
        write_network(["coder"], "brief", folder=tmp_path / "own", **settings)  # type: ignore[arg-type]
    assert "first line names, is not found" in str(caught.value)


def test_a_program_in_a_mount_is_found_by_its_name(each: Isolation, tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "bin" / "coder"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\ncp BRIEF.md network.py\necho > $(dirname $0)/x || true\n")
    tool.chmod(0o755)
    text = write_network(
        ["coder"],
        "a brief",
        folder=tmp_path / "own",
        isolation=each,
        limits=LIMITS,
        mounts=[tool.parent.parent],
    )
    assert text == "a brief"
    assert not (tool.parent / "x").exists()


def refused(command: list[str], folder: Path, mounts: list[Path]) -> str:
    """Return the message of a ConfigError; nothing may be started, nor any folder made."""
    nowhere = Isolation("A", "bubblewrap", Path("/nowhere"), "0")
    settings: dict[str, Any] = {"isolation": nowhere, "limits": LIMITS, "mounts": mounts}
    with pytest.raises(ConfigError) as caught:
        write_network(command, "brief", folder=folder, **settings)
    assert not folder.exists()
    return str(caught.value)


@pytest.mark.parametrize("command", [[], [""], ["sh", "a\0b"]])
def test_no_command(tmp_path: Path, command: list[str]) -> None:
    assert "is no command" in refused(command, tmp_path / "own", [])


def test_programs_that_are_not_inside(tmp_path: Path) -> None:
    tool, link = tmp_path / "tools" / "coder", tmp_path / "links" / "coder"
    for path in (tool, link):
        path.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    link.symlink_to(tool)
    own = tmp_path / "own"
    assert "'coder' is no program in /usr" in refused(["coder"], own, [])
    assert "which is not inside the sandbox" in refused([str(tool)], own, [])
    assert f"lies at {tool}, which is not inside" in refused(["coder"], own, [link.parent])
    assert "is relative" in refused(["./coder"], own, [tool.parent])


def test_mounts_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "link").symlink_to("/proc")
    own = tmp_path / "campaign" / "own"
    cases = {
        "holds your home or the campaign": [Path("/"), home, tmp_path],
        "no absolute path of a file": [Path("tools"), tmp_path / "none", home / ".." / "home"],
        "belongs to the kernel": [Path("/proc"), Path("/dev/shm"), tmp_path / "link"],
    }
    for fault, mounts in cases.items():
        for mount in mounts:
            assert fault in refused(["sh"], own, [mount])


@pytest.mark.parametrize("level", ["B", "D"])
def test_a_relay_needs_a_network_of_the_runs_own(
    tmp_path: Path, there: Endpoint, level: str
) -> None:
    weak = Isolation(level, "weak", Path("/nowhere"), "0", "because")
    with Relay(there.url) as relay, pytest.raises(SandboxError, match=f"no way .* level {level}"):
        write(weak, tmp_path / "own", "", relay=relay)
    assert not (tmp_path / "own").exists()


def test_the_ways_of_the_agent_end_with_it(
    boundary: Isolation, tmp_path: Path, there: Endpoint
) -> None:
    code = """
import os, socket, urllib.request
with urllib.request.urlopen(os.environ['OPENAI_BASE_URL'] + '/models', timeout=30) as reply:
    assert reply.status == 200
open('network.py', 'w').write('x')
"""
    with Relay(there.url) as relay:
        write(boundary, tmp_path, code, relay=relay)
        assert os.listdir(relay.folder) == ["relay.sock"]
        with socket.socket() as line:  # the port was of the sandbox's own loopback
            assert line.connect_ex(("127.0.0.1", PORT)) != 0
    assert "Authorization" not in there.asked[0].headers
