"""Register map of the accelerator: one table, and the Markdown, C header, JSON and CMSIS-SVD made from it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from xml.sax.saxutils import escape

from golden.arch import Arch
from golden.formats import ALIGN, ERRORS, FORMAT_MAJOR, FORMAT_MINOR, STATS
from hdl.bus.axi_lite import ADDRESS_BITS

MAGIC = 0x4C4B5053
RTL_VERSION = (0, 1, 0)
COUNTER_BASE = 0x080
COUNTERS = STATS[:-1]

COUNTER_MEANINGS = {
    "cycles": "clock cycles from start to done",
    "matches": "positions where a row and a column are both non-zero",
    "corrections": "weights taken back from the pseudo-accumulators",
    "chunks": "column chunks broadcast to the lanes",
    "stall_fifo": "cycles lost to a full position or weight FIFO",
    "stall_weights": "cycles lost waiting for weight columns",
    "stall_rows": "cycles lost waiting for rows",
    "stall_tail": "cycles lost waiting for the tail",
    "bytes_read": "bytes read on the AXI4 port",
    "bytes_written": "bytes written on the AXI4 port",
}


@dataclass(frozen=True)
class RegisterField:
    """Bits ``[lsb + width - 1 : lsb]`` of a register.

    access : ``"read-only"`` or ``"write-only"`` where the field differs from its register
    """

    name: str
    lsb: int
    width: int
    meaning: str
    access: str = ""


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    access : ``"ro"`` (writes are ignored), ``"rw"``, or ``"w1c"`` (writing 1 to a bit acts, see its meaning)
    """

    name: str
    offset: int
    access: str
    meaning: str
    fields: tuple[RegisterField, ...] = ()


def _whole(name: str, offset: int, access: str, meaning: str) -> Register:
    return Register(name, offset, access, meaning, (RegisterField("value", 0, 32, meaning),))


def _counters() -> Iterator[Register]:
    for index, name in enumerate(COUNTERS):
        for half, word in enumerate(("low", "high")):
            yield _whole(f"{name.upper()}_{word[:2].upper()}", COUNTER_BASE + 8 * index + 4 * half, "ro",
                         f"{word} word: {COUNTER_MEANINGS[name]}")


REGISTERS = (
    _whole("MAGIC", 0x000, "ro", "0x4C4B5053, the letters SPKL"),
    Register("RTL_VERSION", 0x004, "ro", "version of the hardware", (
        RegisterField("patch", 0, 8, "patch version"),
        RegisterField("minor", 8, 8, "minor version"),
        RegisterField("major", 16, 16, "major version"))),
    Register("FORMAT_VERSION", 0x008, "ro", "program format that this build runs", (
        RegisterField("minor", 0, 16, "minor version"),
        RegisterField("major", 16, 16, "major version; programs of another one are refused"))),
    _whole("CONFIG_HASH", 0x00C, "ro", "first 32 bits of the SHA-256 of the build's parameters"),
    Register("LIMITS_ARRAY", 0x010, "ro", "size of the array", (
        RegisterField("lanes", 0, 8, "lanes"),
        RegisterField("chunk_bits", 8, 10, "bits of a bitmask chunk"),
        RegisterField("t_max", 18, 5, "most timesteps"),
        RegisterField("weight_bits", 24, 4, "bits of a weight"))),
    Register("LIMITS_ROW", 0x014, "ro", "size of the row store", (
        RegisterField("max_chunks", 0, 11, "chunks of one row"),
        RegisterField("row_value_lines", 16, 13, "lines of chunk_bits bits for the words of one row"))),
    Register("LIMITS_BUFFER", 0x018, "ro", "size of the weight buffer", (
        RegisterField("weight_bytes", 0, 24, "bytes of one half"),)),
    Register("LIMITS_POOL", 0x01C, "ro", "size of the stores behind the neurons", (
        RegisterField("pool_channels", 0, 13, "most output channels of a layer that pools"),
        RegisterField("resume_tiles", 16, 13, "row tiles whose output fibers can stay open"))),
    Register("CONTROL", 0x020, "rw", "start and interrupt", (
        RegisterField("start", 0, 1, "write 1 to run the program; reads 0; ignored while busy", "write-only"),
        RegisterField("irq_enable", 1, 1, "raise irq while done or error is set"))),
    Register("STATUS", 0x024, "w1c", "state of the run", (
        RegisterField("busy", 0, 1, "a program runs (read-only)", "read-only"),
        RegisterField("done", 1, 1, "the program ended; cleared by writing 1 and by start"),
        RegisterField("error", 2, 1, "the program stopped, see ERROR; cleared by writing 1 and by start"))),
    Register("ERROR", 0x028, "ro", "reason of the last error; 0 after start", (
        RegisterField("code", 0, 8, "; ".join(f"{code}: {text}" for code, text in ERRORS.items())),
        RegisterField("layer", 16, 16, "index of the layer that ran"))),
    _whole("BASE_LO", 0x030, "rw", "low word of the base address; bits 5:0, and bits beyond the address width, stay 0; "
           "writes are ignored while busy"),
    _whole("BASE_HI", 0x034, "rw", "high word of the base address; bits beyond the address width stay 0; writes are "
           "ignored while busy"),
    _whole("PROGRAM", 0x038, "rw", "offset of the program from the base; writes are ignored while busy"),
    _whole("INPUT", 0x03C, "rw", "offset added to the input tensors' regions; writes are ignored while busy"),
    _whole("STATS", 0x040, "rw", "offset of the per-layer counter records, 0: none; writes are ignored while busy"),
    *_counters(),
)
OFFSETS = {register.name: register.offset for register in REGISTERS}


