"""An examination of the host in words and as JSON."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

from harness.model.check import CheckState, Diagnosis
from harness.model.text import inert_line

_WIDTH = 80
_INDENT = 8  # of a check's name
_NAME = 12
_MARKS: Mapping[CheckState, str] = MappingProxyType(
    {CheckState.OK: "ok  ", CheckState.WARNING: "note", CheckState.MISSING: "LACK"}
)


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """One line a check, grouped by what it is for; at the end what to do."""
    lines: list[str] = []
    subjects = dict.fromkeys(check.subject for check in diagnosis.checks)
    for subject in subjects:
        lines.append(subject)
        for check in diagnosis.checks:
            if check.subject != subject:
                continue
            text = f"{check.name:<{_NAME}} {inert_line(check.found)}"
            lines += _wrapped(f"  {_MARKS[check.state]}  ", text)
            if check.hint:
                lines += _wrapped(" " * (_INDENT + _NAME + 1), f"try: {inert_line(check.hint)}")
    lines.append("")
    lines.append(
        "This host can run the harness."
        if diagnosis.is_fit
        else "This host lacks something that a run needs (LACK)."
    )
    if diagnosis.install:
        lines.append("`make setup` installs it, or as root:")
        lines += [f"  {command}" for command in diagnosis.install]
    return "\n".join(lines) + "\n"


def _wrapped(head: str, text: str) -> list[str]:
    rest = " " * (_INDENT + _NAME + 1)
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=rest)


def diagnosis_json(diagnosis: Diagnosis) -> str:
    value = {
        "fit": diagnosis.is_fit,
        "checks": [asdict(check) for check in diagnosis.checks],
        "install": list(diagnosis.install),
    }
    return json.dumps(value, indent=1) + "\n"
