import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from forked import Forked
from xtgeo.cli import main


@pytest.fixture
def xtgeo(monkeypatch, capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["xtgeo", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr()
        return stop.value.code or 0, out.out, out.err

    return call


@pytest.fixture(scope="session")
def radar(tmp_path_factory):
    """A small simulated scene with its truth."""
    from xtgeo import simulate

    path = tmp_path_factory.mktemp("radar") / "radar.tif"
    simulate.write_scene(simulate.sentinel1((700, 531), seed=4, density=20, wind=4, land=False, nodata=False), path)
    return path


def write(path, data, **profile):
    options = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5800000), **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=data.shape[1], width=data.shape[2], count=len(data), dtype=data.dtype, **options
    ) as file:
        file.write(data)
    return path


def one_line(err, *words):
    """An error is one line that holds these words."""
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err, err
    for word in words:
        assert word in err, err
    return True


def test_the_main_job_finds_ships_with_the_model_that_fits(xtgeo, radar, tmp_path):
    from xtgeo.evaluate import match_objects

    out = tmp_path / "v.gpkg"
    code, text, _ = xtgeo("segment", radar, "--out", out, "--quicklook", tmp_path / "q.png", "--json")
    summary = json.loads(text)
    assert code == 0 and summary["model"] == "vessels-sar" and summary["outputs"]["out"] == str(out)
    found, truth = gpd.read_file(out, layer="detections"), gpd.read_file(radar.with_name("radar_truth.gpkg"))
    match = match_objects(found.geometry.values, truth[truth.detectable].geometry.values)
    assert match.recall > 0.5 and (tmp_path / "q.png").stat().st_size > 10_000


def test_info_says_what_the_scene_is(xtgeo, radar):
    code, text, _ = xtgeo("info", radar, "--json")
    facts = json.loads(text)
    assert code == 0 and facts["shape"] == [700, 531] and facts["bands"] == ["vv", "vh"] and facts["units"] == "db"
    assert facts["models"] == ["points-sar", "vessels-sar"] and "vessels-s2" in facts["misfits"] and facts["valid_share"] == 1
    assert all(9 < side < 11 for side in facts["pixel_size_m"]) and facts["time"]
    code, text, _ = xtgeo("info", radar)
    assert code == 0 and "531 x 700 px" in text and "vessels-sar" in text


def test_models_are_listed_and_have_cards(xtgeo):
    assert {m["name"] for m in json.loads(xtgeo("models", "--json")[1])} == {"cfar", "points-sar", "vessels-s2", "vessels-sar"}
    assert "one is enough" in xtgeo("models")[1]
    assert "Limits" in xtgeo("models", "show", "vessels-sar")[1]
    code, _, err = xtgeo("models", "show", "nonsense")
    assert code == 1 and one_line(err, "vessels-sar")


def test_doctor_finds_a_healthy_installation(xtgeo):
    code, text, _ = xtgeo("doctor", "--json")
    findings = json.loads(text)
    broken = [f for f in findings if f["remedy"] and f["name"] not in ("memory", "temporary disk")]
    assert not broken and {"GDAL (rasterio)", "PROJ data", "model vessels-sar"} <= {f["name"] for f in findings}


def test_a_simulated_scene_is_written_in_both_layouts(xtgeo, tmp_path):
    from xtgeo import open_scene

    words = ("--shape", "120", "130", "--seed", "3", "--density", "30")
    assert xtgeo("simulate", "sentinel1", tmp_path / "a.tif", *words)[0] == 0
    assert (tmp_path / "a_truth.gpkg").exists() and (tmp_path / "a_labels.csv").exists()
    code, _, err = xtgeo("simulate", "sentinel1", tmp_path / "a.tif", *words)
    assert code == 1 and one_line(err, "--overwrite")
    assert xtgeo("simulate", "sentinel1", tmp_path / "x", "--layout", "xview3", *words)[0] == 0
    folder = next(p for p in (tmp_path / "x").iterdir() if p.is_dir())
    assert open_scene(folder).bands == ("vv", "vh") and open_scene(folder).units == "db"


