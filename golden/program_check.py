"""Program check: which error a header or a descriptor is, by the codes of `golden.formats.ERRORS`."""

from golden.arch import LANES, Arch
from golden.formats import ALIGN, FEATURES, FORMAT_MAJOR, HEADER_BYTES, MAX_PASSES, MAX_PROGRAM_BYTES, PROGRAM_MAGIC

Fields = dict[str, int]
POSITIVE = ("height", "width", "kernel_height", "kernel_width", "stride", "tap_chunks")


def head_code(header: Fields) -> int:
    """Return 1 for what is no program, 2 for another major version, else 0."""
    legal = header["length"] % 4 == 0 and HEADER_BYTES < header["length"] < MAX_PROGRAM_BYTES
    if header["magic"] != PROGRAM_MAGIC or not legal:
        return 1
    return 2 if header["major"] != FORMAT_MAJOR else 0


def body_code(header: Fields, crc: int, arch: Arch) -> int:
    """Return 3 for a wrong CRC32, 4 for more than the build's limits, 5 for a feature it lacks, else 0."""
    if header["crc"] != crc:
        return 3
    cut = [header["chunk_bits"] == arch.chunk_bits, header["weight_bits"] == arch.weight_bits,
           header["lanes"] == arch.lanes, header["layers"] > 0]
    need = [(header["chunks"], arch.max_chunks), (header["row_lines"], arch.row_value_lines),
            (header["weight_bytes"], arch.weight_bytes), (header["pool_channels"], arch.pool_channels),
            (header["resume_tiles"], arch.resume_tiles), (header["t_max"], arch.t_max),
            (header["acc_bits"], arch.acc_bits), (header["stream_bits"], arch.stream_bits),
            (header["membrane_bits"], arch.membrane_bits)]
    if not all(cut) or any(much > limit for much, limit in need):
        return 4
    there = {name for name, has in (("leak_1m2k", arch.leak == "1-2^-k"), ("requantise", arch.requantise),
                                     ("attention", arch.attention), ("token_sum", arch.token_sum),
                                     ("digit", arch.digit), ("skip_taps", arch.skip_taps), ("ttfs", arch.ttfs)) if has}
    return 5 if header["features"] & ~sum(1 << FEATURES[name] for name in there) else 0


def layer_code(layer: Fields, arch: Arch) -> int:
    """Return 8 for a layer with a field outside its range, else 0.

    On a loom the rows of a tile must have groups in the slots and teams among the lanes. Several groups need the sums of
    all passes at once, so their passes are at most ``window_columns``.
    """
    ranges = {
        "steps": (1, arch.t_max), "passes": (0, MAX_PASSES), "chunks": (int(layer["passes"] > 0), arch.max_chunks),
        "columns": (1, arch.pool_channels if layer["or_pool"] else 65535), "column_tiles": (1, 65535),
        "row_tiles": (1, arch.resume_tiles if layer["resume"] else (1 << 32) - 1),
        "leak_shift": (0, arch.lif.k_max), "reset": (0, 2)}
    if layer["requantise"]:
        ranges |= {"word_bits": (1, arch.t_max), "requantise": (0, int(arch.requantise))}
    if layer["digit"]:
        ranges |= {"digit_bits": (1, arch.t_max), "digit": (0, int(arch.digit))}
    if layer["requantise"] or layer["digit"]:
        ranges["word_step"] = (0, arch.t_max - 1 if arch.digit else 0)
    if layer["ttfs"] and arch.ttfs:
        ranges |= {"window": (1, arch.ttfs_slots - 1), "passes": (1, MAX_PASSES)}
    ranges |= dict.fromkeys(("height", "width", "out_height", "out_width"), (1, 65535))
    ranges |= dict.fromkeys(("pool_kernel", "pool_stride"), (1, 255))
    if arch.loom:
        ranges |= {
            "groups": (1, arch.rows // 2**layer["span_log2"]), "teams_log2": (0, LANES.index(arch.lanes)),
            "tile_pixels": (1, arch.lanes * arch.rows), "stream_bytes": (ALIGN, (1 << 32) - ALIGN)}
        if layer["groups"] > 1:
            ranges["passes"] = (0, min(MAX_PASSES, arch.window_columns))
    if arch.attention and layer["attention"]:
        blocks = layer["head_blocks"]
        ranges |= {"passes": (0, 0), "residual": (0, 0), "or_pool": (0, 0), "chunk_steps": (1, 31), "head_blocks": (1, 255),
                   "columns": (8, min(arch.chunk_bits, blocks * arch.attention_columns)),
                   "saturation": (0, (1 << arch.attention_bits) - 1)}
        ranges |= {"groups": (1, min(1, arch.rows >> layer["span_log2"]))} if arch.loom else {}
        if layer["columns"] % 8 or layer["head_start"] % 8:
            return 8
    legal = all(low <= layer[name] <= high for name, (low, high) in ranges.items())
    aligned = layer["weights"] % ALIGN == 0 and not (arch.loom and layer["stream_bytes"] % ALIGN)
    idle = layer["passes"] == 0 and layer["chunks"] > 0
    return 0 if legal and not idle and aligned else 8


def pass_code(sweep: Fields) -> int:
    """Return 8 for a pass without pixels, taps or chunks, or whose taps do not move, else 0."""
    return 0 if all(sweep[name] > 0 for name in POSITIVE) else 8
