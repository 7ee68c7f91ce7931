"""The kernel's BPF selftests, one item a case: `pytest selftests --arch aarch64 -k ringbuf`."""

from harness.plugin import KernelCase

SUITE = "bpf"


def test_bpf(kernel_case: KernelCase) -> None:
    """The case passes in a guest that runs the kernel under test."""
    kernel_case.check()
