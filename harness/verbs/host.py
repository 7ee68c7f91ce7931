"""The verb that looks at the host: doctor."""

import argparse

from harness.doctor import examine
from harness.host.cache import Cache
from harness.host.paths import cache_root
from harness.model.errors import ExitStatus
from harness.report.checks import diagnosis_json, diagnosis_text


def verb_doctor(args: argparse.Namespace) -> int:
    """Print what this host can do; ends with 3 when it lacks something that a run needs."""
    diagnosis = examine(Cache(cache_root()))
    text = diagnosis_json(diagnosis) if args.json else diagnosis_text(diagnosis)
    print(text, end="")
    return int(ExitStatus.ACCEPT if diagnosis.is_fit else ExitStatus.INCONCLUSIVE)
