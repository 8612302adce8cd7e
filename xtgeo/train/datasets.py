"""The data sets of the xT paper and its kin, for those who have them: COCO and iNaturalist 2018.

Images are (3, h, w) float32, red, green, blue in 0 to 255, the unit "rgb" of scenes: what learns from them also takes files.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.transforms.functional import pil_to_tensor, resize

from xtgeo.errors import ModelError, SceneError


class Coco(Dataset):
    """Images and boxes in the layout of COCO (Lin et al. 2014, arXiv 1405.0312), ordered by image id.

    An item is an image and its target as `xtgeo.model.boxes.Boxes` and `coco_metrics` take it: boxes (n, 4) float32 as
    x0, y0, x1, y1 in pixels, labels (n,) int64 from 1, iscrowd (n,) bool, area (n,) of the outlines in square pixels, and
    image_id. n may be 0. Boxes are cut at the image's border; those without an area are left out.

    torchvision's CocoDetection wants pycocotools for any use. The file is JSON and the outlines are not looked at, so that
    it is read here without.
    """

    def __init__(self, root: str | os.PathLike, annotations: str | os.PathLike, *, side: int | None = None):
        """root: folder of images. annotations: such as instances_train2017.json. side: of the longer side, in pixels; None
        leaves sizes as they are.

        Raises SceneError where the annotations are no such file, here, or the image is not the one that they describe, later.
        """
        content = _read_json(annotations, "images", "annotations", "categories")
        self.root, self.side = Path(root), side
        categories = sorted(content["categories"], key=lambda c: c["id"])
        self.classes = tuple(c["name"] for c in categories)
        self.category_ids = tuple(c["id"] for c in categories)
        """Of label 1, 2, ..; COCO's run from 1 to 90 with gaps."""
        self.images = sorted(content["images"], key=lambda image: image["id"])
        self._labels = {category: label for label, category in enumerate(self.category_ids, 1)}
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in self.images}
        self._objects = defaultdict(list)
        for entry in content["annotations"]:
            if entry["category_id"] not in self._labels or entry["image_id"] not in self._sizes:
                raise SceneError(f"{annotations}: annotation {entry['id']} is of a category or an image that is not listed")
            self._objects[entry["image_id"]].append(entry)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict]:
        described = self.images[index]
        path, size = self.root / described["file_name"], self._sizes[described["id"]]
        image = _open(path)
        if (image.height, image.width) != size:
            raise SceneError(f"{path} is {image.height} x {image.width} pixels, its annotations are for {size[0]} x {size[1]}")
        image = _pixels(image, self.side)
        return image, self._target(described["id"], self._scale(described["id"]), image.shape[-2:])

    def _target(self, image_id: int, scale: Tensor, size: tuple[int, int]) -> dict:
        objects, (h, w) = self._objects.get(image_id, []), size
        corner, extent = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).view(-1, 2, 2).unbind(1)
        boxes = torch.cat([corner, corner + extent], 1) * scale
        boxes = boxes.clamp(min=0).minimum(torch.tensor([w, h, w, h], dtype=torch.float32))
        kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
        area = torch.tensor([o.get("area", o["bbox"][2] * o["bbox"][3]) for o in objects], dtype=torch.float32)
        return {
            "boxes": boxes[kept],
            "labels": torch.tensor([self._labels[o["category_id"]] for o in objects], dtype=torch.int64)[kept],
            "iscrowd": torch.tensor([bool(o.get("iscrowd", 0)) for o in objects], dtype=torch.bool)[kept],
            "area": (area * scale[0] * scale[1])[kept],
            "image_id": image_id,
        }

    def results(self, image_id: int, found: dict[str, Tensor]) -> list[dict]:
        """What `Boxes` found in an image, as entries of COCO's results JSON: category ids and pixels of the original."""
        boxes = found["boxes"].cpu() / self._scale(image_id)
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {"image_id": image_id, "category_id": self.category_ids[label - 1], "bbox": box, "score": score}
            for box, label, score in zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)
        ]

    def _scale(self, image_id: int) -> Tensor:
        """Pixels of what is given per pixel of the file: x, y, x, y."""
        h, w = self._sizes[image_id]
        rows, columns = _scaled(h, w, self.side)
        return torch.tensor([columns / w, rows / h] * 2)


