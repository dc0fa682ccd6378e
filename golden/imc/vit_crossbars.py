"""Crossbar operations of a vision transformer on macros: one build of tiles for what is programmed once, one for K^T and V."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.imc.arch import ImcArch
from golden.imc.mapping import Mapped
from golden.imc.run import Placed, Setting, crossbars, place_layer, place_layers, products
from golden.imc.vit import Vit
from golden.network import Array, Layer, Pass, number_planes


def sram(p: ImcArch) -> ImcArch:
    """Return the build whose cells are written at run time: a bit a cell, in two's complement, 8 cells for 8 bits."""
    return dataclasses.replace(p, name=f"{p.name}-sram", cell_bits=1, scheme="twos")


def layer_of(name: str, weight: Array, *, x_bits: int, x_signed: bool) -> Layer:
    """Return a matrix int64 [outputs, inputs] as the layer that a core runs: tokens are pixels, the sums are read out."""
    xp = array_namespace(weight)
    only = Pass(source="x", weight=weight[:, :, None, None], stride=1, padding=0, planes=number_planes(x_bits, x_signed))
    return Layer(name=name, passes=(only,), bias=xp.zeros(weight.shape[0], dtype=xp.int64), readout=True)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """A build of tiles and how it runs."""

    arch: ImcArch
    setting: Setting


class VitCrossbars:
    """Sums of crossbar operations as the macros of a hybrid core give them, of images numbered from ``first_image``.

    Matrices that are programmed once lie as `golden.imc.run.place_layers` says. K^T and V of all encoders use the same
    crossbars behind them, head after head, since no two encoders run at once; their vectors are ``encoder * tokens + token``,
    and they are written once an image and encoder.
    """

    def __init__(self, network: Vit, static: Tiles, dynamic: Tiles, first_image: int = 0) -> None:
        self.network, self.static, self.dynamic, self.first_image = network, static, dynamic, first_image
        layers = [layer_of(name, p.weight, x_bits=p.x_bits, x_signed=p.x_signed) for name, p in network.linears().items()]
        placed = place_layers(layers, 1, static.arch, static.setting)
        self.placed: Mapping[str, Placed] = {entry.mapped.layer.name: entry for entry in placed}
        self.free = placed[-1].crossbar + placed[-1].crossbars(static.arch)

    def __call__(self, name: str, x: Array, weight: Array, *, x_bits: int, x_signed: bool) -> Array:
        """Return sums int64 [images, tokens, outputs] of an operation of `golden.imc.vit`."""
        xp = array_namespace(x)
        images, tokens, _ = x.shape
        image = xp.arange(self.first_image, self.first_image + images, dtype=xp.int64)
        token = xp.arange(tokens, dtype=xp.int64)
        if name in self.placed:
            placed = self.placed[name]
            flat = xp.reshape(x, (images * tokens, -1))
            sums = products(self.static.arch, self.static.setting, placed, blocks(placed.mapped, flat),
                            image=xp.repeat(image, tokens), vector=xp.tile(token, (images,)))
            return xp.reshape(sums[:, : weight.shape[0]], (images, tokens, -1))
        encoder = int(name.split(".")[1])
        parts = []
        for n in range(images):
            layer = layer_of(name, weight[n, ...], x_bits=x_bits, x_signed=x_signed)
            placed = self.written(layer, name, write=(self.first_image + n) * len(self.network.encoders) + encoder - 1)
            parts.append(products(self.dynamic.arch, self.dynamic.setting, placed, blocks(placed.mapped, x[n, ...]),
                                  image=xp.zeros_like(token) + image[n], vector=encoder * tokens + token)[:, : weight.shape[1]])
        return xp.stack(parts)

    def written(self, layer: Layer, name: str, write: int = 0) -> Placed:
        """Return K^T or V of a head in its crossbars, ``write`` of which it is."""
        p = self.dynamic.arch
        kind, head = name.split(".")[-2:]
        outputs, inputs = (int(n) for n in layer.passes[0].weight.shape[:2])
        tokens, width = (inputs, outputs) if kind == "mixed" else (outputs, inputs)
        keys, values = (crossbars(p, -(-rows // p.rows), -(-columns // p.outputs(p.scheme)))
                        for rows, columns in ((width, tokens), (tokens, width)))
        first = self.free + int(head) * (keys + values) + (keys if kind == "mixed" else 0)
        return place_layer(layer, 1, p, self.dynamic.setting, first, write)


def blocks(mapped: Mapped, x: Array) -> Array:
    """Return vectors int64 [vectors, inputs] cut to row blocks: [vectors, row blocks, rows]."""
    xp = array_namespace(x)
    rows = mapped.weight.shape[2]
    fill = xp.zeros((x.shape[0], mapped.row_blocks * rows - x.shape[1]), dtype=xp.int64)
    return xp.reshape(xp.concat([x, fill], axis=1), (x.shape[0], mapped.row_blocks, rows))
