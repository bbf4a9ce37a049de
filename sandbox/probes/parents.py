"""Attacks on the parent that holds the imports, and through it on the trials before this one."""

import sys

from sandbox.boundary import Limits
from sandbox.probes.plants import warm_parent
from sandbox.probes.scene import Probe, Scene
from sandbox.watch import contain

REMEMBER = "import sys, time; kept = [sys.argv[1] + str(i) for i in range(100)]; time.sleep(0.1)"
LEAVE = """
import os, sys
for folder in {"/tmp", "/dev/shm", "/var/tmp", os.environ.get("TMPDIR", "/tmp")}:
    try:
        open(os.path.join(folder, "earlier-" + sys.argv[1]), "w").close()
    except OSError:
        pass
"""


def earlier(scene: Scene, code: str, word: str) -> None:
    """Run a trial of the same user before the attack; it is told a word."""
    log = scene.root / "others/trial-1/log.txt"
    log.touch()
    contain(
        scene.isolation,
        argv=[sys.executable, "-I", "-c", code, word],
        mounts=[],
        env={"WORD": word},
        limits=Limits(wall_s=20.0),
        log=log,
        warm=scene.warm,
    )


def one_with_a_secret(scene: Scene) -> None:
    """Run a trial that holds the secret in its memory, arguments and variables."""
    earlier(scene, REMEMBER, scene.secret)


def one_that_leaves_files(scene: Scene) -> None:
    """Run a trial that leaves files wherever it may."""
    earlier(scene, LEAVE, scene.mark)


PROBES = (
    Probe(
        "socket_of_the_parent",
        "a trial asks the warm parent for a process that nothing contains",
        """
for path in (F["beside"], F["warm"]):
    s = attempt(socket.socket, socket.AF_UNIX)
    if s and attempt(lambda: s.connect(path) or True):
        escaped(f"{path} answers")
""",
        plant=warm_parent,
        gets_out_uncontained=True,
    ),
    Probe(
        "files_of_the_parent",
        "a trial finds, locks or removes what the warm parent is found by",
        """
for ending in (".lock", ".log"):
    number = attempt(os.open, F["warm"] + ending, os.O_RDONLY)
    if number is not None:
        escaped(F["warm"] + ending + " can be locked")
if attempt(os.listdir, os.path.dirname(F["warm"])) is not None:
    escaped("the folder of the warm parent is listed")
attempt(os.remove, F["beside"])
""",
        plant=warm_parent,
        gets_out_uncontained=True,
    ),
    Probe(
        "memory_of_an_earlier_trial",
        "what a trial before held in memory is found in this one's",
        """
def search():
    wanted = b"segwright-" + b"secret-"
    for line in open("/proc/self/maps"):
        fields = line.split()
        start, end = (int(n, 16) for n in fields[0].split("-"))
        if not fields[1].startswith("rw") or end - start > 256 << 20:
            continue
        with open("/proc/self/mem", "rb", 0) as memory:
            memory.seek(start)
            content = attempt(memory.read, end - start) or b""
        begin = content.find(wanted)
        while begin >= 0:
            word = content[begin:begin + 33]
            if word[17:].isalnum():
                print(word.decode(errors="replace"))
            begin = content.find(wanted, begin + 1)

search()
""",
        plant=one_with_a_secret,
    ),
    Probe(
        "files_of_an_earlier_trial",
        "what a trial before left in /tmp or /dev/shm is there in the next",
        """
for folder in {"/tmp", "/dev/shm", "/var/tmp", os.environ.get("TMPDIR", "/tmp")}:
    for base, _, names in os.walk(folder):
        for name in names:
            if name == "earlier-" + F["mark"]:
                escaped(f"{base}/{name} is seen")
""",
        plant=one_that_leaves_files,
    ),
)
