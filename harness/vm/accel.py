"""What shall execute a guest's instructions: KVM where it really does, TCG elsewhere."""

from dataclasses import dataclass

from harness.host.cache import Cache
from harness.model.arch import AccelKind, ArchSpec
from harness.vm.qemu import QemuBinary


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """The choice, and why it was made."""

    kind: AccelKind
    cpu_model: str
    reason: str


def probe_accelerator(spec: ArchSpec, qemu: QemuBinary, cache: Cache) -> Accelerator:
    """Choose the accelerator and CPU model for guests of this architecture."""
    return Accelerator(kind=AccelKind.TCG, cpu_model=spec.tcg_cpu, reason="stub")
