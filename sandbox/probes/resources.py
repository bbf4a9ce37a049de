"""Attacks on what the machine has: memory, disks, processes, time; and what outlives a trial.

Every one ends by itself somewhat past the limit that it attacks.
"""

from dataclasses import replace

from sandbox.probes.scene import QUICK, Attempt, Judge, Probe

MEMORY_MIB = 500
PAST_MIB = 800
MEMORY = replace(QUICK, memory_mib=MEMORY_MIB, file_mib=2048)
DISK_MIB = 40
DISK = replace(QUICK, disk_mib=DISK_MIB, files=400, memory_mib=4096)
FILE_MIB = 16
SLACK_MIB = 64

HOLD = f"""
SIZE = {PAST_MIB} << 20
def fill(path_or_number, size=SIZE):
    with open(path_or_number, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        time.sleep(2)
"""
STAY = """
def stay(seconds=20):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    code = "import signal, time; signal.signal(15, 1); time.sleep(%d)" % seconds
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, F["mark"]])

def detach():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay()
        os._exit(0)
    time.sleep(0.3)
"""


def ends_as(*causes: str, within_s: float = 15.0) -> Judge:
    """Return a judge: the run is ended from outside for one of these reasons, and soon."""

    def judge(attempt: Attempt) -> str:
        ended = attempt.ended
        if ended.cause not in causes:
            return f"it went past its limit and ended as {ended.cause} after {ended.seconds:.1f} s"
        return f"ended only after {ended.seconds:.0f} s" if ended.seconds > within_s else ""

    return judge


def log_is_small(attempt: Attempt) -> str:
    """Compare the log with what one look apart may let through."""
    size = attempt.scene.log.stat().st_size >> 20
    allowed = attempt.limits.file_mib + attempt.limits.log_mib
    return f"the log has {size} MiB; allowed {allowed}" if size > allowed else ""


def file_is_small(attempt: Attempt) -> str:
    """Compare the largest file with its limit."""
    sizes = [path.stat().st_size >> 20 for path in attempt.scene.out.iterdir()]
    largest = max(sizes, default=0)
    return f"a file has {largest} MiB; allowed {FILE_MIB}" if largest > FILE_MIB else ""


def few_processes(attempt: Attempt) -> str:
    """Count the files that the attack's processes left, one each."""
    count = len(list(attempt.scene.out.iterdir()))
    is_ended = attempt.ended.cause == "out_of_processes"
    return "" if is_ended or count <= 60 else f"{count} processes ran; allowed 60"


def in_time(attempt: Attempt) -> str:
    """Check that a deadline was kept."""
    late = attempt.ended.seconds - attempt.limits.wall_s
    return f"it ran {late:.1f} s past its deadline" if late > 5 else ""


def processor_is_given_back(attempt: Attempt) -> str:
    """Check that the limit on processor time ended the run, long before its own end."""
    took = attempt.ended.seconds
    return f"it ran for {took:.0f} s; allowed 1 s of processor time" if took > 9 else ""


def bomb(name: str, threat: str, code: str) -> Probe:
    """Return an attack on memory."""
    ends = frozenset({"exited", "out_of_memory"})
    judge = ends_as("out_of_memory")
    return Probe(name, threat, HOLD + code, judge=judge, limits=MEMORY, ends=ends, is_whole=False)


def flood(name: str, threat: str, code: str) -> Probe:
    """Return an attack on the disk, from which the run must not recover."""
    ends = frozenset({"exited", "out_of_disk"})
    judge = ends_as("out_of_disk")
    return Probe(name, threat, code, judge=judge, limits=DISK, ends=ends, is_whole=False)


