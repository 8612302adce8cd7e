"""What is computed on a GPU is what is computed on the CPU: networks, engine, whole scenes, context, training."""

import copy
import math
import warnings
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import shapely
import test_exact
import torch
import torch.nn.functional as F
from test_train import SPEC as LEARNING
from test_train import sample
from torch import nn

import xtgeo
from xtgeo.engine import Engine, choose_engine, cores, prepare, run
from xtgeo.model import Model, build, load_model, save_model
from xtgeo.model.cfar import build_cfar
from xtgeo.model.context import context_encoder
from xtgeo.model.precision import bf16_pays
from xtgeo.simulate import sentinel1, write_scene
from xtgeo.train import Area, Augment, answer, centre_loss, crops, fit, focal_dice, from_areas, from_boxes, from_crops
from xtgeo.train.exact import classifier_step, classify_whole, dense_step, tiles_of
from xtgeo.train.losses import cross_entropy, dice
from xtgeo.window import Nest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: there is nothing to compare with the CPU"),
]
CUDA = "cuda"
NETWORKS = ("vessels-sar", "points-sar", "vessels-s2")
FP32, BF16 = Engine(CUDA, "fp32", True, 1, 1, 16, False), Engine(CUDA, "bf16", True, 1, 1, 16, False)


@pytest.fixture(autouse=True)
def full_precision():
    """No TF32, which cuDNN multiplies fp32 in unless it is told not to: it rounds factors to 11 bits."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to rename the switches
        before = [switch.allow_tf32 for switch in switches]
        for switch in switches:
            switch.allow_tf32 = False
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def error(found, expected):
    """Length of the difference over that of what is expected, of tensors on any devices taken together."""
    pairs = [(a.detach().double().cpu(), b.detach().double().cpu()) for a, b in zip(found, expected, strict=True)]
    off, whole = (math.sqrt(sum(float((t**2).sum()) for t in side)) for side in ([a - b for a, b in pairs], [b for _, b in pairs]))
    return off / whole


def piece(spec):
    """Data (1, c, y, x) in the units of a model, with objects in them, and valid (1, y, x)."""
    h, w = 300 + 2 * spec.margin, 260 + 2 * spec.margin
    if spec.bands == ("vv", "vh"):
        data = torch.from_numpy(sentinel1((h, w), seed=4, density=60, wind=4, land=False, nodata=False).data)[None].clone()
    else:
        data = torch.randn(1, len(spec.bands), h, w, generator=torch.Generator().manual_seed(0))
        data[..., 60:70, 60:78] += 4
        data = data * torch.tensor(spec.std).view(-1, 1, 1) + torch.tensor(spec.mean).view(-1, 1, 1)
    valid = torch.ones(1, h, w, dtype=torch.bool)
    valid[:, 200:, :70] = False
    return data, valid


def off(model, found, expected):
    """How far probabilities differ: the most, and the mean. Of lengths, their logarithms."""
    if model.spec.task == "detect":
        found, expected = (torch.cat([p[:, :-1], p[:, -1:].log()], 1) for p in (found.cpu(), expected))
    gap = (found.cpu() - expected).abs()
    return float(gap.max()), float(gap.mean())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bundled_network_says_on_cuda_what_it_says_on_the_cpu(name, record_property):
    """fp32 rounds to 2**-24, some dozen layers deep: 1e-3 leaves room for a hundred times what that makes of a probability."""
    model = load_model(name)
    data, valid = piece(model.spec)
    with torch.inference_mode():
        expected, logits = model(data, valid), model.logits(data, valid)
        moved = copy.deepcopy(model).to(CUDA)
        plain = off(model, moved(data.to(CUDA), valid.to(CUDA)), expected)
        assert error([moved.logits(data.to(CUDA), valid.to(CUDA))], [logits]) < 1e-3
    folded, short = (off(model, run(prepare(model, engine), data, valid), expected) for engine in (FP32, BF16))
    record_property("differences", {"plain": plain, "folded": folded, "bf16": short})
    assert plain[0] < 1e-3 and folded[0] < 1e-3
    assert short[0] < 0.25 and short[1] < 0.01
    assert next(model.net.parameters()).device.type == "cpu"


def test_cfar_says_on_cuda_what_it_says_on_the_cpu():
    model = build_cfar()
    data = torch.from_numpy(sentinel1((500, 420), seed=4, density=40, wind=4, land=False, nodata=False).data)[None]
    data = torch.cat([data, torch.full_like(data, -100)], 1)
    valid = torch.ones(1, *data.shape[-2:], dtype=torch.bool)
    with torch.inference_mode():
        expected = model(data, valid)
    gap = (run(prepare(model, replace(FP32, channels_last=False)), data, valid) - expected).abs()
    assert (expected > 0.5).any()
    assert (gap > 1e-4).float().mean() < 1e-3  # a pixel at the edge of being left out of rings changes those around it


def test_auto_chooses_cuda_and_the_number_format_it_has():
    model = load_model("vessels-sar")
    fast = "bf16" if bf16_pays(CUDA) else "fp32"
    assert choose_engine(model, *piece(model.spec)) == Engine(CUDA, fast, True, 1, cores(), 16, False)
    assert choose_engine(model, *piece(model.spec), dtype="fp32").dtype == "fp32"
    assert choose_engine(model, *piece(model.spec), device="cpu", dtype="fp32").device == "cpu"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("cuda") / "scene.tif"
    write_scene(sentinel1((1536, 1536), seed=4, density=20, wind=4, land=False), path)
    return xtgeo.open_scene(path)


@pytest.mark.parametrize("context", ["tile", "scene"])
def test_the_same_outlines_come_out_of_a_whole_scene(scene, context, monkeypatch):
    if context == "scene":
        monkeypatch.setattr("xtgeo.tokens.IN_MEMORY", 0)  # tokens in a file that is mapped
    results = {
        device: xtgeo.segment(scene, load_model("vessels-sar"), device=device, dtype="fp32", context=context)
        for device in ("cpu", CUDA)
    }
    assert results[CUDA].summary.engine["device"] == CUDA and results["cpu"].summary.engine["device"] == "cpu"
    cpu, gpu = (shapely.union_all(results[device].detections.geometry) for device in ("cpu", CUDA))
    assert results[CUDA].summary.objects == results["cpu"].summary.objects > 10
    assert shapely.intersection(cpu, gpu).area / shapely.union(cpu, gpu).area > 0.99


@pytest.mark.parametrize("context", ["tile", "scene"])
def test_the_same_points_come_out_of_a_whole_scene(scene, context):
    cpu, gpu = (
        xtgeo.detect(scene, load_model("points-sar"), device=device, dtype="fp32", context=context).detections
        for device in ("cpu", CUDA)
    )
    assert len(cpu) == len(gpu) > 10
    there, here = (shapely.get_coordinates(found.geometry) for found in (cpu, gpu))
    nearest = np.linalg.norm(there[:, None] - here[None], axis=-1).min(1)
    assert nearest.max() < 1
    short = xtgeo.detect(scene, load_model("points-sar"), device=CUDA, context=context).detections
    assert len(short) == pytest.approx(len(cpu), rel=0.1, abs=2)


ENCODERS = [
    ("attention", {}),
    ("attention", {"group": 4}),
    ("hyper", {}),
    ("hyper", {"min_seq_len": 32, "block": 16, "samples": 16, "bits": 3}),
    ("longformer", {"radius": 3}),
    ("mamba", {}),
    ("mamba", {"form": "s6"}),
    ("transformer_xl", {"segment": 4}),
    ("transformer_xl", {"segment": 4, "order": "two_pass", "positions": "sinusoid", "detach": False}),
]


@pytest.mark.parametrize(("name", "options"), ENCODERS, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o in ENCODERS])
def test_context_encoders_and_their_gradients_are_the_same_on_cuda(name, options):
    torch.manual_seed(0)
    encoder = context_encoder(name, 64, 2, spacing=640.0, options=options, class_token=True)
    tokens, mask = torch.randn(1, 64, 12, 10), torch.rand(1, 12, 10) > 0.2
    weights = torch.randn(1, 64, 12, 10)
    told = {}
    for device in ("cpu", CUDA):
        there = copy.deepcopy(encoder).to(device)
        t = tokens.clone().to(device).requires_grad_()
        y, label = there(t, mask.to(device)), there.classify(t, mask.to(device))
        ((y * weights.to(device)).sum() + label.sum()).backward()
        grads = [t.grad, *(p.grad for p in there.parameters() if p.grad is not None)]
        told[device] = [y], [label], grads
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            short = there(t, mask.to(device))
            assert torch.isfinite(short).all() and error([short], [y]) < 0.2
    for found, expected in zip(told[CUDA], told["cpu"], strict=True):
        assert error(found, expected) < 1e-3


def dense_network():
    """A small network with stochastic depth and dropout, but none in its head, whose numbers depend on nothing else then."""
    net = test_exact.network()
    for part in net.head.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    return net


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_exact_steps_on_cuda_give_the_gradients_of_plain_autograd(dtype, tolerance, monkeypatch):
    """Stochastic depth included: the GPU's random numbers are drawn again as they were."""
    monkeypatch.setattr("xtgeo.tokens.IN_MEMORY", 0)
    spec, net, (x, valid) = test_exact.SPEC, dense_network().to(CUDA, dtype), test_exact.image()
    nest = Nest(x.shape[-2:], spec.region, 1, spec.margin)
    read = tiles_of(x.to(CUDA, dtype), valid.to(CUDA), nest.margin)

    def loss(logits, tile):
        return F.softplus(logits).sum() + logits[..., ::2].sum()

    levels, tokens, mask = test_exact.whole_graph(net, nest, read, seed=5)
    told = F.pad(net.context.encoder(tokens, mask), (1, 1, 1, 1), mode="replicate")
    total = 0.0
    for tile in nest:
        y, x0 = tile.core.y // spec.context_stride, tile.core.x // spec.context_stride
        h, w = (-(-n // spec.context_stride) for n in tile.core.shape)
        part = told[..., y : y + h + 2, x0 : x0 + w + 2]
        total = total + loss(net.answer(net.context.spread(levels[tile.index][0], part, rim=1), read(tile)[0].shape), tile)
    total.backward()
    expected = test_exact.gradients(net)
    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state()
    value = dense_step(net, nest, read, loss, seed=5)
    found = test_exact.gradients(net)
    assert value == pytest.approx(total.item(), rel=tolerance) and set(found) == set(expected) and len(found) > 20
    assert error(found.values(), [expected[name] for name in found]) < tolerance
    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.parametrize("context", ["attention", "none"])
def test_areas_teach_on_cuda_what_they_teach_on_the_cpu(context):
    spec = replace(test_exact.SPEC, context=context)
    torch.manual_seed(0)
    model = Model(build(spec), spec).eval()
    for gate in getattr(model.net.context, "gates", ()):
        gate.reset_parameters()
    x, valid = test_exact.image()
    area = Area.of(x.float(), valid, (torch.rand(1, *x.shape[-2:]) > 0.8).byte(), margin=spec.margin)
    told = {}
    for device in ("cpu", CUDA):
        there = copy.deepcopy(model).to(device)
        value = from_areas(focal_dice)(there, area)
        told[device] = value, [p.grad for p in there.parameters() if p.grad is not None]
    assert told[CUDA][0] == pytest.approx(told["cpu"][0], rel=1e-4)
    assert error(told[CUDA][1], told["cpu"][1]) < 1e-3


def test_classifier_steps_on_cuda_are_those_of_the_cpu():
    spec = replace(test_exact.SPEC, task="classify", classes=("a", "b", "c"), activation="softmax")
    net, (x, valid) = test_exact.network(spec).eval(), test_exact.image()
    nest, told = Nest(x.shape[-2:], spec.region, 1, spec.margin), {}
    for device in ("cpu", CUDA):
        there = copy.deepcopy(net).to(device)
        read, label = tiles_of(x.to(device), valid.to(device), nest.margin), torch.tensor([1], device=device)
        classifier_step(there, nest, read, lambda logits, label=label: F.cross_entropy(logits, label))
        told[device] = [classify_whole(there, nest, read)], [p.grad for p in there.parameters() if p.grad is not None]
    assert all(error(a, b) < 1e-5 for a, b in zip(told[CUDA], told["cpu"], strict=True))


def test_losses_and_their_gradients_are_the_same_on_cuda():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 60, 72, generator=g) > 0.9).byte()
    target[:, :9] = 255
    planes = torch.zeros(2, 4, 60, 72, dtype=torch.uint8)
    for b, y, x in ((0, 9, 30), (0, 40, 41), (1, 59, 71)):
        planes[b, :, y, x] = torch.tensor([1, 1, 255, 40], dtype=torch.uint8)
    planes[1, 0, :20, :20] = 255
    cases = [
        (lambda y, t: focal_dice(y, t, typical=80.0), (2, 1, 60, 72), target),
        (dice, (2, 1, 60, 72), target),
        (cross_entropy, (2, 2, 60, 72), target),
        (centre_loss, (2, 6, 30, 36), planes),
        (centre_loss, (2, 6, 15, 18), torch.zeros_like(planes)),
    ]
    for loss, shape, truth in cases:
        logits, told = torch.randn(shape, generator=g), {}
        for device in ("cpu", CUDA):
            y = logits.clone().to(device).requires_grad_()
            value = loss(y, truth.to(device))
            value.backward()
            told[device] = [value], [y.grad]
        assert all(error(a, b) < 1e-4 for a, b in zip(told[CUDA], told["cpu"], strict=True))


