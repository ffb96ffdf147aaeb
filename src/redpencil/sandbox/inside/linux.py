"""The kernel's walls, through the system calls that Python has no names for.

Namespaces and the small root are made once, for the zygote; Landlock, seccomp and resource limits
are put on by each child before it runs its program. A failure is an OSError that names the wall.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWCGROUP = 0x02000000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 2, 4, 8, 4096
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_MNT_DETACH = 2
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

# The same numbers on every architecture: these calls are younger than the common table.
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_FS_EXECUTE, _FS_WRITE_FILE, _FS_READ_FILE, _FS_READ_DIR = 1, 2, 4, 8
_FS_TRUNCATE = 1 << 14
_FS_IOCTL_DEV = 1 << 15
_FS_MAKE_CHAR, _FS_MAKE_SOCK, _FS_MAKE_FIFO, _FS_MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
_FS_OF_FILES = _FS_EXECUTE | _FS_WRITE_FILE | _FS_READ_FILE | _FS_TRUNCATE | _FS_IOCTL_DEV
_FS_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_RIGHTS_SINCE_ABI_5 = 16
_NET_BIND_AND_CONNECT = 3
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3


def _checked(result: int, wall: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{wall}: {os.strerror(number)}")
    return result


def enter_namespaces() -> None:
    """Move into new user, mount, pid, net, ipc, uts and cgroup namespaces.

    The pid namespace holds for children only. Root of old is root here until `become_nobody`; a
    plain user stays itself, with every capability inside and none outside.
    """
    uid, gid = os.getuid(), os.getgid()
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.getpid()
    helper = os.fork()
    if helper == 0:  # a process left outside: who is in a new user namespace cannot map two ids
        try:
            os.close(go_write)
            os.read(go_read, 1)
            if uid == 0:
                _map_ids(pid, "uid_map", f"0 0 1\n{NOBODY} {NOBODY} 1")
                _map_ids(pid, "gid_map", f"0 0 1\n{NOBODY} {NOBODY} 1")
            else:
                _map_ids(pid, "setgroups", "deny")
                _map_ids(pid, "uid_map", f"{uid} {uid} 1")
                _map_ids(pid, "gid_map", f"{gid} {gid} 1")
            os.write(done_write, b"k")
        finally:
            os._exit(0)
    os.close(go_read)
    os.close(done_write)
    try:
        _checked(_libc.unshare(_CLONE_NEWUSER), "user namespace")
        os.write(go_write, b"g")
        if os.read(done_read, 1) != b"k":
            raise OSError("user namespace: its ids cannot be mapped")
    finally:
        os.close(go_write)
        os.close(done_read)
        os.waitpid(helper, 0)
    for flag, name in (
        (_CLONE_NEWNS, "mount"),
        (_CLONE_NEWPID, "pid"),
        (_CLONE_NEWNET, "network"),
        (_CLONE_NEWIPC, "ipc"),
        (_CLONE_NEWUTS, "uts"),
        (_CLONE_NEWCGROUP, "cgroup"),
    ):
        _checked(_libc.unshare(flag), f"{name} namespace")


def _map_ids(pid: int, name: str, content: str) -> None:
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(content)


def make_root(stage: str, readable: Iterable[str], scratch: str) -> None:
    """Exchange the root folder for a read-only one with the readable folders and a scratch.

    Args:
        stage: any folder that holds none of the readable ones; nobody else sees it change.
        readable: folders to keep, at the paths they have.
        scratch: path of the only place that can be written to: 16 MB of memory, 512 files.
    """
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", stage, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=4m,mode=755")
    for path in readable:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(stage + path), exist_ok=True)
            os.symlink(os.readlink(path), stage + path)
            continue
        os.makedirs(stage + path, exist_ok=True)
        _mount(path, stage + path, None, _MS_BIND | _MS_REC)
        _make_read_only(stage + path, recursive=True)
    os.makedirs(stage + "/dev", exist_ok=True)
    for name in ("null", "zero", "urandom"):
        with open(f"{stage}/dev/{name}", "w"):
            pass
        _mount(f"/dev/{name}", f"{stage}/dev/{name}", None, _MS_BIND)
    os.mkdir(stage + scratch)
    _mount(
        "tmpfs",
        stage + scratch,
        "tmpfs",
        _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
        "size=16m,nr_inodes=512,mode=1777",
    )
    if not os.path.exists(stage + "/tmp"):  # some readable folder may lie in there
        os.symlink(scratch, stage + "/tmp")
    os.mkdir(stage + "/old")
    os.chdir(stage)
    _checked(_libc.pivot_root(b".", b"old"), "new root folder")
    os.chdir("/")
    _checked(_libc.umount2(b"/old", _MNT_DETACH), "new root folder")
    os.rmdir("/old")
    _make_read_only("/", recursive=False)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source and source.encode(),
        target.encode(),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _checked(result, f"mounting {target}")


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def _make_read_only(path: str, *, recursive: bool) -> None:
    flags = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | (_MOUNT_ATTR_NODEV if recursive else 0)
    attributes = _MountAttributes(flags, 0, 0, 0)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        -100,
        path.encode(),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )
    _checked(result, f"making {path} read-only")


def become_nobody() -> None:
    """Give up root, within a user namespace that knows nobody."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def give_up_privileges() -> None:
    """No capabilities, none to be had by executing anything, and no one may look inside."""
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "dropping capabilities")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "closing memory to others")


