"""From scenes and labels to a model that segments, detects and classifies; stopped trainings go on to the same end."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import geopandas as gpd
import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from test_train_scenes import outlines, spec_of, write_tif
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler
from typer.testing import CliRunner
from xtgeo.cli import app

import xtgeo
from xtgeo.errors import LabelError, ModelError, OutputError, TrainError
from xtgeo.grid import lonlat_to_pixel, pixel_to_lonlat
from xtgeo.model import load_model, save_model
from xtgeo.model.weights import load_card
from xtgeo.read import open_scene
from xtgeo.simulate import sentinel1, write_xview3
from xtgeo.train import from_crops
from xtgeo.train.geodataset import SceneDataset
from xtgeo.train.labels import read_labels
from xtgeo.train.loop import Training
from xtgeo.train.prepare import prepare
from xtgeo.train.run import Recipe, train_scenes
from xtgeo.train.scenes import label

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(torch|lightning|tensorboard).*", "ignore:.*is_namedtuple.*")
RECIPE = Recipe(steps=6, every=3, batch=2, side=64, augment="sar", precision="fp32", lr=4e-3)
PART = {"backbone": "convnext_atto", "region": 64, "task": "segment"}


@pytest.fixture
def archive(tmp_path):
    """Three scenes of different places with their labels."""
    for i in range(3):
        path = write_tif(tmp_path / f"s{i}.tif", origin=(500_000.0 + 1e5 * i, 4_000_000.0), seed=i)
        outlines(open_scene(path)).to_file(tmp_path / f"s{i}_labels.gpkg")
    return tmp_path


def ready(archive, **options):
    torch.manual_seed(0)
    return prepare([str(archive / "s*.tif")], [str(archive / "s*_labels.gpkg")], **{**PART, "val": [archive / "s2.tif"], **options})


class Stop(lightning.Callback):
    """As a killed process would: after the first judgement and its checkpoint, two steps on."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 5:
            raise OSError(28, "No space left on device")


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(archive, monkeypatch):
    whole, _ = train_scenes(*ready(archive), RECIPE, out=archive / "whole.safetensors")
    out, make = archive / "parts.safetensors", lightning.Trainer
    monkeypatch.setattr(lightning, "Trainer", lambda **k: make(**{**k, "callbacks": [*k["callbacks"], Stop()]}))
    with pytest.raises(OutputError, match="make room, then run again with --resume"):
        train_scenes(*ready(archive), RECIPE, out=out)
    monkeypatch.undo()
    assert not out.exists() and (archive / "parts.run/last.ckpt").exists()
    with pytest.raises(OutputError, match="holds a training: continue it with --resume"):
        train_scenes(*ready(archive), RECIPE, out=out)
    with pytest.raises(OutputError, match=r"belongs to another training: recipe.lr differ"):
        train_scenes(*ready(archive), replace(RECIPE, lr=1e-3), out=out, resume=True)
    torch.manual_seed(99)
    train_scenes(*ready(archive), RECIPE, out=out, resume=True)
    for (name, a), b in zip(load_model(whole).net.state_dict().items(), load_model(out).net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert load_model(whole).spec.provenance["chosen_on"] == load_model(out).spec.provenance["chosen_on"]


def test_a_model_learns_from_files_and_segments_at_once(archive):
    recipe = replace(RECIPE, steps=36, every=12, average=0.8)
    out, best = train_scenes(*ready(archive, classes=("square",)), recipe, out=archive / "m.safetensors")
    model, folder = load_model(out), archive / "m.run"
    assert best["f1"] > 0.5 and model.spec.classes == ("square",) and model.spec.threshold == best["threshold"]
    result = xtgeo.segment(open_scene(archive / "s2.tif"), model, out=archive / "found.gpkg")
    assert result.summary.objects == len(gpd.read_file(archive / "found.gpkg", layer="detections")) >= 2
    run = json.loads((folder / "run.json").read_text())
    assert run["config"]["recipe"]["seed"] == 0 and run["versions"]["torch"] and run["command"]
    assert (folder / "samples.png").stat().st_size > 2000 and (folder / "curves.png").stat().st_size > 2000
    assert list(folder.glob("tensorboard/version_0/events*")) and list(folder.glob("logs/version_0/metrics.csv"))
    assert "Learnt from 2 scenes: s0.tif, s1.tif" in load_card(out)


def test_centres_and_classes_of_whole_scenes_are_learnt_and_used_too(archive):
    recipe = replace(RECIPE, steps=3, every=3)
    out, _ = train_scenes(*ready(archive, task="detect"), recipe, out=archive / "d.safetensors")
    assert load_model(out).spec.task == "detect"
    xtgeo.detect(open_scene(archive / "s2.tif"), load_model(out), out=archive / "d.gpkg", threshold=0.01)
    table = pd.DataFrame({"scene_id": ["s0", "s1", "s2"], "class": ["port", "sea", "port"]})
    table.to_csv(archive / "classes.csv", index=False)
    options = {"task": "classify", "val": [archive / "s2.tif"], "region": 64, "span": 1}
    torch.manual_seed(0)
    parts = prepare([str(archive / "s*.tif")], [archive / "classes.csv"], **options)
    out, best = train_scenes(*parts, recipe, out=archive / "c.safetensors")
    assert 0 <= best["accuracy"] <= 1 and load_model(out).spec.classes == ("port", "sea")
    with pytest.raises(LabelError, match="all scenes to learn from are of the class port"):
        train_scenes(parts[0], parts[1][:1], parts[2], recipe, out=archive / "c2.safetensors")


def test_areas_of_many_tiles_are_learnt_from_by_exact_steps(archive):
    recipe = replace(RECIPE, steps=2, every=2, area=128)
    out, best = train_scenes(*ready(archive, region=64, span=1), recipe, out=archive / "a.safetensors")
    assert math.isfinite(best["loss"]) and load_model(out).spec.provenance["recipe"]["area"] == 128


def test_a_model_goes_on_from_another(archive):
    first, _ = train_scenes(*ready(archive), replace(RECIPE, steps=3), out=archive / "m.safetensors")
    model, *rest = ready(archive, start=str(first))
    assert model.spec.mean == load_model(first).spec.mean
    for a, b in zip(model.net.state_dict().values(), load_model(first).net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(LabelError, match="is a model to segment, not to detect"):
        ready(archive, start=str(first), task="detect")


def test_a_region_encoder_starts_from_a_bundled_model_or_a_file(archive):
    theirs = load_model("vessels-sar").net.regions.net.state_dict()
    model, *_ = ready(archive, weights="vessels-sar", backbone="mobilenetv4_conv_small", bands="vv")
    own = model.net.regions.net.state_dict()
    assert theirs["conv_stem.weight"].shape[1] == 2 and own["conv_stem.weight"].shape[1] == len(model.spec.bands) == 1
    assert all(torch.equal(own[key], value) for key, value in theirs.items() if key != "conv_stem.weight")
    first = save_model(model, archive / "first.safetensors")
    again, *_ = ready(archive, weights=str(first), backbone="mobilenetv4_conv_small", bands="vv")
    assert [m.spec.provenance["started_from"] for m in (model, again)] == ["vessels-sar", "first.safetensors"]
    assert torch.equal(again.net.regions.net.state_dict()["conv_stem.weight"], own["conv_stem.weight"])
    with pytest.raises(ModelError, match="take the backbone that these weights were trained for"):
        ready(archive, weights="vessels-sar")
    with pytest.raises(TrainError, match="give one of them"):
        ready(archive, weights="vessels-sar", start="vessels-sar")


def test_a_loss_that_is_no_number_ends_the_training_with_its_step(archive):
    model, learnt, judged = ready(archive)
    next(model.net.head.parameters()).data.fill_(float("nan"))
    with pytest.raises(TrainError, match="the loss of step 1 is nan: look at the scenes' units"):
        train_scenes(model, learnt, judged, RECIPE, out=archive / "m.safetensors")
    assert not (archive / "m.safetensors").exists()


def test_nothing_to_learn_or_to_judge_by_is_said_before_the_work(archive):
    model, learnt, judged = ready(archive)
    empty = [replace(g, labels=g.labels.take(np.zeros(3, bool))) for g in judged]
    with pytest.raises(LabelError, match="no object of object to judge by in 1 scenes"):
        train_scenes(model, learnt, empty, RECIPE, out=archive / "m.safetensors")
    with pytest.raises(OutputError, match="must end in .safetensors"):
        train_scenes(model, learnt, judged, RECIPE, out=archive / "m.pt")
    assert not (archive / "m.run").exists()
    with pytest.raises(ValueError, match="loss is one of"):
        Recipe(loss="nope")


def test_gradients_of_several_processes_are_averaged(monkeypatch):
    training = Training(load_model("vessels-s2"), from_crops(), steps=1)
    for p in training.model.parameters():
        p.grad = torch.ones_like(p)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda t: t.add_(3.0))
    training._share_gradients()
    assert all((p.grad == 2).all() for p in training.model.parameters())


@pytest.mark.slow
def test_two_processes_learn_the_same_weights_and_one_of_them_writes(archive):
    files = ["--scenes", str(archive / "s*.tif"), "--labels", str(archive / "s*_labels.gpkg"), "--val", str(archive / "s2.tif")]
    small = "--region 64 --side 64 --batch 1 --steps 2 --every 2 --precision fp32 --device cpu --devices 2".split()
    done = subprocess.run(
        [sys.executable, "-m", "xtgeo.cli", "train", *files, *small, "--out", str(archive / "m.safetensors"), "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and load_model(archive / "m.safetensors").spec.provenance["recipe"]["devices"] == 2


@pytest.fixture
def dataset(archive):
    scenes = [open_scene(archive / f"s{i}.tif") for i in range(2)]
    files = [archive / f"s{i}_labels.gpkg" for i in range(2)]
    return SceneDataset(label(scenes, read_labels(scenes, files), spec_of(("object",))))


def test_torchgeos_samplers_and_loader_read_scenes_and_labels(dataset):
    loader = DataLoader(dataset, batch_size=2, sampler=RandomGeoSampler(dataset, 48, length=8), collate_fn=stack_samples)
    seen = 0
    for batch in loader:
        assert batch["image"].shape == (2, 2, 48, 48) and batch["mask"].shape == batch["valid"].shape == (2, 48, 48)
        known = batch["valid"] & (batch["mask"] != 255)  # one of three is uncertain
        assert torch.equal(batch["mask"][known] == 1, batch["image"][:, 0][known] > -10)
        assert (batch["mask"][~batch["valid"]] == 255).all()
        seen += int((batch["mask"] == 1).sum())
    assert seen > 0
    queries = list(GridGeoSampler(dataset, size=64, stride=64))
    total = sum(int((dataset[q]["mask"] == 1).sum()) for q in queries)
    assert total == 2 * (64 + 36)


def test_other_data_sets_compose_with_scenes(dataset, archive):
    other = SceneDataset([dataset.scenes[0]])
    both = dataset & other
    x, y, t = both.bounds
    sample = both[x, y, t]
    assert sample["image"].shape[-2:] == (150, 180)
    assert len(dataset | other) == 3


@pytest.mark.parametrize("gcps", [False, True])
def test_a_scene_on_another_grid_keeps_its_objects_in_their_place(tmp_path, gcps):
    scene = open_scene(write_tif(tmp_path / "port.tif", gcps=gcps))
    outlines(scene).to_file(tmp_path / "l.gpkg")
    ground = label([scene], read_labels([scene], [tmp_path / "l.gpkg"]), spec_of(("object",)))[0]
    dataset = SceneDataset([ground], crs="EPSG:32631" if gcps else "EPSG:4326", res=5.0 if gcps else 5e-5)
    sample = dataset[dataset.bounds]
    sure = sample["valid"] & (sample["mask"] != 255)
    bright = sample["image"][0] > -12.5
    assert (bright == (sample["mask"] == 1))[sure].float().mean() > 0.995 and (sample["mask"] == 1).sum() > 350
    lon, lat = pixel_to_lonlat(scene.grid, 64.5, 104.5)
    assert np.allclose(lonlat_to_pixel(scene.grid, lon, lat), (64.5, 104.5), atol=1e-3)


def test_the_command_trains_says_what_it_does_and_refuses_in_one_line(archive):
    def run(*more):
        files = ["--scenes", str(archive / "s*.tif"), "--labels", str(archive / "s*_labels.gpkg")]
        return CliRunner().invoke(app, ["train", *files, *more])

    small = ["--region", "64", "--side", "64", "--batch", "1", "--steps", "2", "--every", "1", "--precision", "fp32"]
    result = run("--out", str(archive / "m.safetensors"), *small, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["objects"] >= 1
    assert "no file is like" in str(run("--val", str(archive / "nope*.tif"), "--out", "m.safetensors").exception)
    assert "loss is one of" in run("--out", str(archive / "n.safetensors"), "--loss", "nope").output


def test_xview3_folders_are_learnt_from_as_they_are(tmp_path):
    for seed in (1, 2, 3):
        write_xview3(sentinel1((300, 320), seed=seed, density=60, land=0.3, origin=(3.0 * seed, 40.0)), tmp_path)
    table = [tmp_path / "labels.csv"]
    folders = sorted(p.parent for p in tmp_path.glob("*/VV_dB.tif"))
    torch.manual_seed(0)
    parts = prepare(folders, table, task="detect", val=folders[:1], region=64)
    assert sum(len(g.shore) for g in (*parts[1], *parts[2])) > 0 and sum(len(g.centres) for g in parts[1]) > 3
    assert {"vv", "vh"} == set(parts[0].spec.bands) and parts[0].spec.units == "db"
    out, best = train_scenes(*parts, replace(RECIPE, steps=2, every=2, shore=0.3), out=tmp_path / "m.safetensors")
    assert math.isfinite(best["loss"])
