"""The doctor and the set-up agree on what a host needs, and say how to get it."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.doctor import (
    Need,
    PackageTable,
    available_gib,
    examine,
    package_table,
    system_ids,
)
from harness.host.cache import Cache
from harness.host.config import data_root
from harness.model.check import Check, CheckState, Diagnosis
from harness.model.errors import UserError
from harness.report.checks import diagnosis_json, diagnosis_text

ROOT = data_root()
TABLES = {
    "apt": ("debian",),
    "dnf": ("fedora",),
}
OS_RELEASES: Mapping[str, str] = {
    "apt": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n',
    "dnf": 'NAME="CentOS Stream"\nID="centos"\nID_LIKE="rhel fedora"\n',
}


def table_of(manager: str) -> PackageTable:
    table = package_table(TABLES[manager])
    assert table is not None
    return table


@pytest.mark.parametrize("manager", TABLES)
def test_a_distribution_finds_its_own_table(manager: str) -> None:
    table = package_table(system_ids(OS_RELEASES[manager]))
    assert table is not None
    assert table.manager == manager


def test_an_unknown_distribution_has_no_table() -> None:
    assert package_table(system_ids("ID=plan9\n")) is None
    assert package_table(system_ids("")) is None


@pytest.mark.parametrize("manager", TABLES)
def test_each_need_has_a_purpose_a_package_and_a_proof(manager: str) -> None:
    table = table_of(manager)
    packages = [need.package for need in table.need]
    assert len(packages) == len(set(packages))
    assert all(need.purpose and need.proofs for need in table.need)


def test_both_tables_meet_the_same_needs() -> None:
    # Where a distribution has no package of its own for a need, its table says so in a comment.
    only_apt = {"headers of aarch64's C library", "headers of x86_64's C library"}
    only_dnf = {"apt, to fetch the guests' userland"}
    apt, dnf = ({need.purpose for need in table_of(name).need} for name in ("apt", "dnf"))
    assert apt - dnf == only_apt
    assert dnf - apt == only_dnf


def test_only_the_other_architectures_compiler_is_a_need() -> None:
    for machine, other in (("x86_64", "aarch64"), ("aarch64", "x86_64")):
        purposes = {need.purpose for need in table_of("apt").needs_of(machine)}
        assert f"C compiler for {other}" in purposes
        assert f"C compiler for {machine}" not in purposes


def test_a_need_is_met_by_any_of_its_proofs(tmp_path: Path) -> None:
    header = tmp_path / "x.h"
    need = Need(purpose="p", package="x", proofs=("no-such-program", str(header)))
    assert need.proof() == ""
    header.touch()
    assert need.proof() == str(header)


def test_missing_packages_become_commands_that_paste() -> None:
    assert table_of("apt").commands(["a", "b"]) == (
        "apt-get update",
        "apt-get install --yes --no-install-recommends a b",
    )
    assert table_of("dnf").commands(["a"])[-1].endswith(" a")
    assert table_of("apt").commands([]) == ()


def test_an_unknown_key_in_a_table_is_named(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "packages" / "host-apt.toml").read_text(encoding="utf-8")
    (tmp_path / "host-apt.toml").write_text("colour = 1\n" + text, encoding="utf-8")
    with pytest.raises(UserError, match="colour"):
        package_table(("debian",), tmp_path)


def test_the_set_up_reads_the_tables_as_the_doctor_does() -> None:
    argv = [sys.executable, "-I", str(ROOT / "setup" / "needs.py"), "packages"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    release = Path("/etc/os-release")
    table = package_table(system_ids(release.read_text(encoding="utf-8")))
    needs = table.needs_of(platform.machine()) if table else ()
    missing = [need.package for need in needs if not need.proof()]
    assert done.stdout.split() == missing


def test_a_host_without_anything_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    diagnosis = examine(Cache(tmp_path / "cache"), env={})
    text = diagnosis_text(diagnosis)
    lacking = {(check.subject, check.name) for check in diagnosis.checks
               if check.state is CheckState.MISSING}  # fmt: skip
    assert not diagnosis.is_fit
    assert {("x86_64", "QEMU"), ("aarch64", "QEMU"), ("x86_64", "compilers")} <= lacking
    assert "This host lacks something" in text
    table = package_table(system_ids(Path("/etc/os-release").read_text(encoding="utf-8")))
    if table is not None:
        needs = table.needs_of(platform.machine())
        missing = [need.package for need in needs if not need.proof()]
        assert diagnosis.install == table.commands(missing)
        assert diagnosis.install[-1] in text


def test_free_memory_is_read_from_the_kernels_table() -> None:
    assert available_gib("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n") == 4
    assert available_gib("") == 0


HOSTILE = Diagnosis(
    checks=(
        Check(
            subject="x86_64",
            name="QEMU",
            state=CheckState.MISSING,
            found="\x1b[2J not there " + "and why " * 20,
            hint="install it",
        ),
    ),
    install=("apt-get update", "apt-get install x"),
)


def test_the_text_fits_80_columns_and_has_no_control_codes() -> None:
    text = diagnosis_text(HOSTILE)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "LACK" in text
    assert "  apt-get install x\n" in text


def test_json_says_the_same() -> None:
    value = json.loads(diagnosis_json(HOSTILE))
    assert value["fit"] is False
    assert value["checks"][0]["state"] == "missing"
    assert value["install"] == list(HOSTILE.install)


def test_the_verb_ends_with_what_it_found() -> None:
    argv = [sys.executable, "-m", "harness", "doctor", "--json"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if json.loads(done.stdout)["fit"] else 3), done.stderr