def test_the_xview3_folder_is_a_scene(xtgeo, tmp_path):
    xtgeo("simulate", "sentinel1", tmp_path, "--layout", "xview3", "--shape", "200", "230", "--seed", "1")
    folder = next(p for p in tmp_path.iterdir() if p.is_dir())
    code, text, err = xtgeo("segment", folder, "--out", tmp_path / "v.csv", "--json")
    assert code == 0, err
    assert json.loads(text)["scene"] == folder.name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.tif", ["missing.tif"]),
        ("text.tif", ["text.tif"]),
        ("cut.tif", ["cut.tif"]),
        ("one.tif", ["no bundled model to segment fits", "--bands"]),
    ],
)
def test_a_scene_that_cannot_be_used_is_one_line(xtgeo, radar, tmp_path, name, words):
    (tmp_path / "text.tif").write_text("not a raster at all")
    (tmp_path / "cut.tif").write_bytes(radar.read_bytes()[:200_000])
    write(tmp_path / "one.tif", np.ones((1, 70, 70), np.float32))
    code, _, err = xtgeo("segment", tmp_path / name, "--out", tmp_path / "v.gpkg", "--quiet")
    assert code == 1 and one_line(err, *words) and not (tmp_path / "v.gpkg").exists()


def test_units_are_never_guessed(xtgeo, tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.tif", rng.normal(-20, 3, (2, 90, 90)).astype(np.float32))
    words = ("segment", path, "--model", "vessels-sar", "--bands", "vv=1,vh=2")
    code, _, err = xtgeo(*words, "--out", tmp_path / "v.gpkg")
    assert code == 1 and one_line(err, "--units", "look like db")
    assert xtgeo(*words, "--units", "db", "--out", tmp_path / "v.gpkg", "-q")[0] == 0
    code, _, err = xtgeo(*words, "--units", "linear", "--out", tmp_path / "w.gpkg")
    assert code == 1 and one_line(err, "linear")
    code, _, err = xtgeo(*words, "--units", "parsec", "--out", tmp_path / "w.gpkg")
    assert code == 1 and one_line(err, "parsec", "reflectance")


@pytest.mark.parametrize(
    "words",
    [
        ["segment"],
        ["segment", "a.tif"],
        ["segment", "a.tif", "--out", "v.gpkg", "--threshold", "2"],
        ["segment", "a.tif", "--out", "v.gpkg", "--max-memory", "lots"],
        ["segment", "a.tif", "--nonsense"],
        ["simulate", "sentinel1", "a.tif", "--shape", "3", "3"],
        ["simulate", "sentinel1", "a.tif", "--layout", "jpeg"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_code_2(xtgeo, words):
    code, out, err = xtgeo(*words)
    assert code == 2 and "Traceback" not in out + err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--device", "tpu"], "auto, cpu or cuda"),
        (["--dtype", "fp8"], "fp32 or bf16"),
        (["--model", "nonsense"], "vessels-sar"),
        (["--max-memory", "1MB"], "--max-memory"),
        (["--crs", "EPSG:nonsense"], "EPSG:nonsense"),
        (["--aoi", "nowhere.geojson"], "nowhere.geojson"),
        (["--bands", "vv="], "vv=1"),
        (["--bands", "red"], "there is no band red"),
        (["--clouds", "mask"], "no Sentinel-2 or Landsat product"),
        (["--bands", "vv=9"], "vv=9"),
    ],
)
def test_values_that_cannot_be_are_one_line(xtgeo, radar, tmp_path, words, told):
    code, _, err = xtgeo("segment", radar, "--out", tmp_path / "v.gpkg", "-q", *words)
    assert code == 1 and one_line(err, told) and not (tmp_path / "v.gpkg").exists()


def test_existing_outputs_stay_unless_told(xtgeo, radar, tmp_path):
    out = tmp_path / "v.gpkg"
    out.write_bytes(b"mine")
    code, _, err = xtgeo("segment", radar, "--out", out)
    assert code == 1 and one_line(err, "--overwrite") and out.read_bytes() == b"mine"
    assert xtgeo("segment", radar, "--out", out, "--overwrite", "-q")[0] == 0
    assert len(gpd.read_file(out, layer="detections")) > 0


def command(*words, file_bytes=None):
    """For a process of its own, whose files may grow to a number of bytes only."""
    # Where the tests run in the background the shell has them ignore Ctrl-C, and so would the process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_bytes:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    sys.argv = ["xtgeo", *map(str, words)]
    main()


def test_ctrl_c_says_how_to_go_on(tmp_path):
    """On a scene of nine tiles, to be caught in the middle."""
    from xtgeo import simulate

    piece = simulate.sentinel1((600, 600), seed=1, land=False, nodata=False)
    path = write(tmp_path / "large.tif", np.tile(piece.data, (1, 5, 5)))
    outputs = "--out", tmp_path / "v.gpkg", "--scores", tmp_path / "s.tif"  # scores make a tile large enough to be noticed
    run = Forked(tmp_path / "err", command, "segment", path, "--bands", "vv=1,vh=2", "--units", "db", *outputs)
    journal = tmp_path / ".v.gpkg.journal"
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.stat().st_size < 30_000:
        assert run.process.is_alive() and time.monotonic() < deadline, run.errors.read_text()
        time.sleep(0.05)
    os.kill(run.process.pid, signal.SIGINT)
    code, err = run.end()
    assert code == 130 and err.splitlines()[-1] == "interrupted: run again to resume"
    assert "Traceback" not in err and not (tmp_path / "v.gpkg").exists() and journal.exists()


def test_a_full_disk_is_one_line_and_nothing_half_written(radar, tmp_path):
    """A file may grow to a few kilobytes only: the journal cannot be kept."""
    words = "segment", radar, "--out", tmp_path / "v.gpkg"
    code, err = Forked(tmp_path / "err", partial(command, file_bytes=3000), *words).end()
    assert code == 1 and one_line(err, "cannot be written") and not (tmp_path / "v.gpkg").exists()


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['xtgeo', 'segment', '--help']\n"
        "from xtgeo.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'rasterio', 'geopandas'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--quicklook" in done.stdout


def test_the_sentinel_2_ports_are_read_with_the_other_model(xtgeo, shared, tmp_path):
    port = shared / "data/sen2ships/valencia.tif"
    code, text, _ = xtgeo("segment", port, "--out", tmp_path / "v.gpkg", "--json")
    assert code == 0 and json.loads(text)["model"] == "vessels-s2"
    frame = gpd.read_file(tmp_path / "v.gpkg", layer="detections")
    assert frame.crs.to_epsg() == 3857 and len(frame) >= 5
    assert (frame["area_m2"] < 0.7 * frame.geometry.area).all()  # Web Mercator at 39 degrees north


def test_raw_radar_is_refused_with_the_reason(xtgeo, shared, tmp_path):
    raw = shared / "data/geo/s1_grd_gcps.tif"
    code, _, err = xtgeo("segment", raw, "--model", "vessels-sar", "--bands", "vv=1", "--out", tmp_path / "v.gpkg")
    assert code == 1 and one_line(err, "dn", "calibrate")


def test_detect_writes_points_by_the_bundled_model_or_one_of_ones_own(xtgeo, radar, tmp_path):
    from dataclasses import replace

    from xtgeo.model import Model, build, load_spec, save_model

    spec = replace(load_spec("vessels-sar"), name="mine", task="detect", threshold=0.5, region=256, head_dim=16)
    path = save_model(Model(build(spec), spec), tmp_path / "mine.safetensors")
    code, out, err = xtgeo("detect", radar, "--out", tmp_path / "p.gpkg", "--model", path, "--json", "--dtype", "fp32", "--quiet")
    assert code == 0 and json.loads(out)["objects"] == len(gpd.read_file(tmp_path / "p.gpkg", layer="detections")) > 0
    code, out, _ = xtgeo("detect", radar, "--out", tmp_path / "r.gpkg", "--json", "--quiet")
    truth = gpd.read_file(radar.with_name("radar_truth.gpkg"))
    near = gpd.read_file(tmp_path / "r.gpkg", layer="detections").sjoin_nearest(truth, distance_col="metres")["metres"] < 200
    assert code == 0 and json.loads(out)["model"] == "points-sar" and near.sum() > 0.6 * truth["detectable"].sum()
    code, _, err = xtgeo("segment", radar, "--out", tmp_path / "q.gpkg", "--model", path)
    assert code == 1 and "use xtgeo.detect" in err and not (tmp_path / "q.gpkg").exists()


def test_parts_lists_every_encoder_that_can_be_built(xtgeo):
    from xtgeo.model.context import CONTEXTS
    from xtgeo.model.regions import RECOMMENDED

    code, out, _ = xtgeo("models", "parts")
    assert code == 0 and all(f"  {name} " in out for name in (*CONTEXTS, *RECOMMENDED))


def test_context_of_the_scene_from_the_shell(xtgeo, radar, tmp_path):
    options = "--dtype", "fp32", "--quiet", "--json"
    code, out, _ = xtgeo("segment", radar, "--out", tmp_path / "v.gpkg", "--context", "scene", *options)
    assert code == 0 and json.loads(out)["context"] == "scene"
    code, _, err = xtgeo("segment", radar, "--out", tmp_path / "w.gpkg", "--context", "world", *options)
    assert code == 1 and "tile or scene" in err


def test_a_photograph_is_classified_by_a_model_of_that_task(xtgeo, tmp_path):
    from PIL import Image

    from xtgeo.model import Model, Spec, build, save_model

    spec = Spec(
        name="species", bands=("red", "green", "blue"), units="rgb", mean=(100.0,) * 3, std=(64.0,) * 3, gsd=1.0, margin=0,
        task="classify", classes=("frog", "newt", "toad"), activation="softmax", region=64, backbone="convnext_atto",
        context="attention", context_dim=32, context_stride=32,
    )  # fmt: skip
    model, photo = save_model(Model(build(spec), spec), tmp_path / "species.safetensors"), tmp_path / "pond.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 131, 3), np.uint8)).save(photo)
    assert "frog newt toad" in xtgeo("models", "show", model)[1]
    code, out, err = xtgeo("classify", photo, "--model", model, "--json")
    said = json.loads(out)
    assert code == 0 and set(said["classes"]) == set(spec.classes) and sum(said["classes"].values()) == pytest.approx(1)
    code, out, err = xtgeo("classify", photo, "--model", model, "--top", 2)
    assert code == 0 and [line.split()[1] for line in out.splitlines()] == list(said["classes"])[:2]
    code, out, err = xtgeo("classify", photo, "--model", "vessels-sar")
    assert code == 1
    one_line(err, "of task segment, not classify")
    code, out, err = xtgeo("segment", photo, "--model", model, "--out", tmp_path / "x.gpkg", "--allow-ungeoreferenced")
    assert code == 1
    one_line(err, "xtgeo.classify")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("xtgeo seg", "segment"), ("xtgeo models sh", "show"), ("xtgeo segment --quickl", "--quicklook")],
)
def test_a_shell_completes_commands_and_options(typed, completed):
    asked = {"_XTGEO_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    code = "from xtgeo.cli import app; app(prog_name='xtgeo')"
    said = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
    assert said.stdout.split() == [completed], said.stderr
