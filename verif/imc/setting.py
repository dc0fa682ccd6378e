"""How tiles work, as ``--macro NAME=VALUE,...`` says it."""

import dataclasses
from typing import Any

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.macro import Adc, Effects
from golden.imc.run import Setting

FLAGS = {"flash": False, "lossless": False, "skip": False, "once": True}
OF_ADC = tuple(field.name for field in dataclasses.fields(Adc))
OF_EFFECTS = tuple(field.name for field in dataclasses.fields(Effects))
KINDS: dict[str, Any] = {
    **{field.name: field.type for kind in (Effects, Adc) for field in dataclasses.fields(kind)}, "scheme": str,
    **dict.fromkeys(FLAGS, bool), "calibrate": str}
# What a core calibrates, in the order in which it does.
WAYS = ("trims", "offsets", "gains")
# Log2 of the phases of a round of it.
LOG2 = 4


def setting_of(p: ImcArch, text: str | None) -> Setting:
    """Return how tiles work that are not calibrated, as `calibrated_setting`; raises ParameterError for ``calibrate`` too."""
    setting, ways = calibrated_setting(p, text)
    if ways:
        raise ParameterError("macro: calibrate, not of this command; legal: of simulate; try: spikeloom simulate digits "
                             f"--top imc --macro calibrate={'+'.join(ways)}")
    return setting


def calibrated_setting(p: ImcArch, text: str | None) -> tuple[Setting, tuple[str, ...]]:
    """Return how tiles work, and what of `WAYS` is calibrated before, which is not in the setting.

    text : ``NAME=VALUE,...``: fields of `Effects` and `Adc`, ``scheme``, ``skip``, ``once``, and ``calibrate``, ways with a +

    Without ``bits`` a converter has as many as lose nothing, or all that the build's has where those are fewer.
    Raises ParameterError for anything else: an unknown name, one that is given twice, a flag that is not 0 or 1, drift without
    its time, or time without drift.
    """
    given = {} if text is None else parsed(text)
    if ("drift_time" in given) != ("drift" in given or "drift_spread" in given):
        found = next(name for name in ("drift_time", "drift", "drift_spread") if name in given)
        lacks = "drift" if found == "drift_time" else "drift_time"
        raise ParameterError(f"macro: {found}, not without {lacks}; legal: both, as cells fade by drift_time^-drift; "
                             "try: --macro drift_time=10000,drift=0.06")
    flags = {name: given.get(name, usual) for name, usual in FLAGS.items()}
    adc = {name: value for name, value in given.items() if name in OF_ADC}
    adc.setdefault("bits", min(p.flash_bits if flags["flash"] else p.adc_bits, p.lossless_bits))
    effects = Effects(**{name: value for name, value in given.items() if name in OF_EFFECTS})
    setting = Setting(scheme=given.get("scheme", p.scheme), adc=Adc(**adc), effects=effects, skip=flags["skip"],
                      once=flags["once"])
    p.check(setting.scheme)
    setting.adc.check(p)
    return setting, _ways(given["calibrate"]) if "calibrate" in given else ()


def _ways(text: str) -> tuple[str, ...]:
    """Return what is calibrated, each once and in order."""
    ways = tuple(text.split("+"))
    if not set(ways) <= set(WAYS) or list(ways) != sorted({*ways}, key=WAYS.index):
        raise ParameterError(f"macro: calibrate, not {text!r}; legal: some of {'+'.join(WAYS)}, in this order; "
                             "try: --macro calibrate=trims")
    return ways


def parsed(text: str) -> dict[str, Any]:
    """Return the values of ``NAME=VALUE,...`` by name, each of its kind."""
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ParameterError(f"macro: each part a NAME=VALUE, not {part!r}; legal: parts with one comma between them; "
                                 "try: --macro offset=1.5,seed=3")
        if name not in KINDS:
            raise ParameterError(f"macro: unknown name, not {name!r}; legal: {', '.join(KINDS)}; "
                                 "try: --macro offset=1.5,seed=3")
        if name in given:
            raise ParameterError(f"macro: {name}, not given twice; legal: once; try: --macro {name}={value}")
        given[name] = _value(name, value)
    return given


def _value(name: str, text: str) -> Any:
    """Return a value of the kind that ``name`` has."""
    kind = KINDS[name]
    if kind is bool:
        if text not in ("0", "1"):
            raise ParameterError(f"macro: {name}, not {text!r}; legal: 0, 1; try: --macro {name}=1")
        return text == "1"
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise ParameterError(f"macro: {name}, not {text!r}; legal: {what}; try: --macro {name}=1") from None


def told(p: ImcArch, setting: Setting, ways: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return how tiles work, for a report: what is not ideal under ``effects``, by name; ``ways`` as `calibrated_setting`.

    ``lossless``: codes tell all values of a full row group apart, which takes ``lossless_bits`` bits up to ``group_levels``.
    """
    adc, usual = setting.adc, Effects()
    effects = {name: value for name in OF_EFFECTS if (value := getattr(setting.effects, name)) != getattr(usual, name)}
    return {
        "scheme": setting.scheme, "converter": "flash" if adc.flash else "SAR", "bits": adc.bits,
        "average_log2": adc.average_log2, "full_scale": adc.full_scale or p.group_levels,
        "lossless": adc.keeps(p), "lossless_bits": p.lossless_bits, "group_levels": p.group_levels,
        "skip": setting.skip, "once": setting.once, "calibrate": [*ways], "seed": effects.pop("seed", usual.seed),
        "effects": effects}


def in_words(found: dict[str, Any]) -> str:
    """Return a line of what `told` returns."""
    levels, most = found["full_scale"], found["group_levels"]
    kept = "lossless" if found["lossless"] else f"lossy ({found['lossless_bits']} bits up to {most} lose nothing)"
    effects = ", ".join(f"{name}={value:g}" for name, value in found["effects"].items())
    parts = [f"scheme {found['scheme']}", f"{found['converter']} {found['bits']} bits"
             + (f" up to {levels}" if levels < most else "") + f", {kept}"]
    parts += [f"mean of {1 << found['average_log2']} conversions"] * (found["average_log2"] > 0)
    parts += ["skip"] * found["skip"] + ["image converted in every step"] * (not found["once"])
    parts += [f"calibrated: {', '.join(found['calibrate'])}"] * bool(found["calibrate"])
    return "; ".join([*parts, f"{effects}, seed {found['seed']}" if effects else "ideal"])


def widest(p: ImcArch, adc: Adc) -> tuple[int, int]:
    """Return the pedestal in the middle of the codes, and the widest limit, of offsets and trim codes."""
    return ((1 << adc.bits) - 1) // 2, (2 << p.adc_bits) - 1


def calibration_fields(p: ImcArch, adc: Adc, way: str) -> dict[str, int]:
    """Return the fields of MACHINE of a calibration of offsets or trim codes, as `verif.imc.calibration.calibrate` has it."""
    return way_fields(way, *widest(p, adc))


def way_fields(way: str, pedestal: int, limit: int) -> dict[str, int]:
    """Return the fields of MACHINE that say what a calibration finds."""
    return {"trims": int(way == "trims"), "gains": int(way == "gains"), "log2": LOG2, "pedestal": pedestal, "limit": limit}
