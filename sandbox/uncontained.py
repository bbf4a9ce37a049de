"""Level D: no boundary, by the user's own word.

Covered, and nothing else: an environment of named variables, closed descriptors, the limits of
each process, no terminal to type into, no process left behind unless the run kills its keeper,
and all that is watched from outside (`sandbox/watch.py`). Not covered: the network, the user's
files, other processes, the kernel; a run may do whatever its user may.
"""

from collections.abc import Mapping

from sandbox import keeper
from sandbox.boundary import Contained, Isolation, Run

NO_BOUNDARY = "there is no boundary"
OPEN = (
    "home_secret planted_key environment_of_others command_lines_of_others memory_of_others "
    "descriptors_of_others labels_by_path labels_by_process_root labels_by_mountinfo "
    "labels_by_symbolic_link labels_by_hard_link labels_by_handle names_of_others "
    "sizes_of_others other_trials campaign_database password_file kernel_log "
    "connections_of_others tcp_to_the_host tcp_over_ipv6 udp_to_the_host dns unix_socket "
    "abstract_socket abstract_datagram listening_port netlink_socket vsock_socket "
    "raw_socket exotic_sockets family_in_the_upper_half write_data remove_data chmod_data "
    "utime_data label_data_with_attributes write_code reopen_for_writing write_labels "
    "write_home plant_in_site_packages plant_beside_the_trial write_system leave_in_tmp "
    "leave_in_shared_memory leave_a_segment kernel_settings terminal_screen "
    "terminal_keyboard mode_of_the_log memory_in_a_file_descriptor memory_in_segments "
    "memory_in_dev_shm memory_in_tmp kill_others reach_the_runner trace_others "
    "trace_a_child read_memory_of_others take_a_descriptor compare_processes user_namespace "
    "namespace_by_clone3 join_a_namespace mount change_the_root new_privileges capabilities "
    "no_filter bpf io_uring performance_events userfaultfd kernel_keys secret_memory "
    "device_nodes devices priority calls_of_another_processor socket_of_the_parent "
    "files_of_the_parent files_of_an_earlier_trial "
).split()
"""The probes that nothing here stops, for a user who may do what they try."""


class Uncontained:
    """The backend of level D; it is never found, only asked for."""

    name = "none"
    level = "D"
    gaps: Mapping[str, str] = dict.fromkeys(OPEN, NO_BOUNDARY)

    def find(self) -> list[Isolation]:
        """Return nothing: `sandbox.isolation.unsafe` makes the only one, with its reason."""
        return []

    def start(self, isolation: Isolation, run: Run) -> Contained:
        """Start a run below a keeper; a warm parent is of no use here, and not asked."""
        scratch = keeper.make_scratch()
        return keeper.Kept(run, scratch, keeper.orders(run, scratch))
