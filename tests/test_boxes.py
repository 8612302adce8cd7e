"""Laws of boxes: torchvision's heads on the regions and context of an XT."""

import dataclasses

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from xtgeo.errors import ModelError
from xtgeo.model import Model, Spec, build, load_model, save_model
from xtgeo.model.boxes import HEADS, _Anchors, build_boxes
from xtgeo.train import fit, from_boxes

SPEC = Spec(
    name="test", bands=("red", "green", "blue"), units="reflectance", mean=(0.4,) * 3, std=(0.2,) * 3, gsd=1.0,
    classes=("red", "green"), region=64, margin=16, backbone="mobilenetv4_conv_small",
    context="attention", context_dim=32, context_stride=32, task="boxes", head_dim=64, threshold=0.05,
)  # fmt: skip


def boxes(head="fcos", *, opened=False, options=None, **changes):
    torch.manual_seed(0)
    model = build(dataclasses.replace(SPEC, **changes, head_options={"head": head, **(options or {})}))
    for gate in getattr(model.detector.backbone.context, "gates", ()) if opened else ():
        gate.reset_parameters()
    return model


def scene(seed, h=64, w=96):
    """Noise with a red and a green rectangle."""
    g = torch.Generator().manual_seed(seed)
    image, found = 0.3 + 0.2 * torch.rand(3, h, w, generator=g), []
    for channel in range(2):
        high, wide = torch.randint(16, 36, (2,), generator=g).tolist()
        y, x = (int(torch.randint(0, n, (), generator=g)) for n in (h - high, w // 2 - wide))
        x += channel * w // 2
        image[:, y : y + high, x : x + wide] = 0.1
        image[channel, y : y + high, x : x + wide] = 0.9
        found.append([x, y, x + wide, y + high])
    return image, {"boxes": torch.tensor(found, dtype=torch.float32), "labels": torch.tensor([1, 2])}


def nothing():
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def hits(model, scenes):
    """Share of objects that the best answers, as many as there are objects, meet with an IoU from 0.5 and the right class."""
    met = []
    with torch.inference_mode():
        for found, (_, truth) in zip(model.eval()([image for image, _ in scenes]), scenes, strict=True):
            n = len(truth["labels"])
            same = truth["labels"][:, None] == found["labels"][None, :n]
            met += ((box_iou(truth["boxes"], found["boxes"][:n]) >= 0.5) & same).any(1).tolist()
    return sum(met) / len(met)


@pytest.fixture(scope="module", params=HEADS)
def learnt(request):
    """A model before and after it has seen two scenes a few times, and the scenes."""
    before, model = (boxes(request.param, backbone="convnext_atto") for _ in range(2))
    scenes = [scene(seed) for seed in range(2)]
    if request.param == "faster_rcnn":
        model.detector.roi_heads.fg_bg_sampler.batch_size_per_image = 64
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    for _ in range(24):
        losses = model(*map(list, zip(*scenes, strict=True)))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return before.eval(), model.eval(), scenes


def test_rectangles_are_learnt(learnt):
    before, model, scenes = learnt
    assert hits(before, scenes) <= 0.25 and hits(model, scenes) == 1


def test_an_image_alone_is_the_image_beside_others(learnt):
    _, model, scenes = learnt
    images = [scenes[0][0], scene(7, 133, 171)[0], scenes[1][0], scene(8, 48, 200)[0]]
    with torch.inference_mode():
        for together, image in zip(model(images), images, strict=True):
            alone = model([image])[0]
            sure = alone["scores"] > 0.1
            assert torch.allclose(alone["scores"], together["scores"][: len(sure)], atol=1e-4)
            assert torch.allclose(alone["boxes"][sure], together["boxes"][: len(sure)][sure], atol=1e-2)
            assert torch.equal(alone["labels"][sure], together["labels"][: len(sure)][sure])


def test_boxes_lie_in_their_image_best_first(learnt):
    _, model, scenes = learnt
    images = [scenes[0][0], scenes[1][0][:, :37, :61], scene(3, 141, 75)[0]]
    with torch.inference_mode():
        for image, found in zip(images, model(images), strict=True):
            h, w = image.shape[-2:]
            x0, y0, x1, y1 = found["boxes"].unbind(1)
            assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= w).all() and (y1 <= h).all()
            assert (found["scores"].diff() <= 0).all() and set(found["labels"].tolist()) <= {1, 2}
            assert len(found["boxes"]) == len(found["scores"]) == len(found["labels"]) <= 100


def test_boxes_stay_float32_in_bf16(learnt):
    _, model, scenes = learnt
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = model([scenes[0][0]])[0]
        assert hits(model, scenes) == 1
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert not torch.equal(found["boxes"], found["boxes"].bfloat16().float())


@pytest.mark.parametrize("context", ["attention", "none"])
def test_context_changes_the_boxes_of_a_far_corner_and_none_does_not(context):
    options = {"finest": 16, "most": 5000}
    model = boxes("faster_rcnn", opened=True, options=options, context=context, region=32, threshold=0.0).eval()
    model.detector.backbone.batch = 8
    image = scene(0, 224, 224)[0]
    changed = image.clone()
    changed[:, :32, :32] += 2.0
    with torch.inference_mode():
        far = [found["boxes"][(found["boxes"][:, :2] > 130).all(1)] for found in model([image]) + model([changed])]
        levels = [model.detector.backbone(model._with_valid(x)[None])["0"][..., 8:, 8:] for x in (image, changed)]
    same = far[0].shape == far[1].shape and torch.equal(*far)
    assert len(far[0]) > 10 and same == (context == "none") == torch.equal(*levels)


@pytest.mark.parametrize("head", HEADS)
def test_images_of_different_sizes_with_and_without_objects_teach_every_weight(head):
    model = boxes(head, opened=True).train()
    (image, target), (small, _) = scene(0), scene(1, 50, 70)
    losses = model([image, small], [target, nothing()])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.detector.backbone.context.enter.weight.grad.any()
    assert all(loss.isfinite() for loss in model([small, small], [nothing(), nothing()]).values())


@pytest.mark.parametrize("head", HEADS)
def test_crowds_are_not_learnt_from(head):
    model, (image, target) = boxes(head).train(), scene(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    crowd = {**target, "iscrowd": torch.tensor([False, True])}
    one = {key: value[:1] for key, value in target.items()}
    losses = []
    for t in (crowd, one, target):
        torch.manual_seed(1)
        losses.append(torch.stack(list(model([image], [t]).values())))
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_what_is_not_finite_is_invalid_whatever_it_is():
    model, image = boxes(opened=True).eval(), scene(0)[0]
    answers = []

    def levels():
        return model.detector.backbone(model.detector.transform([model._with_valid(image)])[0].tensors)

    with torch.inference_mode():
        for value in (float("nan"), float("inf"), -float("inf")):
            image[1, :40, :50] = value
            answers.append(levels())
        image[:, :40, :50] = torch.tensor(SPEC.mean).view(3, 1, 1)
        seen = levels()
    for name, level in answers[0].items():
        assert level.isfinite().all() and all(torch.equal(level, other[name]) for other in answers)
    assert not torch.equal(answers[0]["0"], seen["0"])


def test_anchors_stand_around_the_centres_of_cells_in_float32():
    anchors = _Anchors([8, 16], size=4, ratios=(1.0,))
    levels = [torch.zeros(2, 4, 3, 5, dtype=torch.bfloat16), torch.zeros(2, 4, 2, 3, dtype=torch.bfloat16)]
    found = anchors(ImageList(torch.zeros(2, 3, 21, 35), [(21, 35)] * 2), levels)
    centres = [(s * (x + 0.5), s * (y + 0.5)) for s, h, w in ((8, 3, 5), (16, 2, 3)) for y in range(h) for x in range(w)]
    sides = [[32.0, 32.0]] * 15 + [[64.0, 64.0]] * 6
    for a in found:
        assert a.dtype == torch.float32 and torch.equal((a[:, :2] + a[:, 2:]) / 2, torch.tensor(centres))
        assert torch.equal(a[:, 2:] - a[:, :2], torch.tensor(sides))


def test_boxes_share_the_encoders_of_another_network_and_leave_it_as_it_was():
    net = build(dataclasses.replace(SPEC, task="segment")).eval()
    names = list(net.state_dict())
    model = build_boxes(net.regions, net.context, SPEC)
    backbone = model.detector.backbone
    assert backbone.regions is net.regions and backbone.context.encoder is net.context.encoder
    gates = zip(backbone.context.gates, net.context.gates[backbone.first :], strict=True)
    assert backbone.first > 0 and all(a is b for a, b in gates)
    assert list(net.state_dict()) == names
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 96, 96), torch.ones(1, 96, 96, dtype=torch.bool)).shape == (1, 2, 64, 64)


