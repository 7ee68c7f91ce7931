"""A kernel tree of a few small files, whose BPF selftests build in a second, and its fake tools.

Its makefiles have the shape of the kernel's where the harness looks: names of variables and rules,
what depends on what, which lines are printed. C is compiled by the host's own compiler; clang is a
script that copies a file, unless the file holds `BROKEN`.
"""

from pathlib import Path

BPF = Path("tools/testing/selftests/bpf")

_MAKEFILE = r"""
ifeq (0,$(MAKELEVEL))
  OUTPUT := $(shell pwd)
endif
CURDIR := $(abspath .)
SCRATCH_DIR := $(OUTPUT)/tools
INCLUDE_DIR := $(SCRATCH_DIR)/include
BPFOBJ := $(SCRATCH_DIR)/build/libbpf/libbpf.a
CFLAGS += -O0 -Wall -Werror $(SAN_CFLAGS) -I$(CURDIR) -I$(OUTPUT)
LINKED_SKELS := both.skel.h
both.skel.h-deps := both1.bpf.o both2.bpf.o
LSKELS := light.c
.DELETE_ON_ERROR:
msg = @printf '  %-8s%s %s%s\n' "$(1)" "$(if $(2), [$(2)])" "$(notdir $(3))" "";

TRUNNER_EXTRA_FILES := $(OUTPUT)/urandom_read $(OUTPUT)/bpf_testmod.ko \
	setup.sh $(wildcard progs/btf_dump_test_case_*.c)
extra := $(TRUNNER_EXTRA_FILES)
SRCS := $(notdir $(wildcard progs/*.c))
OBJS := $(patsubst %.c,$(OUTPUT)/%.bpf.o,$(SRCS))
LINKED_SRCS := $(patsubst %.bpf.o,%.c,$(foreach s,$(LINKED_SKELS),$($(s)-deps)))
SKELS := $(patsubst %.c,$(OUTPUT)/%.skel.h,$(filter-out $(LSKELS) $(LINKED_SRCS),$(SRCS)))
LIGHT := $(patsubst %.c,$(OUTPUT)/%.lskel.h,$(LSKELS))
LINKED := $(addprefix $(OUTPUT)/,$(LINKED_SKELS))
TESTS := $(patsubst %.c,$(OUTPUT)/%.test.o,$(notdir $(wildcard prog_tests/*.c)))
MAP_TESTS := $(patsubst %.c,$(OUTPUT)/%.test.o,$(notdir $(wildcard map_tests/*.c)))

$(BPFOBJ):
	@mkdir -p $(@D); touch $@
$(INCLUDE_DIR)/vmlinux.h: $(VMLINUX_BTF) $(BPFTOOL)
	$(call msg,GEN,,$@)
	@mkdir -p $(@D); $(BPFTOOL) btf dump file $(VMLINUX_BTF) > $@
$(OBJS): $(OUTPUT)/%.bpf.o: progs/%.c $(INCLUDE_DIR)/vmlinux.h | $(BPFOBJ)
	$(call msg,CLNG-BPF,test_progs,$@)
	@$(CLANG) -g -Werror -O2 -target bpf -c $< -o $@
$(SKELS): %.skel.h: %.bpf.o $(BPFTOOL)
	$(call msg,GEN-SKEL,test_progs,$@)
	@$(BPFTOOL) gen skeleton $< > $@
$(LIGHT): %.lskel.h: %.bpf.o $(BPFTOOL)
	$(call msg,GEN-SKEL,test_progs,$@)
	@$(BPFTOOL) gen skeleton -L $< > $@
$(LINKED): $(OBJS) $(BPFTOOL)
	$(call msg,LINK-BPF,test_progs,$(@:.skel.h=.bpf.o))
	@cat $(addprefix $(OUTPUT)/,$($(@F)-deps)) > $(@:.skel.h=.linked.o)
	$(call msg,GEN-SKEL,test_progs,$@)
	@$(BPFTOOL) gen skeleton $(@:.skel.h=.linked.o) > $@
prog_tests/tests.h: prog_tests/*.c
	@sed -n -E 's/^(void|int) (serial_)?test_([a-zA-Z0-9_]+)\((void)?\).*/DEFINE_TEST(\3)/p' \
		prog_tests/*.c | sort > $@
map_tests/tests.h: map_tests/*.c
	@sed -n -E 's/^void test_([a-zA-Z0-9_]+)\((void)?\).*/DEFINE_TEST(\1)/p' map_tests/*.c > $@
verifier/tests.h: verifier/*.c
	@(cd verifier; ls *.c | sed 's/.*/#include "&"/') > $@
$(TESTS): $(OUTPUT)/%.test.o: prog_tests/%.c $(OBJS) $(SKELS) $(LIGHT) $(LINKED) $(BPFOBJ)
	$(call msg,TEST-OBJ,test_progs,$@)
	@cd $(@D) && $(CC) -I. $(CFLAGS) -c $(CURDIR)/$< -o $(@F)
$(MAP_TESTS): $(OUTPUT)/%.test.o: map_tests/%.c
	$(call msg,TEST-OBJ,test_maps,$@)
	@$(CC) $(CFLAGS) -c $< -o $@
$(OUTPUT)/test_progs.o: test_progs.c prog_tests/tests.h
	@$(CC) $(CFLAGS) -c $< -o $@
$(OUTPUT)/test_progs: $(TESTS) $(OUTPUT)/test_progs.o $(BPFOBJ) $(RESOLVE_BTFIDS)
	$(call msg,BINARY,,$@)
	@$(CC) $(CFLAGS) $(filter %.o,$^) -o $@
	@$(RESOLVE_BTFIDS) --btf $(OUTPUT)/btf_data.bpf.o $@
$(OUTPUT)/test_maps: test_maps.c $(MAP_TESTS)
	$(call msg,BINARY,,$@)
	@$(CC) $(CFLAGS) $< $(MAP_TESTS) -o $@
$(OUTPUT)/test_verifier: test_verifier.c verifier/tests.h
	$(call msg,BINARY,,$@)
	@$(CC) $(CFLAGS) $(filter %.c,$^) -o $@
$(OUTPUT)/urandom_read: urandom_read.c
	$(call msg,BINARY,,$@)
	@$(CLANG) $(CFLAGS) $< -o $@
"""

