"""Tiny data sets, written here in the layouts of COCO and iNaturalist 2018."""

import importlib.util
import json
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import xtgeo.train.datasets
from xtgeo.errors import ModelError, SceneError
from xtgeo.model import Model, Spec, build, load_spec
from xtgeo.train import fit, from_crops
from xtgeo.train.datasets import Coco, INaturalist, coco_metrics, collate_boxes

COLOURS = {3: (230, 30, 30), 17: (30, 200, 30), 90: (30, 30, 230)}
"""Of categories, whose ids have gaps as COCO's."""


def paint(path, h, w, *rectangles, mode="RGB"):
    """A grey picture with rectangles: x, y, width, height, colour."""
    pixels = np.full((h, w, 3), 100, np.uint8)
    for x, y, wide, high, colour in rectangles:
        pixels[y : y + high, x : x + wide] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def coco(tmp_path):
    """The folder, and the annotations as they are in the file; `again` writes them anew."""
    objects = {7: [(3, 10, 20, 30, 16), (90, 60, 8, 20, 40)], 2: [(17, 0, 0, 33, 21)], 5: []}
    sizes = {7: (80, 96), 2: (61, 47), 5: (40, 30)}
    for i, (h, w) in sizes.items():
        paint(tmp_path / f"{i:012}.png", h, w, *((*box, COLOURS[c]) for c, *box in objects[i]), mode="L" if i == 5 else "RGB")
    entries = [(i, category, box, 0) for i, found in objects.items() for category, *box in found]
    entries += [(2, 3, [30.5, 40.0, 40.0, 40.0], 1), (2, 90, [10.0, 10.0, 0.0, 5.0], 0), (2, 90, [50.0, 10.0, 9.0, 5.0], 0)]
    content = {
        "images": [{"id": i, "file_name": f"{i:012}.png", "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": 90, "name": "blue"}, {"id": 3, "name": "red"}, {"id": 17, "name": "green"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": category, "bbox": box, "iscrowd": crowd, "area": 0.5 * box[2] * box[3]}
            for n, (i, category, box, crowd) in enumerate(entries)
        ],
    }
    again(tmp_path, content)
    return tmp_path, content


def again(folder, content):
    (folder / "instances.json").write_text(json.dumps(content))


def test_coco_gives_images_in_order_with_labels_without_gaps(coco):
    data = Coco(coco[0], coco[0] / "instances.json")
    assert len(data) == 3 and data.classes == ("red", "green", "blue") and data.category_ids == (3, 17, 90)
    targets = [target for _, target in data]
    assert [target["image_id"] for target in targets] == [2, 5, 7]
    assert [target["labels"].tolist() for target in targets] == [[2, 1], [], [1, 3]]
    assert targets[2]["boxes"].tolist() == [[10, 20, 40, 36], [60, 8, 80, 48]] and targets[2]["area"].tolist() == [240, 400]
    assert targets[1]["boxes"].shape == (0, 4) and targets[1]["labels"].dtype == torch.int64


def test_crowds_are_marked_and_boxes_are_cut_at_the_border_and_left_out_without_area(coco):
    target = Coco(coco[0], coco[0] / "instances.json")[0][1]
    assert target["iscrowd"].tolist() == [False, True]
    assert target["boxes"].tolist() == [[0, 0, 33, 21], [30.5, 40, 47, 61]]


@pytest.mark.parametrize("side", [None, 64, 200])
def test_boxes_lie_around_their_rectangles_at_any_size(coco, side):
    for image, target in Coco(coco[0], coco[0] / "instances.json", side=side):
        assert image.dtype == torch.float32 and image.min() >= 0 and 90 < image.max() <= 255
        assert side in (None, max(image.shape[-2:]))
        for box, label, crowd in zip(target["boxes"], target["labels"], target["iscrowd"], strict=True):
            if crowd:
                continue
            x0, y0, x1, y1 = box.round().int().tolist()
            inside = image[:, y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].flatten(1).mean(1)
            assert inside.argmax() == label - 1 and inside.max() > 180
            around = image[:, y1 + 3 : y1 + 5, x0 + 3 : x1 - 3]
            assert torch.allclose(around, torch.tensor(100.0), atol=5)


@pytest.mark.parametrize("side", [None, 64, 131])
def test_results_are_the_annotations_where_the_model_is_right(coco, side):
    data, entries = Coco(coco[0], coco[0] / "instances.json", side=side), []
    for _, target in data:
        found = {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}
        entries += data.results(target["image_id"], found)
    entries = [entry for entry in json.loads(json.dumps(entries)) if entry["bbox"][0] != pytest.approx(30.5)]
    truth = sorted(coco[1]["annotations"][:3], key=lambda entry: entry["image_id"])
    assert [(e["image_id"], e["category_id"], e["score"]) for e in entries] == [(e["image_id"], e["category_id"], 1) for e in truth]
    assert np.allclose([e["bbox"] for e in entries], [e["bbox"] for e in truth], atol=1e-3)


def test_coco_is_loaded_in_lists(coco):
    (images, targets), *rest = DataLoader(Coco(coco[0], coco[0] / "instances.json"), batch_size=3, collate_fn=collate_boxes)
    assert not rest and [tuple(i.shape) for i in images] == [(3, 61, 47), (3, 40, 30), (3, 80, 96)] and len(targets) == 3


def test_annotations_that_do_not_fit_are_refused(coco):
    folder, content = coco
    with pytest.raises(SceneError, match="cannot read .*nowhere.json"):
        Coco(folder, folder / "nowhere.json")
    again(folder, {"images": []})
    with pytest.raises(SceneError, match="must hold images, annotations, categories; it holds images"):
        Coco(folder, folder / "instances.json")
    again(folder, {**content, "categories": content["categories"][:2]})
    with pytest.raises(SceneError, match="of a category or an image that is not listed"):
        Coco(folder, folder / "instances.json")
    images = [{**content["images"][0], "height": 90}, {**content["images"][1], "file_name": "gone.png"}]
    again(folder, {**content, "images": images, "annotations": []})
    data = Coco(folder, folder / "instances.json")
    with pytest.raises(SceneError, match="is 80 x 96 pixels, its annotations are for 90 x 96"):
        data[1]
    with pytest.raises(SceneError, match="cannot read .*gone.png"):
        data[0]


def test_figures_are_those_of_coco(coco):
    pytest.importorskip("pycocotools")
    targets = [target for _, target in Coco(coco[0], coco[0] / "instances.json")]
    right = [{key: t[key][~t["iscrowd"]] for key in ("boxes", "labels")} for t in targets]
    right = [{**found, "scores": torch.ones(len(found["labels"]))} for found in right]
    assert coco_metrics(right, targets)["map"] == pytest.approx(1)
    # A crowd takes any number of answers without harm.
    crowded = [{k: torch.cat([v, v[-1:]]) for k, v in right[0].items()}, *right[1:]]
    crowded[0]["boxes"][-1], crowded[0]["labels"][-1] = torch.tensor([32.0, 42.0, 45.0, 60.0]), 1
    assert coco_metrics(crowded, targets)["map"] == pytest.approx(1)
    shifted = [{**found, "boxes": found["boxes"] + 4} for found in right]
    figures = coco_metrics(shifted, targets)
    assert 0 < figures["map"] < figures["map_50"] and figures["map_large"] == -1
    nothing = [{k: v[:0] for k, v in found.items()} for found in right]
    assert coco_metrics(nothing, targets)["map"] == 0


def test_figures_without_a_library_name_what_to_install(monkeypatch):
    monkeypatch.setattr(xtgeo.train.datasets, "find_spec", lambda name: None if "coco" in name else object())
    with pytest.raises(ModelError, match="pip install torchmetrics pycocotools"):
        coco_metrics([], [])


@pytest.fixture
def inaturalist(tmp_path):
    """Two reptiles, striped across and along, and a bird; a split of their photographs."""
    listed = []
    for category, folder in enumerate(("Reptilia", "Aves", "Reptilia")):
        for n, (h, w) in enumerate(((64, 64), (50, 96), (90, 45), (32, 30))):
            path = tmp_path / "2018" / folder / str(category) / f"{n}.jpg"
            across = [(0, y, w, 5, COLOURS[3]) for y in range(0, h, 10)]
            along = [(x, 0, 5, h, COLOURS[3]) for x in range(0, w, 10)]
            paint(path, h, w, *(across if category == 0 else along))
            if n != 1:
                listed.append({"id": len(listed), "file_name": f"train_val2018/{folder}/{category}/{n}.jpg"})
    (tmp_path / "train2018.json").write_text(json.dumps({"images": listed}))
    return tmp_path


def test_inaturalist_gives_a_super_category_of_a_split(inaturalist):
    data = INaturalist(inaturalist, inaturalist / "train2018.json", side=48)
    assert data.classes == ("Reptilia/0", "Reptilia/2") and [label for _, _, label in data] == [0, 0, 0, 1, 1, 1]
    assert len(INaturalist(inaturalist, side=48)) == 8
    everything = INaturalist(inaturalist, side=48, supercategory=None)
    assert len(everything) == 12 and everything.classes == ("Reptilia/0", "Aves/1", "Reptilia/2")


def test_photographs_fill_the_side_and_the_rest_is_invalid(inaturalist):
    shapes = {(48, 48), (25, 48), (48, 24), (48, 45)}
    for image, valid, _ in INaturalist(inaturalist, side=48):
        h, w = int(valid.any(1).sum()), int(valid.any(0).sum())
        assert (h, w) in shapes and valid[:h, :w].all() and valid.sum() == h * w
        assert image.shape == (3, 48, 48) and (image[:, ~valid] == 0).all() and (image[0][valid] > 50).all()
        assert 100 < image.max() <= 255


def test_inaturalist_that_is_not_there_is_refused_and_nothing_is_made(inaturalist):
    with pytest.raises(SceneError, match="has no folder 2018"):
        INaturalist(inaturalist / "elsewhere", side=48)
    assert not (inaturalist / "elsewhere").exists()
    with pytest.raises(SceneError, match="'Reptiles'; it has Aves, Reptilia"):
        INaturalist(inaturalist, side=48, supercategory="Reptiles")
    (inaturalist / "2018" / "Reptilia" / "2" / "0.jpg").unlink()
    with pytest.raises(SceneError, match="has 5 of the 6 images"):
        INaturalist(inaturalist, inaturalist / "train2018.json", side=48)
    (inaturalist / "2018" / "Reptilia" / "4").mkdir()
    with pytest.raises(SceneError, match="not laid out as iNaturalist 2018: Missing category 3"):
        INaturalist(inaturalist, side=48)


def test_a_classifier_learns_two_species(inaturalist):
    torch.manual_seed(0)
    data = INaturalist(inaturalist, side=64)
    spec = Spec(
        name="test", bands=("red", "green", "blue"), units="rgb", mean=(100.0,) * 3, std=(64.0,) * 3, gsd=1.0,
        task="classify", classes=data.classes, activation="softmax", region=32, margin=0, backbone="convnext_atto",
        context="attention", context_dim=32, context_stride=16,
    )  # fmt: skip
    (image, valid, label), *rest = DataLoader(data, batch_size=8)
    entered = (image - 100) / 64 * valid[:, None]
    model = Model(build(spec), spec)
    model.net.batch = 4
    learn = from_crops(nn.functional.cross_entropy, bf16=False)
    trained = fit(model, repeat((entered, valid, label)), steps=20, lr=1e-3, average=0.5, learn=learn)
    with torch.inference_mode():
        p = trained(image.clone(), valid)
    assert not rest and p.shape == (8, 2) and torch.equal(p.argmax(1), label) and p.amax(1).min() > 0.8


def example(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_trains_on_inaturalist(inaturalist, capsys):
    (inaturalist / "val2018.json").write_bytes((inaturalist / "train2018.json").read_bytes())
    small = "--side", 64, "--region", 32, "--backbone", "convnext_atto", "--epochs", 2, "--batch", 3
    example("train_inaturalist").main([str(w) for w in (inaturalist, inaturalist / "m.safetensors", *small)])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["classes"] == 2 and said["images"] == 6 and 0 <= said["top1"] <= 1
    assert load_spec(inaturalist / "m.safetensors").classes == ("Reptilia/0", "Reptilia/2")


def test_the_example_trains_on_coco(coco, capsys):
    folder, content = coco
    for part in ("train", "val"):
        (folder / f"{part}2017").mkdir()
        for path in folder.glob("*.png"):
            (folder / f"{part}2017" / path.name).write_bytes(path.read_bytes())
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content))
    small = "--side", 64, "--region", 64, "--backbone", "convnext_atto", "--steps", 2, "--batch", 2
    example("train_coco").main([str(w) for w in (folder, folder / "m.safetensors", *small)])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"map", "map_50", "mar_100"} <= said.keys() and -1 <= said["map"] <= 1
    assert load_spec(folder / "m.safetensors").classes == ("red", "green", "blue")
