"""Which bands of a source make up the scene: those that the user names, else all that are meant to be seen together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xtgeo.errors import SceneError


@dataclass(frozen=True)
class Band:
    """What is known of a band before it is read."""

    name: str
    units: str
    """A key of scene.UNITS."""
    aliases: tuple[str, ...] = ()
    """Other names, in lower case."""
    extra: bool = False
    """Left out unless it is named: classes, temperatures, the panchromatic band."""


def choose_bands(asked: Mapping[str, int | str] | str | None, known: Sequence[Band]) -> dict[str, int]:
    """{name in the scene: number in `known`, from 1}.

    `asked` is "vv=1,vh=2", "red,nir", "red=B04" or a mapping; a band that is only named keeps its own name. Names are found as they
    are, without regard to case, or by an alias.
    """
    if asked is None:
        return {band.name: i for i, band in enumerate(known, 1) if not band.extra}
    if isinstance(asked, str):
        asked = _parse(asked)
    if not asked:
        raise SceneError("no bands were named; write them as name=number, such as vv=1,vh=2")
    chosen = {}
    for name, band in asked.items():
        number = band if isinstance(band, int) else _number(band or name, known)
        if not 1 <= number <= len(known):
            raise SceneError(f"band {name}={number} is not in the scene: its bands are 1 to {len(known)}")
        chosen[name if band else known[number - 1].name] = number
    if len(chosen) < len(asked):
        raise SceneError(f"cannot read the bands {','.join(asked)!r}: two of them are one band")
    return chosen


def one_unit(units: Mapping[str, str]) -> str:
    """The unit of all bands; refused where they differ."""
    if len(set(units.values())) > 1:
        told = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        raise SceneError(
            f"the bands have different units ({told}): choose bands of one unit with --bands, or say --units"
        )
    return next(iter(units.values()))


def _parse(text: str) -> dict[str, int | str | None]:
    """{name: number, name of a band, or None where the name is the band's}."""
    pairs = [[side.strip() for side in part.split("=")] for part in text.split(",")]
    if any(len(pair) > 2 or not all(pair) for pair in pairs) or len({pair[0] for pair in pairs}) < len(pairs):
        raise SceneError(f"cannot read the bands {text!r}: write each name once as name=number, such as vv=1,vh=2, or as red,nir")
    return {name: int(band[0]) if band and band[0].isdigit() else band[0] if band else None for name, *band in pairs}


def _number(name: str, known: Sequence[Band]) -> int:
    for same in (
        lambda band: band.name == name,
        lambda band: band.name.lower() == name.lower(),
        lambda band: name.lower() in band.aliases,
    ):
        if found := [i for i, band in enumerate(known, 1) if same(band)]:
            return found[0]
    others = ", ".join(band.name for band in known)
    raise SceneError(f"there is no band {name}: there are {others}; name them as name=number with --bands, such as vv=1,vh=2")