def collate_boxes(batch: list[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """Images and targets as `Boxes` takes them: a DataLoader's `collate_fn` for `Coco`."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


class INaturalist(Dataset):
    """Photographs of species of iNaturalist 2018 (Van Horn et al. 2018, arXiv 1707.06642), found by torchvision.

    An item is an image (3, side, side), its valid pixels (side, side) bool, and its class 0.. in the order of `classes`,
    which are folders such as "Reptilia/3700". The longer side of the photograph fills `side`; the rest, below or on the
    right, is 0 and invalid. The xT paper uses the 284 species of Reptilia.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str | os.PathLike | None = None,
        *,
        side: int,
        supercategory: str | None = "Reptilia",
    ):
        """root: holds the folder 2018, as torchvision wants the unpacked train_val2018 renamed: 2018/Reptilia/3700/*.jpg.

        split: train2018.json or val2018.json; None takes both parts. supercategory: None takes all.

        Raises SceneError where something of that is not there.
        """
        if not (Path(root) / "2018").is_dir():
            raise SceneError(f"{root} has no folder 2018: unpack train_val2018.tar.gz there and rename train_val2018 to 2018")
        try:
            source = datasets.INaturalist(str(root), "2018")
        except RuntimeError as e:
            raise SceneError(f"{root}/2018 is not laid out as iNaturalist 2018: {e}") from e
        self.root, self.side = Path(source.root), side
        folders = [Path(name).as_posix() for name in source.all_categories]
        groups = sorted({name.split("/")[0] for name in folders})
        if supercategory not in (None, *groups):
            raise SceneError(f"{source.root} has no super-category {supercategory!r}; it has {', '.join(groups)}")
        self.classes = tuple(name for name in folders if supercategory in (None, name.split("/")[0]))
        number = {name: i for i, name in enumerate(self.classes)}
        found = ((folders[category], name) for category, name in source.index)
        self.items = sorted((f"{folder}/{name}", number[folder]) for folder, name in found if folder in number)
        """Path below `root`, and class."""
        if split is not None:
            self._choose(split)

    def _choose(self, split: str | os.PathLike) -> None:
        paths = {"/".join(Path(image["file_name"]).parts[-3:]) for image in _read_json(split, "images")["images"]}
        classes = set(self.classes)
        wanted = {path for path in paths if path.rpartition("/")[0] in classes}
        self.items = [item for item in self.items if item[0] in wanted]
        if len(self.items) < len(wanted):
            raise SceneError(f"{self.root} has {len(self.items)} of the {len(wanted)} images of {split}: unpack it again")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        path, label = self.items[index]
        part = _pixels(_open(self.root / path), self.side)
        h, w = part.shape[-2:]
        image, valid = torch.zeros(3, self.side, self.side), torch.zeros(self.side, self.side, dtype=torch.bool)
        image[:, :h, :w], valid[:h, :w] = part, True
        return image, valid, label


def coco_metrics(found: list[dict], targets: list[dict]) -> dict[str, float]:
    """COCO's average precisions and recalls in 0..1, as torchmetrics names them: map, map_50, map_small, mar_100 and so on.

    found: what `Boxes` answers. targets: of `Coco`, for the same images. -1 where there is nothing of the kind, as of
    small objects. The figures are pycocotools', or those of faster-coco-eval where it is not installed.

    Raises ModelError where neither or no torchmetrics is installed.
    """
    backends = [name for name in ("pycocotools", "faster_coco_eval") if find_spec(name)]
    if not backends or not find_spec("torchmetrics"):
        raise ModelError("COCO's figures want torchmetrics and pycocotools: pip install torchmetrics pycocotools")
    from torchmetrics.detection import MeanAveragePrecision

    if len(found) != len(targets):
        raise ValueError(f"{len(found)} answers for {len(targets)} targets")
    metric = MeanAveragePrecision(backend=backends[0])
    metric.warn_on_many_detections = False
    metric.update(*([_tensors(entry) for entry in entries] for entries in (found, targets)))
    return {name: float(value) for name, value in metric.compute().items() if name != "classes" and "per_class" not in name}


def _tensors(entry: dict) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in entry.items() if isinstance(value, Tensor)}


def _read_json(path: str | os.PathLike, *keys: str) -> dict:
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as e:
        raise SceneError(f"cannot read {path}: {e}") from e
    found = list(content) if isinstance(content, dict) else []
    if not set(keys) <= set(found):
        raise SceneError(f"{path} must hold {', '.join(keys)}; it holds {', '.join(found) or 'none of them'}")
    return content


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as e:
        raise SceneError(f"cannot read {path}: {e}") from e


def _pixels(image: Image.Image, side: int | None) -> Tensor:
    """(3, h, w) float32 in 0..255, the longer of h and w being `side`."""
    x, size = pil_to_tensor(image), _scaled(image.height, image.width, side)
    return (x if x.shape[-2:] == size else resize(x, list(size), antialias=True)).float()


def _scaled(h: int, w: int, side: int | None) -> tuple[int, int]:
    longer = max(h, w)
    return (h, w) if side is None else (max(1, round(h * side / longer)), max(1, round(w * side / longer)))
