"""Attacks over sockets: whoever listens on this machine must hear nothing."""

import contextlib
import socket
import threading
import time

from sandbox.probes.scene import Probe, Scene, UnsuitableError

FAMILY = """
def make(name, number, kind=socket.SOCK_RAW, protocol=0):
    made = attempt(socket.socket, number, kind, protocol)
    if made is not None:
        made.close()
        escaped(f"a socket of family {name} was made")
"""


def ears(scene: Scene) -> None:
    """Listen in every way that a program of this machine is reached."""
    loopback = ("127.0.0.1", 0)
    stream = scene.listen("a TCP port", bound(socket.AF_INET, socket.SOCK_STREAM, loopback))
    datagram = scene.listen("a UDP port", bound(socket.AF_INET, socket.SOCK_DGRAM, loopback))
    path, name = str(scene.root / "home/agent.sock"), f"\0{scene.mark}"
    scene.listen("a unix socket", bound(socket.AF_UNIX, socket.SOCK_STREAM, path))
    scene.listen("an abstract socket", bound(socket.AF_UNIX, socket.SOCK_STREAM, name))
    scene.listen("an abstract socket", bound(socket.AF_UNIX, socket.SOCK_DGRAM, f"{name}d"))
    scene.facts |= {"tcp": stream.getsockname()[1], "udp": datagram.getsockname()[1]}
    scene.facts["agent"] = path


def ear_6(scene: Scene) -> None:
    """Listen on the loopback of IPv6."""
    ear = bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
    scene.facts["tcp"] = scene.listen("a TCP port", ear).getsockname()[1]


def name_server(scene: Scene) -> None:
    """Listen where a resolver would ask, where this user may, else on another port."""
    try:
        ear = bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53))
    except UnsuitableError:
        ear = bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    scene.facts["udp"] = scene.listen("a name server", ear).getsockname()[1]


def caller(scene: Scene) -> None:
    """Call a free port until somebody answers: what listens inside would be reached."""
    with bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                scene.heard.append("a caller")
                return
            time.sleep(0.02)

    thread = threading.Thread(target=call)
    thread.start()
    scene.stack.callback(thread.join)
    scene.stack.callback(over.set)
    scene.facts["tcp"] = port


def bound(family: int, kind: int, address: object) -> socket.socket:
    """Return a bound socket.

    Raises:
        UnsuitableError: this machine has no such address.
    """
    try:
        ear = socket.socket(family, kind)
    except OSError as error:
        raise UnsuitableError(f"no socket of family {family}: {error}") from error
    try:
        ear.bind(address)  # type: ignore[arg-type]
    except OSError as error:
        ear.close()
        raise UnsuitableError(f"cannot listen on {address!r}: {error}") from error
    return ear


PROBES = (
    Probe(
        "tcp_to_the_host",
        "a server of this machine is reached over TCP",
        """
for kind in (socket.AF_INET,):
    s = attempt(socket.socket, kind)
    if s:
        s.settimeout(1)
        attempt(s.connect, ("127.0.0.1", F["tcp"]))
        attempt(s.send, b"out")
""",
        plant=ears,
        gets_out_uncontained=True,
    ),
    Probe(
        "tcp_over_ipv6",
        "a server of this machine is reached over IPv6",
        """
for kind, address in ((socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
    s = attempt(socket.socket, kind)
    if s:
        s.settimeout(1)
        attempt(s.connect, (address, F["tcp"]))
""",
        plant=ear_6,
    ),
    Probe(
        "udp_to_the_host",
        "a datagram reaches this machine, connected or not",
        """
s = attempt(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
if s:
    attempt(s.sendto, b"out", ("127.0.0.1", F["udp"]))
    attempt(s.sendmsg, [b"out"], [], 0, ("127.0.0.1", F["udp"]))
    attempt(s.connect, ("127.0.0.1", F["udp"]))
    attempt(s.send, b"out")
""",
        plant=ears,
        gets_out_uncontained=True,
    ),
    Probe(
        "dns",
        "a question for a name leaves, and with it what the name says",
        """
question = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + b"\\x06secret\\x03com\\x00\\x00\\x01\\x00\\x01"
for address in (("127.0.0.1", F["udp"]), ("127.0.0.53", F["udp"])):
    s = attempt(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    if s:
        attempt(s.sendto, question, address)
""",
        plant=name_server,
        gets_out_uncontained=True,
    ),
    Probe(
        "unix_socket",
        "an agent of this machine (docker, dbus, ssh) is reached by its socket's path",
        """
s = attempt(socket.socket, socket.AF_UNIX)
if s:
    attempt(s.connect, F["agent"])
    attempt(s.send, b"out")
""",
        plant=ears,
        gets_out_uncontained=True,
    ),
    Probe(
        "abstract_socket",
        "an agent of this machine is reached by an abstract name",
        """
s = attempt(socket.socket, socket.AF_UNIX)
if s:
    attempt(s.connect, "\\0" + F["mark"])
""",
        plant=ears,
        gets_out_uncontained=True,
    ),
    Probe(
        "abstract_datagram",
        "an agent of this machine gets a datagram by an abstract name",
        """
s = attempt(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM)
if s:
    attempt(s.sendto, b"out", "\\0" + F["mark"] + "d")
""",
        plant=ears,
        gets_out_uncontained=True,
    ),
    Probe(
        "listening_port",
        "a server inside is reached from this machine",
        """
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.settimeout(0.5)
attempt(s.bind, ("127.0.0.1", F["tcp"]))
attempt(s.listen)
attempt(s.accept)
""",
        plant=caller,
        gets_out_uncontained=True,
    ),
    Probe(
        "netlink_socket",
        "the kernel's network tables are asked or changed",
        FAMILY + 'make("netlink", socket.AF_NETLINK)',
        gets_out_uncontained=True,
    ),
    Probe(
        "vsock_socket",
        "the hypervisor is reached, which no network namespace hides",
        FAMILY + 'make("vsock", 40, socket.SOCK_STREAM)\nmake("vsock", 40, socket.SOCK_DGRAM)',
    ),
    Probe(
        "raw_socket",
        "packets are forged or overheard",
        FAMILY
        + 'make("inet, raw", socket.AF_INET, socket.SOCK_RAW, 1)\n'
        + 'make("packet", 17, socket.SOCK_RAW, 768)\nmake("packet", 17, socket.SOCK_DGRAM, 768)',
    ),
    Probe(
        "exotic_sockets",
        "families with a history of kernel faults are there",
        FAMILY
        + """
kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
for name, number in {"key": 15, "can": 29, "tipc": 30, "bluetooth": 31, "rxrpc": 33, "alg": 38,
                     "kcm": 41, "smc": 43, "xdp": 44}.items():
    for kind in kinds:
        make(name, number, kind)
""",
    ),
    Probe(
        "family_in_the_upper_half",
        "a socket family hides from a filter behind bits that the kernel ignores",
        """
number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
for family in (16, 40, 38, 17):
    for shift in (32, 40):
        found, _ = call(number, family | 1 << shift, 3, 0)
        if found >= 0:
            escaped(f"a socket of family {family} was made")
""",
    ),
)