def base_mask(arch: Arch) -> int:
    """Return the bits that the base address of a build has: a multiple of 64 on its bus."""
    return (1 << arch.address_bits) - ALIGN


def resets(arch: Arch) -> dict[str, int]:
    """Return the value after reset of every register of a build."""
    major, minor, patch = RTL_VERSION
    values = {
        "MAGIC": MAGIC,
        "RTL_VERSION": major << 16 | minor << 8 | patch,
        "FORMAT_VERSION": FORMAT_MAJOR << 16 | FORMAT_MINOR,
        "CONFIG_HASH": int(arch.hash, 16),
    }
    for register in REGISTERS:
        if register.name.startswith("LIMITS_"):
            values[register.name] = sum(getattr(arch, f.name) << f.lsb for f in register.fields)
    return {register.name: values.get(register.name, 0) for register in REGISTERS}


@dataclass(frozen=True)
class RegisterMap:
    """Registers of a build.

    name, hash : of the build; a map without a name is that of all builds
    values : after reset, by name; 0 where none is given
    build_values : registers whose value is a build's
    title : of the page
    """

    name: str
    hash: str
    registers: tuple[Register, ...]
    values: dict[str, int]
    build_values: tuple[str, ...] = ()
    title: str = "Registers"


def register_map(arch: Arch | None = None) -> RegisterMap:
    """Return the registers of one build of the accelerator, or (None) of all of them."""
    build = arch or Arch()
    of_build = [r.name for r in REGISTERS if r.name.startswith("LIMITS_") or r.name == "CONFIG_HASH"]
    return RegisterMap(arch.name if arch else "", build.hash, REGISTERS, resets(build), () if arch else tuple(of_build))


def markdown(table: RegisterMap) -> str:
    """Return the register map as Markdown."""
    values = {r.name: f"0x{table.values.get(r.name, 0):08X}" for r in table.registers}
    values |= dict.fromkeys(table.build_values, "of the build")
    lines = [f"# {table.title} of `{table.name}`" if table.name else f"# {table.title}", "",
             "AXI4-Lite, 32-bit words. Unmapped addresses read 0, writes to read-only registers are ignored, every "
             "response is OKAY.", "",
             "| offset | register | access | reset | bits | field | meaning |", "|---|---|---|---|---|---|---|"]
    for register in table.registers:
        head = f"| 0x{register.offset:03X} | {register.name} | {register.access} | {values[register.name]} |"
        for field in register.fields:
            lines.append(f"{head} {field.lsb + field.width - 1}:{field.lsb} | {field.name} | {field.meaning} |")
            head = "| | | | |"
    return "\n".join(lines) + "\n"


