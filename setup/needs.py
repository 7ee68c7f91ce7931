"""Tell what this host lacks: the part of the set-up that reads `configs/packages/host-*.toml`.

Runs on the bare standard library, before any package is installed, and starts nothing itself:
`setup.sh` runs what this prints. `python3 needs.py WHAT [FOLDER]` with WHAT one of

    commands    what root runs to install what is missing, one a line; nothing when all is there
    packages    the names of the missing packages on one line
    proofs      one existing path for each need, one a line; so that a shell can look again quickly
"""

import platform
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

_OS_RELEASE = Path("/etc/os-release")


def system_ids(os_release: str) -> tuple[str, ...]:
    """The words by which /etc/os-release says which distribution this is, own name first."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "")
    return tuple(words.split())


def table_for(system: tuple[str, ...], folder: Path) -> dict[str, Any] | None:
    """Return the table of the host's package manager, None when there is none for this system."""
    for path in sorted(folder.glob("host-*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if set(system) & set(table["systems"]):
            return table
    return None


def proof_of(need: dict[str, Any]) -> str:
    """Return the path that shows that a need is met, "" when nothing shows it."""
    for proof in need["proofs"]:
        found = shutil.which(proof) if "/" not in proof else proof
        if found and Path(found).exists():
            return str(found)
    return ""


def install_commands(table: dict[str, Any], packages: list[str]) -> list[list[str]]:
    refresh = [table["refresh"]] if table["refresh"] else []
    return [*refresh, [*table["install"], *packages]]


def _lines(what: str, table: dict[str, Any]) -> list[str]:
    machine = platform.machine()
    needs = [need for need in table["need"] if machine in need.get("hosts", [machine])]
    missing = [need["package"] for need in needs if not proof_of(need)]
    if what == "proofs":
        return [proof for need in needs if (proof := proof_of(need))]
    if not missing:
        return []
    if what == "packages":
        return [" ".join(missing)]
    return [shlex.join(command) for command in install_commands(table, missing)]


def main(arguments: list[str]) -> int:
    what = arguments[0] if arguments else ""
    if what not in ("commands", "packages", "proofs"):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    here = Path(__file__).resolve().parent.parent / "configs" / "packages"
    folder = Path(arguments[1]) if len(arguments) > 1 else here
    system = system_ids(_OS_RELEASE.read_text(encoding="utf-8")) if _OS_RELEASE.exists() else ()
    table = table_for(system, folder)
    if table is None:
        known = ", ".join(path.name for path in sorted(folder.glob("host-*.toml")))
        sys.stderr.write(
            f"no table of packages for this system ({' '.join(system) or 'unknown'}): "
            f"install by hand what {folder}/{{{known}}} names\n"
        )
        return 0
    sys.stdout.writelines(f"{line}\n" for line in _lines(what, table))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
