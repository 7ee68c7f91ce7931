"""The smallest guest: firmware that computes for a moment, prints a line on the serial port, ends.

It tells a KVM that runs guests from one that only opens. It takes the road of a kernel as far as
the processor goes (on x86: protected mode, page tables, long mode), and it counts to fifty million,
which takes hardware a twentieth of a second: there are hosts whose KVM interprets a guest kernel
instruction by instruction, and a boot on those never ends.
"""

from harness.model.arch import Arch

GREETING = b"guest runs"

_ROM_B = 65536  # what a PC takes as its firmware; mapped to end at 1 MiB and at 4 GiB
_RESET_OFFSET_B = 0xFFF0

# Placed at 0xf0000, which real mode calls f000:0000.
_X86_64 = {
    0x00: """
        fa                              # cli
        2e 66 0f 01 16 b0 00            # lgdtl %cs:0xb0
        0f 20 c0                        # mov %cr0, %eax
        0c 01                           # or $1, %al                protected mode
        0f 22 c0                        # mov %eax, %cr0
        66 ea 20 00 0f 00 08 00         # ljmpl $8, $0xf0020
    """,
    0x20: """
        66 b8 10 00                     # mov $16, %ax
        8e d8 8e c0 8e d0               # mov %ax, %ds; %es; %ss
        bf 00 10 00 00                  # mov $0x1000, %edi         three empty tables
        31 c0                           # xor %eax, %eax
        b9 00 0c 00 00                  # mov $0xc00, %ecx
        f3 ab                           # rep stos
        c7 05 00 10 00 00 03 20 00 00   # movl $0x2003, 0x1000
        c7 05 00 20 00 00 03 30 00 00   # movl $0x3003, 0x2000
        c7 05 00 30 00 00 83 00 00 00   # movl $0x83, 0x3000        one page of 2 MiB, at 0
        b0 20                           # mov $0x20, %al
        0f 22 e0                        # mov %eax, %cr4            PAE
        b8 00 10 00 00                  # mov $0x1000, %eax
        0f 22 d8                        # mov %eax, %cr3
        b9 80 00 00 c0                  # mov $0xc0000080, %ecx     EFER
        0f 32                           # rdmsr
        0d 00 01 00 00                  # or $0x100, %eax           long mode
        0f 30                           # wrmsr
        0f 20 c0                        # mov %cr0, %eax
        0d 00 00 00 80                  # or $0x80000000, %eax      paging
        0f 22 c0                        # mov %eax, %cr0
        ea c0 00 0f 00 18 00            # ljmp $24, $0xf00c0
    """,
    0x90: """
        00 00 00 00 00 00 00 00         # descriptors: none,
        ff ff 00 00 00 9b cf 00         # code of 32 bits,
        ff ff 00 00 00 93 cf 00         # data,
        ff ff 00 00 00 9b af 00         # code of 64 bits
        1f 00 90 00 0f 00               # and where they are, for lgdt
    """,
    0xC0: """
        b9 80 f0 fa 02                  # mov $50000000, %ecx
        ff c9                           # dec %ecx
        75 fc                           # jnz to the line above
        be f0 00 0f 00                  # mov $0xf00f0, %esi
        66 ba f8 03                     # mov $0x3f8, %dx           first serial port
        ac                              # lods
        84 c0                           # test %al, %al
        74 03                           # jz over the next two
        ee                              # out %al, %dx
        eb f8                           # jmp to lods
        6a 00                           # push $0
        0f 01 1c 24                     # lidt (%rsp)               no handlers: a triple fault,
        0f 0b                           # ud2                       which resets the machine
    """,
    0xF0: GREETING.hex() + "00",
    _RESET_OFFSET_B: "ea 00 00 00 f0",  # ljmp $0xf000, $0
}

# Placed at 0, where the board `virt` has its flash and where the processor begins.
_AARCH64 = {
    0x00: """
        0020a1d2                        # mov x0, #0x9000000        PL011
        23608052                        # mov w3, #0x301            on, may send
        033000b9                        # str w3, [x0, #0x30]
        625fa0d2                        # mov x2, #0x2fb0000        fifty million and a few
        420400f1                        # subs x2, x2, #1
        e1ffff54                        # b.ne to the line above
        21010010                        # adr x1, 0x3c
        22144038                        # ldrb w2, [x1], #1
        62000034                        # cbz w2, over the next two
        020000b9                        # str w2, [x0]
        fdffff17                        # b to ldrb
        0080b052                        # mov w0, #0x84000000
        00018072                        # movk w0, #8               PSCI's SYSTEM_OFF
        020000d4                        # hvc #0
        00000014                        # b to itself
    """,
    0x3C: GREETING.hex() + "00",
}


def probe_firmware(arch: Arch) -> bytes:
    """The image for QEMU's `-bios`. It prints GREETING on the serial port, then ends QEMU.

    The end is a reset on x86_64 and a power-off on aarch64.
    """
    pieces, size_b = {
        Arch.X86_64: (_X86_64, _ROM_B),
        Arch.AARCH64: (_AARCH64, 4096),
    }[arch]
    image = bytearray(size_b)
    for offset_b, text in pieces.items():
        piece = _bytes_of(text)
        image[offset_b : offset_b + len(piece)] = piece
    return bytes(image)


def _bytes_of(text: str) -> bytes:
    return b"".join(bytes.fromhex(line.partition("#")[0]) for line in text.splitlines())
