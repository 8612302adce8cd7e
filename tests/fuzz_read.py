"""Files that were good once: bytes flipped, cut out, doubled. Run by test_hostile.py, or by hand for as long as you like:

    XTGEO_FUZZ_CASES=20000 python tests/fuzz_read.py [seed]

The law: open_scene gives a Scene whose reads work, or an XtgeoError; no other exception, no crash, no hang, no more memory than
LIMIT_BYTES. What breaks it is left in the folder that is printed.

Known: where a wound hits the list of a NetCDF variable's dimensions, the HDF5 library may count for minutes (seed 33, case 188).
"""

import faulthandler
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

ODD = [b"0", b"-1", b"1e308", b"1e999", b"NaN", b"99999999999999999999", b"2147483648", b"null", b"true", b"[]", b"{}", b'""', b"x"]
ODD += [b"/etc/passwd", b"../../a.tif", b"http://127.0.0.1:1/a.tif", b"/vsicurl/http://127.0.0.1:1/a", b"|O", b"pickle", b"\\u0000"]
LIMIT_BYTES = 1 << 30
"""More than is held after opening the good files; also what malloc may give in all, beyond that."""
SLOWEST_S = 10
TEXTS = ("stac", "vrt", "zarr")
PLACE = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}


def good_files(folder: Path) -> dict[str, Path]:
    """One small file of each kind."""
    data = np.random.default_rng(0).integers(1, 999, (2, 96, 112)).astype("uint16")
    profile = {"height": 96, "width": 112, "count": 2, "dtype": "uint16", **PLACE}
    files = {}
    for name, options in {
        "strips": {"driver": "GTiff"},
        "tiles": {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "predictor": 2},
        "lzw": {"driver": "GTiff", "compress": "lzw", "interleave": "pixel"},
        "cog": {"driver": "COG", "blocksize": 128, "compress": "zstd"},
        "jp2": {"driver": "JP2OpenJPEG"},
    }.items():
        files[name] = folder / f"{name}.{'jp2' if name == 'jp2' else 'tif'}"
        with rasterio.open(files[name], "w", **{**profile, **options}) as file:
            file.write(data)
            if name != "jp2":
                file.update_tags(TIFFTAG_DATETIME="2024:06:01 10:00:00", units="dB")
                file.set_band_description(1, "VV")
    files["png"] = folder / "image.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(files["png"], "w", driver="PNG", height=96, width=112, count=2, dtype="uint16") as file:
            file.write(data)
    files["vrt"] = folder / "two.vrt"
    source = "<SimpleSource><SourceFilename relativeToVRT='1'>strips.tif</SourceFilename><SourceBand>1</SourceBand>" + "".join(
        f"<{rect} xOff='0' yOff='0' xSize='112' ySize='96'/>" for rect in ("SrcRect", "DstRect")
    )
    files["vrt"].write_text(
        "<VRTDataset rasterXSize='112' rasterYSize='96'><SRS>EPSG:32631</SRS>"
        "<GeoTransform>500000, 10, 0, 6000000, 0, -10</GeoTransform>"
        f"<VRTRasterBand dataType='UInt16' band='1'><NoDataValue>0</NoDataValue>{source}</SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    files["stac"] = folder / "item.json"
    asset = {"href": "./tiles.tif", "type": "image/tiff", "eo:bands": [{"name": "vv"}, {"name": "vh"}]}
    asset["raster:bands"] = [{"scale": 0.5, "offset": 1, "nodata": 0, "unit": "dB"}] * 2
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": {"datetime": "2024-06-01T00:00:00Z"}, "links": []}
    files["stac"].write_text(json.dumps({**item, "assets": {"a": asset, "b": {**asset, "href": "strips.tif"}}}))
    files["zip"] = folder / "scene.zip"
    with zipfile.ZipFile(files["zip"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(files["strips"], "scene.tif")
    import xarray

    cube = xarray.DataArray(data.astype("float32"), dims=("band", "y", "x"), name="a").assign_coords(
        band=["vv", "vh"], y=6e6 - 10 * np.arange(96.0), x=5e5 + 10 * np.arange(112.0)
    )
    cube.to_netcdf(folder / "cube.nc", engine="h5netcdf", encoding={"a": {"chunksizes": (1, 48, 56), "zlib": True}})
    cube.to_zarr(folder / "cube.zarr", zarr_format=2, consolidated=True, encoding={"a": {"chunks": (1, 48, 56)}})
    files |= {"nc": folder / "cube.nc", "zarr": folder / "cube.zarr" / ".zmetadata", "chunk": folder / "cube.zarr" / "a" / "0.0.0"}
    return files


def twist(content: bytes, rng: random.Random) -> bytes:
    """A number, string or name of a text becomes something else, so that it is still JSON or XML now and then."""
    tokens = list(re.finditer(rb"-?\d[\d.e+-]*|\"[^\"]*\"|'[^']*'|\w+", content))
    for token in sorted(rng.sample(tokens, rng.choice([1, 1, 2, 3])), key=lambda t: -t.start()):
        new = rng.choice(ODD) if rng.random() < 0.7 else rng.choice(tokens)[0]
        if token[0][:1] in b"\"'" and rng.random() < 0.7:
            new = token[0][:1] + new.strip(b"\"'") + token[0][:1]
        content = content[: token.start()] + new + content[token.end() :]
    return content


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to four wounds, mostly near the beginning, where headers lie."""
    wounded = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        near = len(wounded) if rng.random() < 0.4 else min(len(wounded), 600)
        at = rng.randrange(max(1, near))
        kind = rng.random()
        if kind < 0.4:
            wounded[at : at + 1] = bytes([rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])])
        elif kind < 0.6:
            wounded[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"nan\0", b"1e99"])
        elif kind < 0.7:
            del wounded[at : at + rng.choice([1, 2, 40, 4000])]
        elif kind < 0.8:
            wounded[at:at] = wounded[at : at + rng.choice([1, 8, 300])] * rng.choice([1, 2, 50])
        elif kind < 0.9:
            del wounded[at:]
        else:
            wounded[at : at + 8] = rng.randbytes(8)
    return bytes(wounded)


def attempt(href: str) -> str:
    """"scene" or "error"; anything else is raised."""
    from xtgeo.errors import XtgeoError
    from xtgeo.read import open_scene
    from xtgeo.window import Window

    try:
        scene = open_scene(href)
        h, w = scene.shape
        for window in (Window(0, 0, 40, 50), Window(h // 2, w // 2, 33, 21), Window(h - 20, w - 20, 40, 40)):
            block = scene.read(window)
            assert block.data.shape == (len(scene.bands), *window.shape) and np.isfinite(block.data).all()
        scene.fingerprint(), scene.maybe_valid(Window(0, 0, 8, 8))
        return "scene"
    except XtgeoError as error:
        assert "\n" not in str(error), error
        return "error"


def main(cases: int, seed: int) -> int:
    """0 where the law held."""
    folder = Path(tempfile.mkdtemp(prefix="xtgeo-fuzz-"))
    files = good_files(folder)
    hrefs = {name: str(path) for name, path in files.items()}
    hrefs |= {"zip": f"/vsizip/{files['zip']}/scene.tif", "zarr": str(folder / "cube.zarr"), "chunk": str(folder / "cube.zarr")}
    for name, href in hrefs.items():
        assert attempt(href) == "scene", name
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    with open("/proc/self/statm") as statm:
        address_space = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + 2 * LIMIT_BYTES,) * 2)
    seen = {"scene": 0, "error": 0}
    for case in range(cases):
        rng = random.Random(f"{seed} {case}")
        name = rng.choice(sorted(files))
        good = files[name].read_bytes()
        files[name].write_bytes((twist if name in TEXTS and rng.random() < 0.7 else mutate)(good, rng))
        print(f"case {case} {name}", file=sys.stderr)  # the last one that is named is the one that crashed
        faulthandler.dump_traceback_later(6 * SLOWEST_S, exit=True)
        start = time.monotonic()
        try:
            seen[attempt(hrefs[name])] += 1
            slow = time.monotonic() - start
            assert slow < SLOWEST_S, f"{slow:.1f} s"
            more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - held
            assert more < LIMIT_BYTES, f"{more >> 20} MB"
        except BaseException:
            print(f"case {case} of seed {seed}, {hrefs[name]}: left as it is", file=sys.stderr)
            raise
        files[name].write_bytes(good)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({**seen, "more_mb": ((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - held) >> 20}))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("XTGEO_FUZZ_CASES", 150)), int(sys.argv[1]) if len(sys.argv) > 1 else 0))
