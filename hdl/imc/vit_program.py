"""What the host writes to run a vision transformer on a core of tiles: layers, operations on tokens, writes of K and V.

NumPy only.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from golden.arch import ParameterError, require
from golden.imc.arch import TOKEN_BITS, ImcArch, TokenOp
from hdl.imc.pool import PoolMode
from hdl.imc.program import (
    NO_EXIT,
    LayerProgram,
    check_fields,
    check_widths,
    crossbar_fields,
    machine_fields,
    place_registers,
    scale_word,
)
from hdl.imc.reuse_buffer import ReuseMode
from hdl.imc.settings import Times, tile_settings

BYTE = 8
USUAL = Times()


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where a tensor [tokens, channels] lies in an activation memory.

    plane : words from a plane to the next; row : words from a token to the next
    """

    bank: int
    base: int
    bits: int
    channels: int
    tokens: int
    plane: int
    row: int
    signed: bool = True

    def fields(self, name: str) -> dict[str, int]:
        """Return the fields of a map of tokens (`hdl.imc.transformer_fields`)."""
        return {f"{name}_bank": self.bank, f"{name}_base": self.base, f"{name}_plane": self.plane, f"{name}_bits": self.bits,
                f"{name}_is_signed": self.signed}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the host.

    name : of the operation of `golden.imc.vit` whose result it gives
    encoder : its number, 0 of what is in none
    layer : a layer of crossbars; its records are read out where ``out`` is None
    work, load : fields of an operation on tokens, or of a tensor that is written
    numbers : what the host writes ahead of an operation, by `hdl.imc.token_unit.TokenUnit.numbers_layout`
    out : where the result lies
    """

    name: str
    encoder: int = 0
    layer: LayerProgram | None = None
    work: Mapping[str, int] | None = None
    load: Mapping[str, int] | None = None
    numbers: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    out: Region | None = None


class _Memory:
    """Both activation memories: every tensor has a place of its own, the same in all encoders."""

    def __init__(self, p: ImcArch) -> None:
        self.p, self.free, self.regions = p, [0, 0], dict[str, Region]()

    def region(self, name: str, bank: int, tokens: int, channels: int, bits: int = BYTE, *, heads: int = 1,
               signed: bool = True) -> Region:
        """Return the place of a tensor, of ``channels`` of each head; raise `ParameterError` when it is full."""
        if name not in self.regions:
            row = -(-channels // self.p.rows)
            words = tokens * row * heads
            self.regions[name] = Region(bank=bank, base=self.free[bank], bits=bits, channels=channels, tokens=tokens,
                                        plane=words, row=row, signed=signed)
            self.free[bank] += words * bits
            require(self.free[bank] <= self.p.map_words, "map_words", self.p.map_words, f"{self.free[bank]} and more")
        return self.regions[name]


@dataclass
class _Program:
    """What all steps need.

    p, dynamic : builds of the crossbars that are programmed once, and that are written at run time
    placed : where matrices lie, K^T and V of each head as ``scores.N`` and ``mixed.N``
    adc_bits : codes of both kinds of crossbars
    tokens : of an image
    encoder : that is at hand
    """

    p: ImcArch
    dynamic: ImcArch
    placed: Mapping[str, Any]
    adc_bits: tuple[int, int]
    times: Times
    patience: int
    tokens: int
    encoder: int = 0

    def name(self, name: str) -> str:
        """Return the name of an operation."""
        return f"encoders.{self.encoder}.{name}" if self.encoder else name

    def linear(self, name: str, x: Region, p: Any, out: Region | None, **changes: Any) -> Step:
        """Return a matrix that is programmed once."""
        entry = self.placed[self.name(name)]
        seconds = [(int(m), int(s)) for m, s in zip(p.mult.ravel().tolist(), p.shift.ravel().tolist(), strict=True)]
        return self.layer(name if out is None else f"{name}.scale", entry, self.p, x, out, bits=p.x_bits, signed=p.x_signed,
                          biases=p.bias.ravel().tolist(), seconds=seconds, **changes)

    def layer(self, name: str, entry: Any, build: ImcArch, x: Region, out: Region | None, *, bits: int, signed: bool,
              biases: list[int], seconds: list[tuple[int, int]], factor: bool = False, first_channel: int = 0,
              width: int | None = None, **geometry: int) -> Step:
        """Return a layer of crossbars; tokens are rows of pixels.

        first_channel, width : of x; None: all its channels
        geometry : fields that differ from those of a matrix
        """
        mapped, most = entry.mapped, 1 << self.p.stream_bits - 2
        channels, (word, shift) = int(mapped.weight.shape[1]), divmod(first_channel, self.p.rows)
        check_widths(build, mapped, 1, 1, False)
        require(max(map(abs, biases)) < most, f"{self.name(name)}: bias", max(biases, key=abs), f"below {most}")
        if width is not None and shift + width > self.p.rows:
            raise ParameterError(f"{self.name(name)}: channels, not {first_channel}..{first_channel + width - 1}; legal: those "
                                 f"of one word of {self.p.rows}; try: heads whose width divides the rows")
        fields: dict[str, Any] = {
            "source": x.bank, "in_base": x.base + word, "in_plane": x.plane, "in_row": x.row,
            "in_groups": x.row if width is None else 1, "in_height": x.tokens, "in_width": 1, "in_shift": shift,
            "in_span": width or 0, "chunk_log2": mapped.chunk.bit_length() - 1, "chunks": self.p.rows // mapped.chunk,
            "kernel_height": 1, "kernel_width": 1, "stride": 1, "padding": 0, "conv_width": 1, "pixels": self.tokens,
            "out_height": self.tokens, "out_width": 1, "pool_kernel": 1, "pool_stride": 1, "steps": 1, "membrane": 0,
            "first_step": self.encoder if build is self.dynamic else 0, "fresh": 1, "time_inner": 1, "per_step": 0, "once": 0,
            "bits": bits, "pool_mode": PoolMode.NONE, "readout": out is None, "scale": out is not None, "factor": factor,
            "word_bits": out.bits if out else 1, "word_signed": 1, "leak_shift": 0, "decay_input": 0, "strict": 0, "reset": 0,
            "share_log2": 0,
            "out_base": out.base if out else 0, "out_plane": out.plane if out else 0, "out_groups": out.row if out else 1,
            **crossbar_fields(build, entry), **geometry}
        settings = tile_settings(build, mapped.scheme, bits=bits, signed=signed, adc_bits=self.adc_bits[build is self.dynamic],
                                 times=self.times)
        words = tuple(scale_word(self.name(name), mult, shift) for mult, shift in (seconds * channels)[:channels])
        numbers, machine = {key: int(value) for key, value in fields.items()}, machine_fields(settings, self.patience)
        check_fields(self.name(name), numbers, machine, NO_EXIT)
        return Step(name=self.name(name), encoder=self.encoder, out=out, layer=LayerProgram(
            name=self.name(name), fields=numbers, machine=machine, exits=NO_EXIT, places=place_registers(settings),
            biases=tuple(int(b) & 0xFFFF_FFFF for b in (biases * channels)[:channels]), seconds=words,
            planes=out.bits if out else 0, shape=(channels, self.tokens, 1)))

    def work(self, name: str, op: TokenOp, x: Region, out: Region, b: Region | None = None,
             numbers: Mapping[int, Any] | None = None, **changes: int) -> Step:
        """Return an operation on tokens, of the channels of what it gives."""
        fields = {"op": op, **x.fields("map_a"), **(b or x).fields("map_b"), **out.fields("out"), "tokens": x.tokens,
                  "channels": out.channels, "groups": out.row, "shift": 0, "eps": 1, "normalised": 0, "direct": 0, "mult": 1,
                  "mult_shift": 0, "reuse_number": self.encoder, "reuse_keep": 0, "reuse_reuse": 0, "reuse_src": 0,
                  "reuse_mode": ReuseMode.IDENTITY, "reuse_mult": 1, "reuse_shift": 0, "reuse_count": x.tokens * out.channels}
        return Step(name=self.name(name), encoder=self.encoder, out=out,
                    work={key: int(value) for key, value in (fields | changes).items()},
                    numbers={what: tuple(int(n) & 0xFFFF_FFFF for n in values.ravel().tolist())
                             for what, values in (numbers or {}).items()})

    def norm(self, name: str, x: Region, p: Any, out: Region, *, op: TokenOp = TokenOp.NORM, **changes: int) -> Step:
        """Return a normalisation."""
        return self.work(name, op, x, out, None, {0: p.gain, 1: p.bias}, shift=p.shift, eps=p.eps, **changes)

    def write(self, name: str, x: Region, entry: Any, first_channel: int, *, transposed: bool) -> Step:
        """Return the writes of K^T or V of a head."""
        mapped, lanes = entry.mapped, self.p.tiles // self.p.fan_in
        outputs, inputs = entry.mapped.layer.passes[0].weight.shape[:2]
        columns = len(self.dynamic.places(mapped.scheme))
        return Step(name=self.name(name), encoder=self.encoder, load={key: int(value) for key, value in {
            **x.fields("source"), "transposed": transposed, "inputs": inputs, "outputs": outputs, "groups": x.row,
            "first_channel": first_channel, "columns_log2": columns.bit_length() - 1, "each": self.p.cols // columns,
            "blocks": mapped.column_blocks, "rounds": -(-mapped.column_blocks // lanes), "crossbar": entry.crossbar}.items()})


@dataclass(frozen=True, kw_only=True)
class VitProgram:
    """A network for the host.

    steps : of an image, in order
    pixels : where an image is written, a token for each pixel
    constants : what is written once
    """

    steps: tuple[Step, ...]
    pixels: Region
    constants: tuple[tuple[Region, Any], ...]


def vit_program(p: ImcArch, dynamic: ImcArch, network: Any, placed: Mapping[str, Any], *, side: int,
                adc_bits: tuple[int, int], times: Times = USUAL, patience: int = 100_000) -> VitProgram:
    """Return the program of a `golden.imc.vit.Vit` on images of ``side`` by ``side`` pixels.

    dynamic, placed, adc_bits : see `_Program`

    Raises ParameterError for a network that the core does not hold.
    """
    tokens, dim = (int(n) for n in network.position.shape)
    for what, value, most in (("tokens", tokens, p.tokens), ("features", max(tokens, dim), p.features)):
        require(value <= most, what, most, f"{value} and more; this network has {value}")
    memory, code = _Memory(p), _Program(p=p, dynamic=dynamic, placed=placed, adc_bits=adc_bits, times=times,
                                        patience=patience, tokens=tokens)
    pixels = memory.region("pixels", 0, side * side, 1, network.embed.x_bits, signed=False)
    position = memory.region("position", 1, tokens, dim, TOKEN_BITS)
    return VitProgram(steps=tuple(_steps(code, memory, network, pixels, position, side)), pixels=pixels,
                      constants=((position, network.position),))


def _steps(code: _Program, memory: _Memory, network: Any, pixels: Region, position: Region, side: int) -> Iterator[Step]:
    """Yield all steps: matrices read memory 0 and write memory 1, or the other way round; the stream takes turns."""
    tokens, dim = code.tokens, int(network.position.shape[1])
    stream = [memory.region(f"x{bank}", bank, tokens, dim, TOKEN_BITS) for bank in range(2)]
    embedded, normal = memory.region("embedded", 1, tokens, dim, TOKEN_BITS), memory.region("normal", 0, tokens, dim)
    yield code.linear("embed", pixels, network.embed, embedded, in_height=side, in_width=side, in_row=side, chunk_log2=0,
                      chunks=code.p.rows, kernel_height=network.patch, kernel_width=network.patch, stride=network.patch,
                      conv_width=side // network.patch, out_height=side // network.patch, out_width=side // network.patch)
    yield code.work("position", TokenOp.ADD, embedded, stream[0], b=position, direct=1)
    for p in network.encoders:
        code.encoder = p.reuse.number
        own = {"reuse_keep": p.reuse.keep, "reuse_reuse": p.reuse.reuse, "reuse_src": p.reuse.src,
               "reuse_mode": ReuseMode[p.reuse.mode.upper()], "reuse_mult": p.reuse.mult, "reuse_shift": p.reuse.shift}
        added = None
        if p.attention is not None:
            added = yield from _attention(code, memory, stream[0], normal, p.attention)
        elif p.transformation is not None:
            added, own = (yield from _transformed(code, memory, stream[0], p.transformation, own)), {}
        if p.added is not None:
            yield code.work("stream1", TokenOp.ADD, stream[0], stream[1], b=added, mult=int(p.added.mult),
                            mult_shift=int(p.added.shift), **own)
            stream.reverse()
        width = int(p.up.weight.shape[0])
        hidden, active = (memory.region(name, bank, tokens, width) for name, bank in (("hidden", 1), ("active", 0)))
        down = memory.region("down", 1, tokens, dim, TOKEN_BITS)
        yield code.norm("norm2", stream[0], p.norm, normal)
        yield code.linear("up", normal, p.up, hidden)
        yield code.work("act", TokenOp.LOOKUP, hidden, active, numbers={3: p.table})
        yield code.linear("down", active, p.down, down)
        yield code.work("stream2", TokenOp.ADD, stream[0], stream[1], b=down, direct=1)
        stream.reverse()
    code.encoder = 0
    yield code.norm("norm", stream[0], network.norm, normal)
    yield code.linear("head", normal, network.head, None)


def _attention(code: _Program, memory: _Memory, x: Region, normal: Region, p: Any) -> Generator[Step, None, Region]:
    """Yield the steps of an attention; return where its output is."""
    tokens, dim = x.tokens, x.channels
    width = dim // p.heads
    qkv, attention = memory.region("qkv", 1, tokens, 3 * dim), memory.region("attention", 1, tokens, dim)
    scores, mixed = memory.region("scores", 0, tokens, tokens), memory.region("mixed", 0, tokens, width, heads=p.heads)
    weights = memory.region("weights", 1, tokens, tokens, signed=False)
    yield code.norm("norm1", x, p.norm, normal)
    yield code.linear("qkv", normal, p.qkv, qkv)
    for head in range(p.heads):
        keys, values = code.placed[f"scores.{head}"], code.placed[f"mixed.{head}"]
        yield code.write(f"k.{head}", qkv, keys, dim + head * width, transposed=True)
        yield code.write(f"v.{head}", qkv, values, 2 * dim + head * width, transposed=False)
        yield code.layer(f"scores.{head}.scale", keys, code.dynamic, qkv, scores, bits=BYTE, signed=True, biases=[0],
                         seconds=[(int(p.scores.mult), int(p.scores.shift))], first_channel=head * width, width=width)
        yield code.work(f"softmax.{head}", TokenOp.SOFTMAX, scores, weights, numbers={2: p.table})
        yield code.layer(f"mixed.{head}.scale", values, code.dynamic, weights,
                         replace(mixed, base=mixed.base + head * tokens), bits=BYTE, signed=False, biases=[0],
                         seconds=[(int(p.mixed.mult), int(p.mixed.shift))], factor=True)
    chunk = 1 << (width - 1).bit_length()
    yield code.linear("proj", mixed, p.proj, attention, in_height=p.heads, in_width=tokens, in_row=tokens, in_groups=1,
                      chunk_log2=chunk.bit_length() - 1, chunks=code.p.rows // chunk, kernel_height=p.heads, conv_width=tokens,
                      out_height=1, out_width=tokens)
    return attention


def _transformed(code: _Program, memory: _Memory, x: Region, p: Any, own: dict[str, int]) -> Generator[Step, None, Region]:
    """Yield the steps of a transformation of what is reused; return where it is."""
    found = memory.region("tnormal", 0, x.tokens, x.channels)
    yield code.norm("tnorm", x, p.norm, found, op=TokenOp.TRANSFORM, **own)
    if p.linear is not None:
        hidden = memory.region("thidden", 1, x.tokens, x.channels)
        yield code.linear("linear", found, p.linear, hidden)
        found = hidden
    if p.table is not None:
        active = memory.region("tactive", 0, x.tokens, x.channels)
        yield code.work("tact", TokenOp.LOOKUP, found, active, numbers={3: p.table})
        found = active
    return found
