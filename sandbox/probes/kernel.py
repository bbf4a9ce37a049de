"""Attacks on other processes and on the kernel: signals, tracing, privileges, system calls."""

from dataclasses import replace

from sandbox.probes.plants import open_descriptors, victim
from sandbox.probes.scene import QUICK, Probe, Scene

NUMBERS = {
    "x86_64": {
        **{"clone": 56, "ptrace": 101, "capset": 126, "chroot": 161, "mount": 165, "mknod": 133},
        **{"umount2": 166, "init_module": 175, "perf_event_open": 298, "setns": 308},
        **{"process_vm_readv": 310, "finit_module": 313, "bpf": 321, "userfaultfd": 323},
        **{"keyctl": 250, "add_key": 248, "pivot_root": 155, "unshare": 272, "kcmp": 312},
        **{"kexec_load": 246, "swapon": 167, "acct": 163, "quotactl": 179, "mknodat": 259},
    },
    "aarch64": {
        **{"clone": 220, "ptrace": 117, "capset": 91, "chroot": 51, "mount": 40, "mknodat": 33},
        **{"umount2": 39, "init_module": 105, "perf_event_open": 241, "setns": 268},
        **{"process_vm_readv": 270, "finit_module": 273, "bpf": 280, "userfaultfd": 282},
        **{"keyctl": 219, "add_key": 217, "pivot_root": 41, "unshare": 97, "kcmp": 272},
        **{"kexec_load": 104, "swapon": 224, "acct": 89, "quotactl": 60},
    },
}
NEW = {"io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435, "pidfd_open": 434}
NEW |= {"pidfd_getfd": 438, "pidfd_send_signal": 424, "memfd_secret": 447, "mount_setattr": 442}

CALLS = f"""
NUMBERS = {NUMBERS!r}[os.uname().machine] | {NEW!r}
DENIED = (errno.EPERM, errno.ENOSYS, errno.EACCES)

def reaches(name, *args):
    found, error = call(NUMBERS[name], *args)
    if found >= 0 or error not in DENIED:
        escaped(f"{{name}} reaches the kernel: {{found}}, {{errno.errorcode.get(error)}}")

def apart(what):
    child = os.fork()
    if child == 0:
        what()
        os._exit(0)
    os.waitpid(child, 0)
"""


def both(scene: Scene) -> None:
    """Start the process with the secret and hold descriptors open."""
    open_descriptors(scene)
    victim(scene)


def kernel(name: str, threat: str, code: str) -> Probe:
    """Return an attack that makes system calls."""
    return Probe(name, threat, CALLS + code)


PROBES = (
    Probe(
        "kill_others",
        "a process of this machine is killed or stopped",
        CALLS
        + """
for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    attempt(os.kill, F["victim"], number)
pidfd = call(NUMBERS["pidfd_open"], F["victim"], 0)[0]
if pidfd >= 0:
    call(NUMBERS["pidfd_send_signal"], pidfd, signal.SIGKILL, None, 0)
time.sleep(0.1)
""",
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "reach_the_runner",
        "whoever started the trial can be signalled",
        """
def reach(pid):
    os.kill(pid, 0)
    escaped(f"process {pid} of this machine can be signalled")
for pid in {F["runner"], F["victim"], os.getppid()} - {0, 1, 2}:
    attempt(reach, pid)
""",
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "trace_others",
        "a process of this machine is traced (ptrace)",
        CALLS
        + """
for pid in {F["victim"], F["runner"], os.getppid()} - {0, 1}:
    found, error = call(NUMBERS["ptrace"], 0x4206, pid, 0, 0)
    if found == 0:
        escaped(f"process {pid} is traced")
""",
        plant=victim,
    ),
    kernel(
        "trace_a_child",
        "tracing reaches the kernel, a way past filters of system calls",
        'apart(lambda: reaches("ptrace", 0, 0, 0, 0))',
    ),
    Probe(
        "read_memory_of_others",
        "a process's memory is read by a system call (process_vm_readv)",
        CALLS
        + """
for pid in (F["victim"], F["runner"], os.getppid(), 1):
    here = ctypes.create_string_buffer(8)
    local = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(here), 8))
    there = ctypes.create_string_buffer(struct.pack("QQ", 0x1000, 8))
    found, error = call(NUMBERS["process_vm_readv"], pid, local, 1, there, 1, 0)
    if found >= 0 or error == errno.EFAULT:
        escaped(f"the memory of process {pid} is open")
""",
        plant=victim,
    ),
    Probe(
        "take_a_descriptor",
        "an open file of another process is taken over (pidfd_getfd)",
        CALLS
        + """
for pid in (F["victim"], F["runner"], os.getppid(), 1):
    process = call(NUMBERS["pidfd_open"], pid, 0)[0]
    for number in range(64 if process >= 0 else 0):
        taken = call(NUMBERS["pidfd_getfd"], process, number, 0)[0]
        if taken >= 0:
            escaped(f"descriptor {number} of process {pid} was taken")
            break
""",
        plant=both,
    ),
    kernel(
        "compare_processes",
        "kernel addresses of other processes are compared (kcmp)",
        'reaches("kcmp", os.getpid(), os.getppid() or 1, 1, 0, 0)',
    ),
    kernel(
        "user_namespace",
        "a namespace of its own gives a trial the kernel's privileged parts",
        """
def inside(flags):
    if call(NUMBERS["unshare"], flags)[0] == 0:
        escaped(f"a namespace was made: {flags:x}")
    if call(NUMBERS["clone"], flags | signal.SIGCHLD, 0, 0, 0, 0)[0] >= 0:
        escaped(f"a process in a new namespace was made: {flags:x}")
for flags in (0x10000000, 0x10020000, 0x40000000, 0x20000000, 0x08000000, 0x02000000, 0x00000080):
    apart(lambda: inside(flags))
""",
    ),
    kernel(
        "namespace_by_clone3",
        "a namespace is made by the call whose arguments no filter sees",
        """
def inside():
    asked = ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0))
    found, error = call(NUMBERS["clone3"], asked, 64)
    if found >= 0:
        escaped("a process in a new namespace was made")
apart(inside)
""",
    ),
    kernel(
        "join_a_namespace",
        "another process's namespace is joined (setns)",
        """
def inside(path):
    number = attempt(os.open, path, os.O_RDONLY)
    if number is not None and call(NUMBERS["setns"], number, 0)[0] == 0:
        escaped(f"{path} was joined")
for pid in ("1", "self", str(F["runner"])):
    for name in ("user", "mnt", "net", "pid", "ipc", "uts"):
        apart(lambda: inside(f"/proc/{pid}/ns/{name}"))
""",
    ),
    kernel(
        "mount",
        "file systems are mounted, or made writable again",
        """
here = (place("/out") + "/mounted").encode()
os.mkdir(here)
reaches("mount", b"none", here, b"tmpfs", 0, None)
call(NUMBERS["umount2"], here, 2)
reaches("mount", None, place("/data").encode(), None, 0x1020, None)
reaches("umount2", place("/data").encode(), 2)
reaches("fsopen", b"tmpfs", 0)
reaches("open_tree", -100, here, 1)
reaches("mount_setattr", -100, b"/nowhere", 0, None, 0)
""",
    ),
    kernel(
        "change_the_root",
        "the root folder is exchanged (chroot, pivot_root)",
        'apart(lambda: reaches("chroot", place("/out").encode()))\n'
        'reaches("pivot_root", b"/nowhere", b"/nowhere")',
    ),
    Probe(
        "new_privileges",
        "a setuid program gives a trial more than it has",
        """
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
if fields["NoNewPrivs"].strip() != "1":
    escaped("setuid programs are obeyed")
if LIBC.prctl(38, 0, 0, 0, 0) == 0:
    escaped("the lock on privileges was opened")
""",
    ),
    Probe(
        "capabilities",
        "a trial holds privileges of the kernel",
        """
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    if int(fields[name], 16):
        escaped(f"{name} is {fields[name].strip()}")
""",
    ),
    Probe(
        "no_filter",
        "no filter stands between a trial and the kernel's calls",
        """
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
if fields["Seccomp"].strip() != "2":
    escaped("system calls are not filtered")
""",
    ),
    kernel("bpf", "programs are loaded into the kernel", 'reaches("bpf", 0, None, 0)'),
    kernel(
        "io_uring",
        "files and sockets are used past every filter of system calls",
        'reaches("io_uring_setup", 0, None)',
    ),
    kernel(
        "performance_events",
        "the kernel's counters are read (perf_event_open)",
        'reaches("perf_event_open", None, 0, -1, -1, 0)',
    ),
    kernel(
        "userfaultfd",
        "the kernel is held in the middle of a copy, a help to exploits",
        'reaches("userfaultfd", 1)',
    ),
    kernel(
        "kernel_keys",
        "keys of the user's session are listed, read or left",
        'reaches("keyctl", 0, -3, 0, 0, 0)\nreaches("add_key", b"user", b"x", b"y", 1, -2)',
    ),
    kernel(
        "kernel_modules",
        "code is loaded into the kernel",
        'reaches("init_module", None, 0, None)\nreaches("finit_module", -1, None, 0)\n'
        'reaches("kexec_load", 0, 0, None, 0)',
    ),
    kernel(
        "secret_memory",
        "memory that nobody outside can look into (memfd_secret)",
        'reaches("memfd_secret", 0)',
    ),
    kernel(
        "device_nodes",
        "a device is made in a folder that the trial may write",
        """
for folder in (place("/out"), os.environ.get("TMPDIR", "/tmp")):
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        path = f"{folder}/{F['mark']}"
        for what in (lambda: os.mknod(path, kind | 0o600, os.makedev(1, 5)),):
            if attempt(lambda: what() or True):
                escaped(f"{path} was made")
                attempt(os.remove, path)
""",
    ),
    Probe(
        "devices",
        "a device that was not leased can be opened: memory, kernel, disk, GPU",
        """
names = ["mem", "kmem", "port", "kmsg", "fuse", "kvm", "loop-control", "net/tun", "vhost-vsock",
         "uinput", "sda", "vda", "nvme0n1", "nvidiactl", "nvidia-uvm", "nvidia-modeset",
         "dri/card0", "dri/renderD128", "kfd"] + [f"nvidia{i}" for i in range(8)]
for name in names:
    if attempt(os.open, f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK) is not None:
        escaped(f"/dev/{name} was opened")
""",
    ),
    Probe(
        "priority",
        "a trial takes the processor before all others, or survives the lack of memory",
        """
path = "/proc/self/oom_score_adj"
found = (
    attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5) or "a higher priority was taken"),
    attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or "real time"),
    attempt(lambda: os.write(os.open(path, os.O_WRONLY), b"-900") and "spared by the kernel"),
)
for what in filter(None, found):
    escaped(what)
""",
    ),
    kernel(
        "calls_of_another_processor",
        "calls are made with the numbers of another processor, which a filter may not know",
        """
import mmap
def old():
    code = b"\\x53\\xb8\\x36\\x01\\x00\\x00\\xbb\\x00\\x00\\x00\\x10\\xcd\\x80\\x5b\\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    where = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if ctypes.CFUNCTYPE(ctypes.c_int)(where)() == 0:
        escaped("a namespace was made by a 32-bit call")

def wide():
    if call(0x40000000 + NUMBERS["unshare"], 0x10000000)[0] == 0:
        escaped("a namespace was made by an x32 call")

if os.uname().machine == "x86_64":
    apart(wide)
    apart(old)
""",
    ),
    Probe(
        "kill_the_boundary",
        "the processes that hold the boundary are killed, and with it what it holds back",
        """
if os.getppid() in (0, 1):
    if os.fork() == 0:
        os.setsid()
        code = "import time; time.sleep(20)"
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, F["mark"]])
    time.sleep(0.3)
    for pid in (1, 2):
        if pid != os.getpid():
            attempt(os.kill, pid, signal.SIGKILL)
    time.sleep(0.5)
    attempt(open, F["root"] + "/campaign.db")
""",
        is_whole=False,
        levels="A",
    ),
    Probe(
        "stop_the_boundary",
        "the processes that hold the boundary are stopped, so that no deadline is kept",
        """
if os.getppid() in (0, 1):
    if os.fork() == 0:
        code = "import time; time.sleep(20)"
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, F["mark"]])
    time.sleep(0.2)
    for pid in (1, 2):
        if pid != os.getpid():
            attempt(os.kill, pid, signal.SIGSTOP)
    time.sleep(20)
""",
        limits=replace(QUICK, wall_s=1.5),
        ends=frozenset({"timed_out"}),
        levels="A",
    ),
)
