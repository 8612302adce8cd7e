import numpy as np
import pytest
import shapely
import torch

from xtgeo.model import Model, Spec, build
from xtgeo.train import IGNORE, Augment, Sample, answer, crops, fit, focal_dice
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
        model, stream, steps=60, lr=4e-3, average=0.9, bf16=False, every=30, report=lambda step, loss, m: steps.append(loss)
    )
    test = sample(seed=9)
    p = answer(trained, torch.from_numpy(test.data), torch.from_numpy(test.valid))[0].numpy()
    assert steps[-1] < steps[0] and p.shape == test.valid.shape
    assert p[test.target == 1].mean() > p[test.target == 0].mean() + 0.3


def test_outlines_and_targets_are_inverse():
    shapes = [shapely.box(3, 4, 9, 6), shapely.box(20, 20, 24, 29)]
    target = burn(shapes, (40, 50), ignored=[shapely.box(30, 30, 33, 33)])
    assert (target == IGNORE).sum() == 9 and (target == 1).sum() == 48
    found = outlines(target == 1)
    assert {s.wkt for s in shapely.normalize(found)} == {s.wkt for s in shapely.normalize(shapes)}
    assert (burn([shapely.box(5.4, 5.4, 5.6, 5.6)], (10, 10)) == 1).sum() == 1