_TEST_PROGS = """
#define DEFINE_TEST(name) extern int test_##name(void);
#include "prog_tests/tests.h"
#undef DEFINE_TEST
#define DEFINE_TEST(name) test_##name();
void load(const char *object) {}
int main(void)
{
#include "prog_tests/tests.h"
	return 0;
}
"""

_TEST_VERIFIER = """
struct bpf_test { const char *descr; int insns[2]; };
#define CASE(op) { "atomic " #op, { 1 } }
static struct bpf_test tests[] = {
#include "verifier/tests.h"
};
int main(void) { return !tests[0].descr; }
"""

_FILES = {
    "test_progs.c": _TEST_PROGS,
    "test_progs.h": "/* the runner's own */\n",
    "test_maps.c": "extern void test_batch(void);\nint main(void) { test_batch(); return 0; }\n",
    "test_verifier.c": _TEST_VERIFIER,
    "map_tests/batch.c": "void test_batch(void) {}\n",
    "verifier/and.c": '{ "and: one " "two", { 1, 2 } },\nCASE(xchg),\n',
    "verifier/or.c": '{ "or \\"three\\"", .insns = { 3 } },\n',
    "prog_tests/alpha.c": '#include "alpha.skel.h"\nvoid test_alpha(void) {}\n',
    "prog_tests/beta.c": '#include "beta.skel.h"\nvoid test_beta(void) {}\n'
    "void test_beta2(void) {}\n",
    "prog_tests/light.c": '#include "light.lskel.h"\nvoid test_light(void) {}\n',
    "prog_tests/linked.c": '#include "both.skel.h"\nvoid test_linked(void) {}\n',
    "prog_tests/resolve_btfids.c": "int test_resolve_btfids(void) { return 0; }\n",
    "prog_tests/opens.c": "extern void load(const char *);\n"
    'void test_open1(void)\n{\n\tload("./open1.bpf.o");\n}\n\n'
    'void test_open2(void)\n{\n\tload("open2.bpf.o");\n}\n',
    "progs/alpha.c": "int alpha;\n",
    "progs/beta.c": "int beta;\n",
    "progs/light.c": "int light;\n",
    "progs/both1.c": "int both1;\n",
    "progs/both2.c": "int both2;\n",
    "progs/open1.c": "int open1;\n",
    "progs/open2.c": "int open2;\n",
    "progs/alone.c": "int alone;\n",
    "progs/btf_data.c": "int data;\n",
    "progs/btf_dump_test_case_syntax.c": "int syntax;\n",
    "setup.sh": "#!/bin/sh\n",
    "urandom_read.c": "int main(void) { return 0; }\n",
    "Makefile": _MAKEFILE,
}  # fmt: skip