def die_with_parent(signal: int) -> None:
    """Be sent the signal when the parent dies. Undone by a change of user: call it after."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "death with the parent")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "adopting orphans")


def kill_everyone() -> bool:
    """Kill all processes of this pid namespace but this one; whether there were any."""
    killed: int = _libc.kill(-1, 9)
    return killed == 0


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_fs", ctypes.c_uint64),
        ("handled_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int:
    """The kernel's version of Landlock, from 1 on."""
    abi: int = _libc.syscall(
        _SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    return _checked(abi, "landlock")


def landlock_ruleset(readable: Iterable[str], scratch: str) -> int:
    """A descriptor of rules: read the readable folders, do as you like in the scratch, no more.

    As far as the kernel's Landlock goes, TCP, abstract sockets and signals to processes outside
    are refused as well.
    """
    abi = landlock_abi()
    rights = (1 << _FS_RIGHTS_OF_ABI.get(abi, _FS_RIGHTS_SINCE_ABI_5)) - 1
    attributes = _RulesetAttributes(
        rights,
        _NET_BIND_AND_CONNECT if abi >= 4 else 0,
        _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0,
    )
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _checked(
        _libc.syscall(
            _SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0
        ),
        "landlock",
    )
    special = _FS_EXECUTE | _FS_MAKE_CHAR | _FS_MAKE_BLOCK | _FS_MAKE_SOCK | _FS_MAKE_FIFO
    rules = [(path, _FS_EXECUTE | _FS_READ_FILE | _FS_READ_DIR) for path in readable]
    rules += [("/dev/null", _FS_READ_FILE | _FS_WRITE_FILE)]
    rules += [("/dev/urandom", _FS_READ_FILE), ("/dev/zero", _FS_READ_FILE)]
    rules += [(scratch, rights & ~special)]
    for path, allowed in rules:
        if not os.path.isdir(path):
            allowed &= _FS_OF_FILES
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _PathBeneath(allowed & rights, descriptor)
        result = _libc.syscall(
            _SYS_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0
        )
        _checked(result, f"landlock rule for {path}")
        os.close(descriptor)
    return ruleset


def restrict(ruleset: int) -> None:
    """Put the rules on this process and all that it starts."""
    _checked(_libc.syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")


class SystemCallFilter:
    """A compiled seccomp filter, ready to be put on."""

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    def __init__(self, bpf: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(bpf, len(bpf))
        self._program = self._Program(len(bpf) // 8, ctypes.addressof(self._buffer))
        self._pointer = ctypes.byref(self._program)

    def put_on(self) -> None:
        """From here on, the filter decides which system calls there are."""
        _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._pointer, 0, 0), "seccomp")