PROBES = (
    bomb("memory", "one process takes all memory", "x = bytearray(SIZE)\ntime.sleep(2)"),
    bomb(
        "memory_of_many",
        "many processes take all memory together",
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(os.urandom(1)) * (SIZE // 4)\n"
        "        time.sleep(2)\n"
        "        os._exit(0)\n"
        "time.sleep(2)",
    ),
    bomb(
        "memory_of_an_orphan",
        "a process that left its family takes memory",
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(SIZE)\n"
        "        time.sleep(2)\n"
        "    os._exit(0)\n"
        "time.sleep(2.5)",
    ),
    bomb(
        "memory_of_a_sibling",
        "a process that made itself its parent's sibling takes memory (CLONE_PARENT)",
        'number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]\n'
        "pid, error = call(number, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)\n"
        "if pid == 0:\n"
        "    x = bytearray(SIZE)\n"
        "    time.sleep(2)\n"
        "    os._exit(0)\n"
        "if pid < 0:\n"
        "    x = bytearray(SIZE)\n"
        "time.sleep(2.5)",
    ),
    bomb(
        "memory_hidden",
        "a process hides its account from whoever watches it (PR_SET_DUMPABLE)",
        "LIBC.prctl(4, 0, 0, 0, 0)\nx = bytearray(SIZE)\ntime.sleep(2)",
    ),
    bomb(
        "memory_in_a_file_descriptor",
        "memory that no process has mapped is in no account (memfd_create)",
        "number = attempt(os.memfd_create, 'x')\n"
        "if number is None:\n"
        "    x = bytearray(SIZE)\n"
        "    time.sleep(2)\n"
        "else:\n"
        "    attempt(fill, number)",
    ),
    bomb(
        "memory_in_segments",
        "shared memory of System V that is not attached is in no account",
        "found = LIBC.shmget(0, ctypes.c_size_t(SIZE), 0o1600)\n"
        "LIBC.shmat.restype = ctypes.c_void_p\n"
        "where = LIBC.shmat(found, None, 0) if found >= 0 else None\n"
        "if where is None:\n"
        "    x = bytearray(SIZE)\n"
        "for part in range(8 if where else 0):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        ctypes.memset(where + part * (SIZE // 8), 1, SIZE // 8)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "time.sleep(2)\n"
        "LIBC.shmctl(found, 0, None)",
    ),
    Probe(
        "memory_in_dev_shm",
        "files in /dev/shm take all memory",
        HOLD
        + 'attempt(fill, "/dev/shm/" + F["mark"], 200 << 20)\n'
        + 'size = attempt(lambda: os.fstat(os.open("/dev/shm/" + F["mark"], os.O_RDONLY)))\n'
        + "if size and size.st_blocks * 512 > 65 << 20:\n"
        + '    escaped(f"/dev/shm took {size.st_blocks >> 11} MiB; allowed 64")\n'
        + 'attempt(os.remove, "/dev/shm/" + F["mark"])',
    ),
    Probe(
        "memory_in_tmp",
        "files in /tmp take all memory",
        HOLD
        + 'path = os.environ.get("TMPDIR", "/tmp") + "/big"\n'
        + "attempt(fill, path, 300 << 20)\n"
        + "size = attempt(os.stat, path)\n"
        + "if size and size.st_blocks * 512 > 65 << 20:\n"
        + '    escaped(f"/tmp took {size.st_blocks >> 11} MiB; allowed 64")\n'
        + "attempt(os.remove, path)",
        ends=frozenset({"exited", "out_of_disk"}),
        is_whole=False,
    ),
    flood(
        "disk",
        "large files fill the disk while the trial runs",
        'for i in range(30):\n    open(place("/out") + f"/{i}", "wb").write(bytes(4 << 20))\n'
        "time.sleep(8)",
    ),
    flood(
        "many_files",
        "empty files use up the disk's inodes",
        'for i in range(1000):\n    open(place("/out") + f"/{i}", "wb").close()',
    ),
    flood(
        "many_folders",
        "empty folders use up the disk's inodes",
        'for i in range(1000):\n    os.mkdir(place("/out") + f"/{i}")',
    ),
    flood(
        "many_links",
        "symbolic links to folders use up the disk's inodes",
        'for i in range(1000):\n    os.symlink("/", place("/out") + f"/{i}")',
    ),
    flood(
        "deep_files",
        "files lie so deep that no path leads to them",
        'os.chdir(place("/out"))\n'
        "for i in range(30):\n"
        '    os.mkdir("x" * 200)\n'
        '    os.chdir("x" * 200)\n'
        'for i in range(20):\n    open(str(i), "wb").write(bytes(4 << 20))',
    ),
    flood(
        "closed_folder",
        "files lie in a folder that its owner may not open",
        'folder = place("/out") + "/closed"\nos.mkdir(folder)\n'
        'for i in range(20):\n    open(folder + f"/{i}", "wb").write(bytes(4 << 20))\n'
        "os.chmod(folder, 0)",
    ),
    flood(
        "removed_files",
        "files without a name fill the disk",
        'kept = [open(place("/out") + "/x", "wb") for _ in range(1)]\n'
        "for i in range(20):\n"
        '    kept.append(open(place("/out") + f"/{i}", "wb"))\n'
        '    os.remove(place("/out") + f"/{i}")\n'
        "    kept[-1].write(bytes(4 << 20))\n"
        "    kept[-1].flush()\n"
        "time.sleep(7)",
    ),
    flood(
        "removed_files_in_memory",
        "files without a name and without a descriptor fill the disk",
        "import mmap\n"
        "kept = []\n"
        "for i in range(20):\n"
        '    with open(place("/out") + f"/{i}", "w+b") as file:\n'
        "        file.truncate(4 << 20)\n"
        "        kept.append(mmap.mmap(file.fileno(), 4 << 20))\n"
        '        os.remove(place("/out") + f"/{i}")\n'
        "        kept[-1].write(bytes(4 << 20))\n"
        "    LIBC.close_range(ctypes.c_uint(3), ctypes.c_uint(4096), 0)\n"
        "time.sleep(7)",
    ),
    Probe(
        "deepest_folder",
        "folders so deep that removing them fails",
        'os.chdir(place("/out"))\nfor i in range(1500):\n    os.mkdir("d")\n    os.chdir("d")',
        ends=frozenset({"exited", "out_of_disk"}),
    ),
    Probe(
        "one_large_file",
        "one file grows past its limit",
        HOLD + 'attempt(fill, place("/out") + "/large", 64 << 20)',
        judge=file_is_small,
        limits=replace(QUICK, file_mib=FILE_MIB),
        is_whole=False,
    ),
    Probe(
        "endless_output",
        "the log fills the disk",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for _ in range(2000):\n    attempt(os.write, 1, b'x' * (1 << 18))",
        judge=log_is_small,
        limits=replace(QUICK, log_mib=1, file_mib=FILE_MIB),
        ends=frozenset({"exited", "out_of_disk"}),
        is_whole=False,
    ),
    Probe(
        "fork_bomb",
        "processes without number",
        "for i in range(300):\n    if attempt(os.fork) == 0:\n"
        '        attempt(lambda: open(place("/out") + f"/{os.getpid()}", "w").close())\n'
        "        time.sleep(3)\n        os._exit(0)\ntime.sleep(3)",
        judge=few_processes,
        limits=replace(QUICK, processes=60),
        ends=frozenset({"exited", "out_of_processes"}),
        is_whole=False,
    ),
    Probe(
        "open_files",
        "descriptors without number",
        'attempt(__import__("resource").setrlimit, 7, (4096, 4096))\nkept = []\n'
        "while len(kept) < 200:\n"
        '    number = attempt(os.open, "/dev/null", os.O_RDONLY)\n'
        "    if number is None:\n        break\n"
        "    kept.append(number)\n"
        "len(kept) > 128 and escaped(f'{len(kept)} files are open; allowed 128')",
        limits=replace(QUICK, open_files=128),
    ),
    Probe(
        "endless_loop",
        "a trial that never ends and ignores SIGTERM",
        "for number in range(1, 32):\n"
        "    attempt(signal.signal, number, signal.SIG_IGN) if number not in (9, 19) else None\n"
        "while True: pass",
        judge=ends_as("timed_out", within_s=7.0),
        limits=replace(QUICK, wall_s=1.0),
        ends=frozenset({"timed_out"}),
    ),
    Probe(
        "processor_time",
        "processes together take more processor time than allowed",
        "for _ in range(3):\n    if os.fork() == 0:\n        break\n"
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "start = time.time()\nwhile time.time() - start < 12: pass",
        judge=processor_is_given_back,
        limits=replace(QUICK, cpu_s=1.0),
        ends=frozenset({"exited", "timed_out"}),
        is_whole=False,
    ),
    Probe(
        "left_after_the_end",
        "a process that left its family goes on after a trial ended well",
        STAY + "detach()",
    ),
    Probe(
        "left_after_the_deadline",
        "a process that left its family goes on after a trial was killed",
        STAY + "detach()\nstay()",
        limits=replace(QUICK, wall_s=1.5),
        ends=frozenset({"timed_out"}),
    ),
    Probe(
        "left_after_a_stop",
        "a stopped process goes on after a trial was killed",
        STAY + "if os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    stay()\n"
        "if os.fork() == 0:\n    stay()\ntime.sleep(0.5)\nos.kill(os.getpid(), signal.SIGSTOP)",
        limits=replace(QUICK, wall_s=1.5),
        ends=frozenset({"timed_out"}),
    ),
    Probe(
        "end_at_the_deadline",
        "a trial that ends at its deadline is counted twice, or leaves something",
        STAY + "if os.fork() == 0:\n    stay()\n"
        "time.sleep(max(0, 1.0 - time.clock_gettime(time.CLOCK_MONOTONIC) + F['start']))",
        judge=in_time,
        limits=replace(QUICK, wall_s=1.0),
        ends=frozenset({"exited", "timed_out"}),
        is_whole=False,
    ),
)
