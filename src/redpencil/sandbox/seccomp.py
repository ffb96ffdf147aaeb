"""The system calls that programs may make, compiled into a filter once, outside.

The filter knows what to let through and refuses the rest with EPERM: processes, signals, sockets,
tracing, mounts, permissions, other memory, and every call that is yet to be invented.
"""

from __future__ import annotations

import errno
import socket
import tempfile
from functools import lru_cache
from typing import Any

from redpencil.errors import SandboxError

_ALLOWED = """
    access alarm arch_prctl brk chdir clock_getres clock_gettime clock_nanosleep close dup dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2
    fcntl fdatasync flock fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid
    getgid getgroups getitimer getpgrp getpid getppid getrandom getresgid getresuid getrlimit
    getrusage gettid gettimeofday getuid ioctl link linkat lseek lstat madvise mkdir mkdirat mmap
    mprotect mremap munmap nanosleep newfstatat open openat pipe pipe2 poll ppoll pread64 preadv
    pselect6 pwrite64 pwritev read readlink readlinkat readv recvfrom rename renameat renameat2
    restart_syscall riscv_flush_icache rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigreturn sched_getaffinity sched_yield select set_robust_list set_tid_address setitimer
    sigaltstack stat statfs statx symlink symlinkat sysinfo time times truncate umask uname unlink
    unlinkat utimensat write writev
"""
_EQUAL, _MASKED_EQUAL = 4, 7
_CLONE_THREAD = 0x10000
# Name, then conditions on its arguments: index, operator, value (and mask before it).
_CONDITIONAL: tuple[tuple[Any, ...], ...] = (
    ("clone", (0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD)),  # threads, never processes
    ("prlimit64", (0, _EQUAL, 0)),  # its own limits, which it can only lower
    ("socketpair", (0, _EQUAL, socket.AF_UNIX)),  # event loops wake themselves through one
    ("sendto", (4, _EQUAL, 0)),  # to the other end, never to an address
)


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
        for name, *conditions in _CONDITIONAL:
            rules.add_rule(pyseccomp.ALLOW, name, *(pyseccomp.Arg(*each) for each in conditions))
        # Its flags are in memory, out of a filter's sight: the C library then falls back to clone.
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
        with tempfile.TemporaryFile() as file:
            rules.export_bpf(file)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise SandboxError(f"seccomp: {error}") from error