def c_header(table: RegisterMap, prefix: str = "spikeloom") -> str:
    """Return the register map as a C header: offsets, shifts, masks and the build's identity."""
    up, values = prefix.upper(), table.values
    lines = [f"#ifndef {up}_REGISTERS_H", f"#define {up}_REGISTERS_H", ""]
    for register in table.registers:
        comment = f"/* {register.access}: {register.meaning} */"
        lines.append(f"#define {up}_{register.name} 0x{register.offset:03X}u {comment}")
        if values.get(register.name):
            lines.append(f"#define {up}_{register.name}_RESET 0x{values[register.name]:08X}u")
        for field in register.fields:
            if field.width < 32:
                name = f"{up}_{register.name}_{field.name.upper()}"
                mask = ((1 << field.width) - 1) << field.lsb
                lines += [f"#define {name}_SHIFT {field.lsb}u", f"#define {name}_MASK 0x{mask:08X}u"]
    return "\n".join([*lines, "", "#endif", ""])


def register_json(table: RegisterMap) -> str:
    """Return the register map as JSON."""
    rows = [{**asdict(register), "reset": table.values.get(register.name, 0)} for register in table.registers]
    return json.dumps({"address_bits": ADDRESS_BITS, "data_bits": 32, "registers": rows}, indent=2) + "\n"


def svd(table: RegisterMap, prefix: str = "spikeloom") -> str:
    """Return the register map as CMSIS-SVD 1.3."""
    access = {"ro": "read-only", "rw": "read-write", "w1c": "read-write"}
    version = ".".join(map(str, RTL_VERSION))
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<device schemaVersion="1.3" xmlns:xs="http://www.w3.org/2001/XMLSchema-instance" '
        'xs:noNamespaceSchemaLocation="CMSIS-SVD.xsd">',
        f"  <name>{prefix}</name>", f"  <version>{version}</version>",
        f"  <description>{prefix} accelerator, configuration {table.hash}</description>",
        "  <addressUnitBits>8</addressUnitBits>", "  <width>32</width>",
        "  <peripherals>", "    <peripheral>", f"      <name>{prefix.upper()}</name>",
        "      <description>Control registers</description>", "      <baseAddress>0x00000000</baseAddress>",
        f"      <addressBlock><offset>0x0</offset><size>0x{1 << ADDRESS_BITS:X}</size><usage>registers</usage>"
        "</addressBlock>",
        "      <registers>",
    ]
    for register in table.registers:
        lines += [
            "        <register>", f"          <name>{register.name}</name>",
            f"          <description>{escape(register.meaning)}</description>",
            f"          <addressOffset>0x{register.offset:03X}</addressOffset>", "          <size>32</size>",
            f"          <access>{access[register.access]}</access>",
            f"          <resetValue>0x{table.values.get(register.name, 0):08X}</resetValue>", "          <fields>"]
        for field in register.fields:
            lines += [
                "            <field>", f"              <name>{field.name}</name>",
                f"              <description>{escape(field.meaning)}</description>",
                f"              <bitOffset>{field.lsb}</bitOffset>",
                f"              <bitWidth>{field.width}</bitWidth>",
                *([f"              <access>{field.access}</access>"] if field.access else []),
                *(["              <modifiedWriteValues>oneToClear</modifiedWriteValues>"]
                  if register.access == "w1c" and not field.access else []),
                "            </field>"]
        lines += ["          </fields>", "        </register>"]
    return "\n".join([*lines, "      </registers>", "    </peripheral>", "  </peripherals>", "</device>", ""])


if __name__ == "__main__":
    sys.stdout.write(markdown(register_map()))
