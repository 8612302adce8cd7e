from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import shapely
import torch

from xtgeo.errors import TrainError
from xtgeo.model import Model, Spec, build
from xtgeo.train import (
    IGNORE,
    Area,
    Augment,
    Held,
    Sample,
    answer,
    centre_loss,
    centre_planes,
    crops,
    fit,
    focal_dice,
    from_areas,
    from_crops,
)
from xtgeo.train.raster import burn, outlines

SPEC = Spec(
    name="t", bands=("a", "b"), units="db", mean=(0.0, 0.0), std=(1.0, 1.0), gsd=10.0, region=64, span=1,
    backbone="mobilenetv4_conv_small", context="attention", context_dim=32, context_stride=32,
)  # fmt: skip


def sample(shape=(90, 110), seed=0):
    """Noise with bright squares, which are the truth."""
    rng = np.random.default_rng(seed)
    data, target, centres = rng.normal(0, 0.3, (2, *shape)).astype(np.float32), np.zeros(shape, np.uint8), []
    for _ in range(6):
        y, x = rng.integers(5, shape[0] - 15), rng.integers(5, shape[1] - 15)
        data[:, y : y + 8, x : x + 8] += 3
        target[y : y + 8, x : x + 8] = 1
        centres.append((y + 4, x + 4))
    return Sample(data, np.ones(shape, bool), target, np.array(centres))


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(turn=180, scale=1.3, mirror=True),
        Augment(reverse=True, gain=0.1, shift=0.2, noise=0.1, missing=(0.5, 0.5)),
    ],
)
def test_crops_keep_truth_on_what_is_bright_and_ignore_what_lies_outside(augment):
    stream = crops([sample()], 48, 6, np.random.default_rng(0), augment=augment)
    for _ in range(3):
        data, valid, target = next(stream)
        assert data.shape == (6, 2, 48, 48) and valid.shape == target.shape == (6, 48, 48)
        assert (target[~valid] == IGNORE).all() and (data.mean(1)[~valid] == 0).all()
        bright = data.abs().amax(1)
        assert bright[target == 1].mean() > bright[target == 0].mean() + 0.8


def test_the_same_seed_gives_the_same_crops():
    a, b = (next(crops([sample()], 40, 4, np.random.default_rng(3), augment=Augment(turn=20))) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augment", [Augment(mirror=True, gain=0.1, shift=0.2), Augment(turn=180, scale=1.3)])
@pytest.mark.parametrize("scene", ["outlines", "centres"])
def test_a_scene_held_on_a_device_gives_the_same_crops(scene, augment, device):
    """As 16-bit numbers, which half the memory holds; windows reach over the border."""
    one = sample() if scene == "outlines" else ships()
    one = replace(one, data=one.data.astype(np.float16))
    a, b = (next(crops([g], 64, 6, np.random.default_rng(5), augment=augment)) for g in (one, Held(one, device)))
    assert {t.device.type for t in b} == {device} and b[0].dtype == torch.float32
    assert torch.allclose(a[0], b[0].cpu(), atol=1e-4)
    assert (a[1] == b[1].cpu()).float().mean() > 0.999 and (a[2] == b[2].cpu()).float().mean() > 0.999


@pytest.mark.parametrize("device", DEVICES)
def test_noise_on_a_device_comes_from_the_seed_too(device):
    held = Held(sample(), device)
    a, b, c = (next(crops([held], 40, 2, np.random.default_rng(s), augment=Augment(noise=0.5)))[0] for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_ignored_pixels_change_no_loss_and_right_answers_cost_least():
    target = torch.zeros(1, 20, 20, dtype=torch.uint8)
    target[:, 5:9, 5:9], target[:, 15:] = 1, IGNORE
    logits = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[..., 15:, :] = 50
    assert torch.equal(focal_dice(logits, target), focal_dice(other, target))
    right = torch.where(target == 1, 9.0, -9.0)[:, None]
    assert focal_dice(right, target) < 0.05 < focal_dice(-right, target)


def test_small_objects_weigh_more_than_large_ones_when_asked():
    target = torch.zeros(1, 80, 80, dtype=torch.uint8)
    target[:, 4:6, 4:6], target[:, 40:60, 40:60] = 1, 1
    costs = {}
    for typical in (0.0, 80.0):
        logits = torch.full((1, 1, 80, 80), -3.0, requires_grad=True)
        focal_dice(logits, target, typical=typical).backward()
        costs[typical] = (logits.grad[0, 0, 4, 4] / logits.grad[0, 0, 50, 50]).item()
    assert costs[80.0] > 2 * costs[0.0] > 0


def test_a_model_learns_bright_squares():
    torch.manual_seed(0)
    stream = crops([sample(seed=i) for i in range(4)], 64 + 32, 4, np.random.default_rng(0), augment=Augment(mirror=True))
    model = Model(build(SPEC), SPEC)
    steps = []
    trained = fit(
        model, stream, steps=44, lr=4e-3, average=0.9, learn=from_crops(bf16=False), every=30,
        report=lambda step, loss, m: steps.append(loss)
    )
    test = sample(seed=9)
    p = answer(trained, torch.from_numpy(test.data), torch.from_numpy(test.valid))[0].numpy()
    assert steps[-1] < steps[0] and p.shape == test.valid.shape
    assert p[test.target == 1].mean() > p[test.target == 0].mean() + 0.3


def area(seed, shape=(60, 64)):
    parts = sample(shape, seed)
    tensors = (torch.from_numpy(part)[None] for part in (parts.data, parts.valid, parts.target))
    return Area.of(*tensors, margin=SPEC.margin)


def test_a_model_learns_bright_squares_from_areas_of_many_tiles():
    torch.manual_seed(0)
    spec = replace(SPEC, backbone="convnext_atto", region=32)
    areas = cycle([area(i) for i in range(4)])
    trained = fit(Model(build(spec), spec), areas, steps=20, lr=3e-3, average=0.7, learn=from_areas(focal_dice))
    test = sample(seed=9)
    p = answer(trained, torch.from_numpy(test.data), torch.from_numpy(test.valid))[0].numpy()
    assert p[test.target == 1].mean() > p[test.target == 0].mean() + 0.3


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_an_area_of_one_tile_teaches_what_a_crop_teaches(task):
    spec = replace(SPEC, backbone="convnext_atto", task=task, classes=("one", "two"), activation="softmax")
    torch.manual_seed(0)
    model = Model(build(spec), spec).train()
    for gate in getattr(model.net.context, "gates", ()):
        gate.reset_parameters()
    m = spec.margin
    data, valid = torch.randn(1, 2, 64, 60), torch.ones(1, 64, 60, dtype=torch.bool)
    target = torch.tensor([1]) if task == "classify" else torch.randint(0, 3, (1, 64, 60))
    padded = torch.nn.functional.pad(data, (m,) * 4), torch.nn.functional.pad(valid, (m,) * 4)
    around = target if task == "classify" else torch.nn.functional.pad(target, (m,) * 4)
    values, gradients = [], []
    for learn, batch in (
        (from_crops(torch.nn.functional.cross_entropy, bf16=False), (*padded, around)),
        (from_areas(torch.nn.functional.cross_entropy), Area.of(data, valid, target, margin=m)),
    ):
        model.zero_grad()
        values.append(learn(model, batch))
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert values[0] == pytest.approx(values[1], rel=1e-5) and len(gradients[0]) > 20
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max() + 1))


