"""Patterns for cases, as people write them in waivers, known issues and policies.

`*` and `?` stay within one part of a case, `**` may cross slashes; all else is itself. A pattern is
for a case and for all its subtests: `bpf/test_progs/a` is for `…/a/sub` and not for `…/ab`.
"""

import re
from functools import lru_cache

from harness.model.case import CaseId
from harness.model.errors import UserError

_TOKEN = re.compile(r"\*\*|\*|\?|[^*?]+")
_TOKEN_AS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches_case(pattern: str, case: CaseId) -> bool:
    """Whether a pattern is for this case."""
    return _compiled(pattern).fullmatch(str(case)) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    tokens = (match.group() for match in _TOKEN.finditer(pattern))
    body = "".join(_TOKEN_AS.get(token) or re.escape(token) for token in tokens)
    return re.compile(f"{body}(?:/.*)?", re.DOTALL)


def check_pattern(pattern: str, where: str) -> None:
    """Raise UserError for a pattern that would be for a whole program or more."""
    suite, _, rest = pattern.partition("/")
    program, _, test = rest.partition("/")
    if not re.fullmatch(r"[\w-]+", suite) or not re.fullmatch(r"[\w.-]+", program):
        raise UserError(
            f"{where}: {pattern!r} does not name a suite and a program",
            hint="write suite/program/test, as in bpf/test_progs/verif_scale_*",
        )
    if not re.search(r"\w", test):
        raise UserError(
            f"{where}: {pattern!r} would be for every test of {program}",
            hint="name the test, or at least how its name begins",
        )
