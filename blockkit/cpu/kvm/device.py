"""The kernel's virtual machine device: whether it is there, may be used, and can do what is needed."""

from __future__ import annotations

import errno
import os
import platform
from ctypes import CDLL, Structure, addressof, c_int, c_ulong, get_errno
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from blockkit.cpu.kvm import interface as kvm
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable

PATH: Final = "/dev/kvm"

#: What the accelerator cannot do without, and how it is called in an error.
NEEDED: Final = {
    kvm.CAP_USER_MEMORY: "memory of the program (KVM_CAP_USER_MEMORY)",
    kvm.CAP_DESTROY_MEMORY_REGION_WORKS: "memory that goes away (KVM_CAP_DESTROY_MEMORY_REGION_WORKS)",
    kvm.CAP_READONLY_MEM: "read-only memory (KVM_CAP_READONLY_MEM)",
    kvm.CAP_EXT_CPUID: "setting CPUID (KVM_CAP_EXT_CPUID)",
    kvm.CAP_USER_NMI: "raising NMI (KVM_CAP_USER_NMI)",
    kvm.CAP_VCPU_EVENTS: "the state of interrupts (KVM_CAP_VCPU_EVENTS)",
    kvm.CAP_DEBUGREGS: "debug registers (KVM_CAP_DEBUGREGS)",
    kvm.CAP_XSAVE: "the state of the x87 and SSE (KVM_CAP_XSAVE)",
    kvm.CAP_XCRS: "extended control registers (KVM_CAP_XCRS)",
    kvm.CAP_IMMEDIATE_EXIT: "coming back at once (KVM_CAP_IMMEDIATE_EXIT)",
}


def control(descriptor: int, name: str, request: int, argument: Structure | int = 0) -> int:
    """Call an ioctl and return what it does; raises EmulationError, which calls it ``name``."""
    done = _ioctl()(descriptor, request, argument if isinstance(argument, int) else addressof(argument))
    if done < 0:
        raise failure(name, get_errno())
    return done


def failure(name: str, number: int | None) -> EmulationError:
    """Return the error that says that ``name`` failed."""
    return EmulationError(f"kvm: {name} failed: {os.strerror(number or errno.EIO).lower()}")


def open_device(path: str = PATH) -> int:
    """Return a descriptor of the device.

    Raises:
        EmulationError: this is no x86-64 Linux, the device is missing or not permitted, it speaks another version,
            or it lacks something of NEEDED.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "amd64"):
        raise EmulationError(f"kvm: the host is {platform.system()} on {platform.machine()}, expected Linux on x86_64")
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise EmulationError(f"kvm: {path} does not exist, expected the modules kvm_intel or kvm_amd") from error
    except PermissionError as error:
        hint = "expected read and write permission, as the group kvm has"
        raise EmulationError(f"kvm: {path} may not be opened, {hint}") from error
    except OSError as error:
        raise EmulationError(f"kvm: {path} cannot be opened: {os.strerror(error.errno or 0).lower()}") from error
    try:
        version = control(device, "KVM_GET_API_VERSION", kvm.GET_API_VERSION)
        if version != kvm.API_VERSION:
            raise EmulationError(f"kvm: the kernel speaks version {version}, expected {kvm.API_VERSION}")
        for number, name in NEEDED.items():
            if not extension(device, number):
                raise EmulationError(f"kvm: the kernel lacks {name}")
    except BaseException:
        os.close(device)
        raise
    return device


def extension(descriptor: int, number: int) -> int:
    """Return what the device or a VM says of a capability: 0 for no."""
    return control(descriptor, "KVM_CHECK_EXTENSION", kvm.CHECK_EXTENSION, number)


def runner(vcpu: int) -> Callable[[], int]:
    """Return what runs a processor until an exit; it returns 0, or the number of an error, often EINTR.

    Others run Python meanwhile.
    """
    call = _ioctl()

    def run() -> int:
        return get_errno() if call(vcpu, kvm.RUN, 0) else 0

    return run


@cache
def _ioctl() -> Callable[[int, int, int], int]:
    """Return the C library's function.

    Not :func:`fcntl.ioctl`, for which an argument above 2 GiB is too large, and every interruption an exception.
    """
    call: Any = CDLL(None, use_errno=True).ioctl
    call.argtypes, call.restype = (c_int, c_ulong, c_ulong), c_int
    function: Callable[[int, int, int], int] = call
    return function
