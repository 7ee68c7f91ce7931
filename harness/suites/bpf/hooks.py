"""The BPF selftests as the engine sees them."""

from collections.abc import Sequence

from harness.model.kernel import SelftestsArtifact
from harness.model.plan import Batch, PlannedCase
from harness.suites.base import Reader, SuiteHooks
from harness.suites.bpf.command import batch_command
from harness.suites.bpf.dialects import Dialect, read_dialect
from harness.suites.bpf.readers import is_progs, reader_for

GUEST_CWD = "/opt/selftests/bpf"
"""Where the artifact's folder lies in the guest; the programs open their objects relative to it."""


def bpf_hooks(artifact: SelftestsArtifact) -> SuiteHooks:
    """Commands and readers for the programs of one artifact, in the dialects they were built with.

    Raises RigError when a program of the artifact cannot be read.
    """
    dialects = {
        listing.program: read_dialect(artifact.root / listing.program)
        for listing in artifact.runners
        if is_progs(listing.program)
    }

    def command(
        batch: Batch, remaining: Sequence[PlannedCase]
    ) -> tuple[str, tuple[PlannedCase, ...]]:
        return batch_command(batch, remaining, dialects.get(batch.program, Dialect.UNKNOWN))

    def reader(batch: Batch, cases: Sequence[PlannedCase]) -> Reader:
        return reader_for(batch.program, cases, dialects.get(batch.program, Dialect.UNKNOWN))

    return SuiteHooks(command=command, reader=reader, cwd=GUEST_CWD)