def test_outlines_and_targets_are_inverse():
    shapes = [shapely.box(3, 4, 9, 6), shapely.box(20, 20, 24, 29)]
    target = burn(shapes, (40, 50), ignored=[shapely.box(30, 30, 33, 33)])
    assert (target == IGNORE).sum() == 9 and (target == 1).sum() == 48
    found = outlines(target == 1)
    assert {s.wkt for s in shapely.normalize(found)} == {s.wkt for s in shapely.normalize(shapes)}
    assert (burn([shapely.box(5.4, 5.4, 5.6, 5.6)], (10, 10)) == 1).sum() == 1


def ships(seed=0, shape=(96, 128)):
    """Noise with squares of 8 pixels that are vessels, dark ones that fish, and of 4 that are none; and what is true."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0, 0.3, (2, *shape)).astype(np.float32)
    rows, columns, vessel, fishing, lengths = [], [], [], [], []
    for y in range(12, shape[0] - 12, 24):
        for x in range(12, shape[1] - 12, 24):
            is_vessel, fishes = rng.random() < 0.6, rng.random() < 0.5
            half = 4 if is_vessel else 2
            data[:, y - half : y + half, x - half : x + half] += 2 if fishes and is_vessel else 4
            for column, value in zip(
                (rows, columns, vessel, fishing, lengths),
                (y, x, is_vessel, fishes if is_vessel else None, 80.0 if is_vessel else None),
                strict=True,
            ):
                column.append(value)
    planes = centre_planes(shape, rows, columns, vessel=vessel, fishing=fishing, length_m=lengths)
    return Sample(data, np.ones(shape, bool), planes, np.stack([rows, columns], 1))


def test_planes_turn_with_the_picture():
    stream = crops([ships()], 64, 8, np.random.default_rng(1), augment=Augment(reverse=True, mirror=True))
    data, _, target = next(stream)
    assert target.shape == (8, 4, 64, 64)
    b, row, column = (target[:, 0] == 1).nonzero(as_tuple=True)
    inside = (row > 4) & (row < 60) & (column > 4) & (column < 60)
    assert inside.sum() > 20
    for i, y, x in zip(b[inside], row[inside], column[inside], strict=True):
        assert data[i, :, y - 1 : y + 2, x - 1 : x + 2].mean() > 1.2
    assert set(target[b, 3, row, column].tolist()) == {0, 40}


def perfect(target, stride=2):
    """Logits that say what is true."""
    n, _, h, w = target.shape
    logits = torch.zeros(n, 6, h // stride, w // stride)
    logits[:, 0] = -12
    b, row, column = (target[:, 0] == 1).nonzero(as_tuple=True)
    y, x = row // stride, column // stride
    where = torch.stack([(row + 0.5) / stride - y, (column + 0.5) / stride - x], 1)
    kind = target[b, 1:3, row, column]
    said = torch.cat([torch.full((len(b), 1), 12.0), torch.logit(where), torch.where(kind == 1, 12.0, -12.0)], 1)
    logits[b, :5, y, x] = said
    logits[b, 5, y, x] = (target[b, 3, row, column] * 2.0).clamp(min=1).log()
    return logits, (b, y, x)


def test_the_truth_costs_least_and_every_lie_costs_more():
    target = torch.from_numpy(ships().target)[None]
    logits, (b, y, x) = perfect(target)
    least = centre_loss(logits, target)
    assert least < 0.05
    known = target[0, 2, y * 2, x * 2] != IGNORE
    for channel, lie in ((0, -3.0), (1, 2.0), (2, -2.0), (3, 0.0), (4, 0.0), (5, 2.0)):
        other = logits.clone()
        other[b[known], channel, y[known], x[known]] = lie
        assert centre_loss(other, target) > least + 0.02, channel
    false = logits.clone()
    false[0, 0, 0, 0] = 3.0
    assert centre_loss(false, target) > least


def test_what_is_not_known_costs_nothing():
    target = torch.from_numpy(ships().target)[None]
    target[:, 0, :6] = IGNORE
    logits, (b, y, x) = perfect(target)
    other = logits.clone()
    other[:, 0, :3] = 9.0
    unknown = target[0, 2, y * 2, x * 2] == IGNORE
    assert unknown.any()
    other[b[unknown], 4, y[unknown], x[unknown]] = 7.0
    other[b[unknown], 5, y[unknown], x[unknown]] = 5.0
    assert torch.equal(centre_loss(logits, target), centre_loss(other, target))
    empty = torch.zeros_like(target)
    assert centre_loss(torch.full_like(logits, -12.0), empty) < 1e-3


def test_a_model_learns_centres_and_what_they_are():
    from xtgeo.peaks import find_peaks, merge_peaks
    from xtgeo.scene import Block
    from xtgeo.window import Window

    torch.manual_seed(0)
    spec = replace(SPEC, task="detect")
    stream = crops([ships(i) for i in range(6)], 64 + 32, 4, np.random.default_rng(0), augment=Augment(mirror=True))
    trained = fit(Model(build(spec), spec), stream, steps=84, lr=4e-3, average=0.9, learn=from_crops(centre_loss, bf16=False))
    test = ships(9)
    said = answer(trained, torch.from_numpy(test.data), torch.from_numpy(test.valid)).numpy()
    block = Block(Window(0, 0, *said.shape[1:]), said, np.ones(said.shape[1:], bool))
    found = merge_peaks([find_peaks(block, threshold=0.25, radius=4, stride=2)], radius=4)
    miss = np.abs(test.centres[:, None] + 0.5 - np.stack([found.row, found.column], 1)).max(-1)
    assert (miss.min(1) <= 2).mean() > 0.8 and (miss.min(0) <= 2).mean() > 0.8


def test_any_network_from_bands_to_classes_learns_from_crops():
    torch.manual_seed(0)
    spec = replace(SPEC, backbone="", margin=8)
    model = Model(torch.nn.Conv2d(2, 1, 5, padding=2), spec)
    stream = crops([sample(seed=i) for i in range(3)], 48 + 16, 4, np.random.default_rng(0), augment=Augment())
    trained = fit(model, stream, steps=40, lr=0.05, average=0.8, learn=from_crops(bf16=False))
    test = sample(seed=9)
    p = trained(torch.from_numpy(test.data)[None], torch.from_numpy(test.valid)[None])[0, 0].numpy()
    target = test.target[8:-8, 8:-8]
    assert p.shape == target.shape and p[target == 1].mean() > p[target == 0].mean() + 0.3


class Poison(torch.autograd.Function):
    """Zero, whose gradient is no number."""

    @staticmethod
    def forward(ctx, y):
        ctx.shape = y.shape
        return y.new_zeros(())

    @staticmethod
    def backward(ctx, g):
        return torch.full(ctx.shape, float("nan"))


@pytest.mark.parametrize("every", [3, 1])
def test_a_batch_without_usable_gradients_is_left_out_and_ten_in_a_row_end_the_training(every):
    calls = iter(range(1000))

    def loss(logits, target):
        return focal_dice(logits, target) + (Poison.apply(logits) if next(calls) % every == 0 else 0)

    stream = crops([sample()], 64 + 32, 1, np.random.default_rng(0), augment=Augment())
    options = {"steps": 4, "lr": 1e-3, "learn": from_crops(loss, bf16=False)}
    if every == 1:
        with pytest.raises(TrainError, match="ten batches in a row"):
            fit(Model(build(SPEC), SPEC), stream, **options)
    else:
        trained = fit(Model(build(SPEC), SPEC), stream, **options)
        assert all(p.isfinite().all() for p in trained.parameters()) and next(calls) == 6