_BPFTOOL = r"""
bootstrap: $(OUTPUT)bootstrap/bpftool
$(OUTPUT)bootstrap/bpftool: bpftool.sh
	mkdir -p $(OUTPUT)bootstrap/libbpf
	touch $(OUTPUT)bootstrap/libbpf/libbpf.a
	cp $< $@
	chmod +x $@
"""

_BPFTOOL_SCRIPT = """#!/bin/sh
for last; do :; done
if grep -q NOSKEL "$last"; then
  echo "libbpf: failed to find BTF for extern 'x' [25] section: -2" >&2
  echo "Error: failed to open BPF object file: No such file or directory" >&2
  exit 254
fi
echo "/* $* */"
"""

_RESOLVE = r"""
$(OUTPUT)resolve_btfids: $(BPFOBJ)
	cp resolve_btfids.sh $@
	chmod +x $@
"""

_RESOLVE_SCRIPT = """#!/bin/sh
[ -f "$2" ] && exit 0
echo "FAILED: load BTF from $2: No such file or directory" >&2
exit 255
"""

_CLANG = r"""#!/bin/sh
out=; source=; target=
while [ $# -gt 0 ]; do
  case "$1" in
    --version) echo "clang version 99.0 (fake)"; exit 0 ;;
    --print-targets) echo "  Registered Targets:"; echo "    bpf - BPF (host endian)"; exit 0 ;;
    -print-prog-name=*) echo "${1#*=}"; exit 0 ;;
    -o) shift; out=$1 ;;
    -target) shift; target=$1 ;;
    *.c) source=$1 ;;
  esac
  shift
done
[ -n "$source" ] || exit 0
if grep -q BROKEN "$source"; then
  echo "$source:1:1: error: unknown type name 'BROKEN'" >&2
  echo "1 error generated." >&2
  exit 1
fi
if [ "$target" = bpf ]; then cp "$source" "$out"; else exec gcc "$source" -o "$out"; fi
"""


def write_tree(root: Path) -> Path:
    """Write the tree below `root`, and return it."""
    for name, text in _FILES.items():
        _write(root / BPF / name, text)
    _write(root / "Makefile", "VERSION = 9\n")
    _write(root / "tools/bpf/bpftool/Makefile", _BPFTOOL)
    _write(root / "tools/bpf/bpftool/bpftool.sh", _BPFTOOL_SCRIPT)
    _write(root / "tools/bpf/resolve_btfids/Makefile", _RESOLVE)
    _write(root / "tools/bpf/resolve_btfids/resolve_btfids.sh", _RESOLVE_SCRIPT)
    return root


def write_tools(folder: Path) -> Path:
    """Write fake LLVM programs into a folder for the front of PATH, and return it."""
    for name, text in {
        "clang": _CLANG,
        "llvm-strip": "#!/bin/sh\n",
        "pahole": "#!/bin/sh\n",
    }.items():
        _write(folder / name, text)
        (folder / name).chmod(0o755)
    return folder


def break_source(root: Path, name: str, text: str = "BROKEN\n") -> None:
    """Put a text that does not compile at the end of a file of the selftests."""
    with (root / BPF / name).open("a") as file:
        file.write(text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
