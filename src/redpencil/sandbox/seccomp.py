"""The system calls that programs may make, compiled into a filter once, outside.

The filter knows what to let through and refuses the rest with EPERM: processes, signals, sockets,
tracing, mounts, permissions, other memory, and every call that is yet to be invented.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import tempfile
import termios
from collections.abc import Iterator
from functools import lru_cache

from redpencil.errors import SandboxError

_ALLOWED = """
    access alarm arch_prctl brk chdir clock_getres clock_gettime clock_nanosleep close dup dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2
    fdatasync fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid
    getgid getgroups getitimer getpgrp getpid getppid getrandom getresgid getresuid getrlimit
    getrusage gettid gettimeofday getuid link linkat lseek lstat madvise mkdir mkdirat mmap
    mprotect mremap munmap nanosleep newfstatat open openat pipe pipe2 poll ppoll pread64 preadv
    pselect6 pwrite64 pwritev read readlink readlinkat readv recvfrom rename renameat renameat2
    restart_syscall riscv_flush_icache rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigreturn sched_getaffinity sched_yield select set_robust_list set_tid_address setitimer
    sigaltstack stat statfs statx symlink symlinkat sysinfo time times truncate umask uname unlink
    unlinkat write writev
"""
_EQUAL, _MASKED_EQUAL = 4, 7
_CLONE_THREAD = 0x10000
_FCNTL = "F_DUPFD F_DUPFD_CLOEXEC F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW"
_IOCTL = "FIOCLEX FIONBIO FIONCLEX FIONREAD TCGETS TIOCGWINSZ"


def _conditional() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Calls allowed on a condition: index of an argument, operator, value (and mask before it)."""
    yield "clone", (0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD)  # threads, never processes
    yield "prlimit64", (0, _EQUAL, 0)  # its own limits, which it can only lower
    yield "socketpair", (0, _EQUAL, socket.AF_UNIX)  # event loops wake themselves through one
    yield "sendto", (4, _EQUAL, 0)  # to the other end, never to an address
    # Nothing that sends signals, leases files, or changes what a descriptor stands for.
    for name in _FCNTL.split():
        yield "fcntl", (1, _EQUAL, getattr(fcntl, name))
    for name in _IOCTL.split():
        yield "ioctl", (1, _EQUAL, getattr(termios, name))


@lru_cache(maxsize=1)
def compile_filter() -> bytes:
    """The filter for this machine, as the kernel takes it.

    Raises:
        SandboxError: libseccomp is not installed, or fails.
    """
    try:
        import pyseccomp
    except ImportError as error:
        raise SandboxError("seccomp: the package pyseccomp is not installed") from error
    except (OSError, RuntimeError) as error:
        raise SandboxError(
            "seccomp: libseccomp.so.2 is not installed (apt install libseccomp2)"
        ) from error
    try:
        rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
        rules.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
        rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ERRNO(errno.EPERM))
        for name in _ALLOWED.split():
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
                rules.add_rule(pyseccomp.ALLOW, name)
        for name, condition in _conditional():
            rules.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(*condition))
        # Its flags are in memory, out of a filter's sight: the C library then falls back to clone.
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
        with tempfile.TemporaryFile() as file:
            rules.export_bpf(file)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise SandboxError(f"seccomp: {error}") from error