def test_a_crop_teaches_on_cuda_what_it_teaches_on_the_cpu():
    torch.manual_seed(0)
    model = Model(build(LEARNING), LEARNING).eval()
    batch = next(crops([sample(seed=1)], 64 + 32, 2, np.random.default_rng(0), augment=Augment()))
    told = {}
    for device in ("cpu", CUDA):
        there = copy.deepcopy(model).to(device, memory_format=torch.channels_last)
        value = from_crops(bf16=False)(there, batch)
        told[device] = [torch.tensor(value)], [p.grad for p in there.parameters() if p.grad is not None]
    assert all(error(a, b) < 1e-3 for a, b in zip(told[CUDA], told["cpu"], strict=True))


@pytest.mark.parametrize("how", ["crops", "areas"])
def test_a_model_learns_on_cuda_and_its_file_answers_on_the_cpu(how, tmp_path):
    torch.manual_seed(0)
    spec = LEARNING if how == "crops" else replace(LEARNING, backbone="convnext_atto", region=32)
    if how == "crops":
        stream = crops([sample(seed=i) for i in range(4)], 64 + 32, 4, np.random.default_rng(0), augment=Augment(mirror=True))
        learn = None
    else:
        parts = [sample((60, 64), i) for i in range(4)]
        tensors = [[torch.from_numpy(a)[None] for a in (p.data, p.valid, p.target)] for p in parts]
        stream, learn = cycle([Area.of(*t, margin=spec.margin) for t in tensors]), from_areas(focal_dice)
    losses, devices = [], []

    def report(step, loss, model):
        losses.append(loss)
        devices.append(model.mean.device.type)

    trained = fit(
        Model(build(spec), spec), stream, steps=40, lr=4e-3, average=0.8, device=CUDA, learn=learn, report=report, every=10
    )
    assert set(devices) == {CUDA} and losses[-1] < 0.9 * losses[0]
    loaded, test = load_model(save_model(trained, tmp_path / "m.safetensors")), sample(seed=9)
    data, valid = torch.from_numpy(test.data), torch.from_numpy(test.valid)
    p = answer(loaded, data, valid)[0]
    target = torch.from_numpy(test.target)
    assert p[target == 1].mean() > p[target == 0].mean() + 0.2
    for there in (CUDA, "cpu"):  # where the data lie does not matter
        q = answer(copy.deepcopy(loaded).to(CUDA), data.to(there), valid.to(there))[0]
        assert q.device.type == "cpu" and (q - p).abs().max() < 1e-3
    assert (answer(loaded, data.to(CUDA), valid.to(CUDA))[0] - p).abs().max() < 1e-5


@pytest.mark.parametrize("head", ["fcos", "faster_rcnn"])
def test_boxes_learn_and_answer_on_cuda(head):
    test_boxes = pytest.importorskip("test_boxes")
    net = test_boxes.boxes(head, opened=True).eval()
    model, batch = Model(net, net.spec), tuple(map(list, zip(*(test_boxes.scene(i) for i in range(2)), strict=True)))
    there = copy.deepcopy(model).to(CUDA)
    with torch.inference_mode():
        found = there.net([image.to(CUDA) for image in batch[0]])
    assert all(f["boxes"].device.type == CUDA and torch.isfinite(f["boxes"]).all() for f in found)
    value = from_boxes(bf16=False)(there.train(), batch)
    short = from_boxes()(there, batch)  # in bf16
    assert math.isfinite(value) and short == pytest.approx(value, rel=0.2)
    assert all(torch.isfinite(p.grad).all() for p in there.parameters() if p.grad is not None)
    if head == "fcos":  # the other one draws boxes to learn from at random
        assert value == pytest.approx(from_boxes(bf16=False)(model.train(), batch), rel=1e-3)