def test_what_cannot_be_built_is_refused_with_what_can():
    for changes, message in (
        ({"head_options": {"head": "yolo"}}, "choose one of fcos, faster_rcnn"),
        ({"head_options": {"anchors": 3}}, "no option anchors; they have head, finest, coarsest, most"),
        ({"head_dim": 96}, "a multiple of 64"),
        ({"head_options": {"finest": 32}}, "one of .2, 4, 8, 16. to a power of two from 16 on, not from 32"),
        ({"head_options": {"coarsest": 8}}, "not from 8 to 8"),
        ({"head_options": {"coarsest": 48}}, "not from 8 to 48"),
    ):
        with pytest.raises(ModelError, match=message):
            build(dataclasses.replace(SPEC, **changes))


@pytest.mark.parametrize("head", HEADS)
def test_a_trained_model_is_saved_and_finds_the_same_boxes_again(head, tmp_path):
    """`fit` keeps it as it keeps any other; the file says what it is."""
    spec = dataclasses.replace(SPEC, backbone="convnext_atto", head_options={"head": head, "most": 50})
    scenes = [scene(seed) for seed in range(2)]
    batch = tuple(map(list, zip(*scenes, strict=True)))
    torch.manual_seed(0)
    losses = []
    options = {"lr": 1e-3, "average": 0.5, "every": 2, "learn": from_boxes(bf16=False)}
    trained = fit(
        Model(build(spec), spec), iter([batch] * 4), steps=4, report=lambda step, loss, model: losses.append(loss), **options
    )
    assert losses[-1] < losses[0]
    again = load_model(save_model(trained, tmp_path / "boxes.safetensors"))
    assert again.spec == spec and not again.training
    with torch.inference_mode():
        for a, b in zip(trained.net(batch[0]), again.net(batch[0]), strict=True):
            assert len(a["boxes"]) > 0 and all(torch.equal(a[key], b[key]) for key in a)
    with pytest.raises(ValueError, match=r"ask model.net\(images\)"):
        again(torch.zeros(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool))


def test_images_and_targets_that_cannot_be_are_refused():
    model, (image, target) = boxes().train(), scene(0)
    for images, targets, message in (
        ([image], None, "wants its target"),
        ([image, image], [target], "wants its target"),
        ([image[:2]], [target], r"takes images \(3, h, w\), this one is \(2, 64, 96\)"),
        ([image[0]], [target], r"this one is \(64, 96\)"),
        ([image], [{**target, "boxes": target["boxes"][:, [2, 3, 0, 1]]}], "x0 < x1"),
        ([image], [{**target, "boxes": target["boxes"][:1]}], "a label each"),
        ([image], [{**target, "labels": target["labels"] - 1}], r"labels are 1\.\.2"),
        ([image], [{**target, "labels": target["labels"] + 1}], r"found \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model(images, targets)
