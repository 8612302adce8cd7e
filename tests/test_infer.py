import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import nn

from xtgeo.engine import Engine, choose_engine, forward_bytes, pick_device, prepare, run
from xtgeo.errors import ModelError, PlanError, SceneError
from xtgeo.infer import Plan, classify, plan, predict
from xtgeo.model import Model, Spec, build
from xtgeo.scene import Block, Scene
from xtgeo.simulate import sentinel1, write_scene
from xtgeo.window import Nest, Window

SPEC = Spec(
    name="test",
    bands=("vv", "vh"),
    optional=("vv", "vh"),
    units="db",
    mean=(-15.0, -25.0),
    std=(6.0, 5.0),
    gsd=10.0,
    region=64,
    span=2,
    margin=16,
    backbone="mobilenetv4_conv_small",
    context="attention",
    context_dim=32,
)
CALM = Engine(threads=1, keep_memory=False)


class Memory:
    """A source over an array that remembers what was read, and by which threads."""

    block_shape, row_bytes = (1, 1), 8

    def __init__(self, data, valid):
        self.pixels, self.valid, self.reads, self.threads = data, valid, [], set()

    shape = property(lambda self: self.valid.shape)
    count = property(lambda self: len(self.pixels))

    def read(self, window, indexes):
        assert window & Window(0, 0, *self.shape) == window, "a window beyond the scene was asked for"
        self.reads.append(window)
        self.threads.add(threading.get_ident())
        picked = self.pixels[[i - 1 for i in indexes]]
        return picked[(slice(None), *window.slices)].copy(), self.valid[window.slices].copy()

    def maybe_valid(self, window, indexes):
        return bool(self.valid[window.slices].any())

    def coarser(self, side):
        return None

    def with_cache(self, limit):
        return self

    files = ()

    def fingerprint(self):
        return {"memory": 1}


def scene(h=150, w=331, bands=("vv", "vh"), seed=0, units="db", valid=None):
    rng = np.random.default_rng(seed)
    data = rng.normal(-20, 5, (len(bands), h, w)).astype(np.float32)
    valid = np.ones((h, w), bool) if valid is None else valid
    data[:, ~valid] = 0
    grid = GeoBox((h, w), Affine(10, 0, 500000, 0, -10, 4000000), "EPSG:32631")
    return Scene(Memory(data, valid), grid, bands, tuple(range(1, len(bands) + 1)), units, units, "memory", "memory")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Model(build(SPEC), SPEC).eval()
    for gate in model.net.context.gates:
        gate.reset_parameters()
    return model


def gather(blocks, shape, classes=1):
    out, seen = np.zeros((classes, *shape), np.float32), np.zeros(shape, int)
    for block in blocks:
        out[(slice(None), *block.window.slices)] = block.data
        seen[block.window.slices] += 1
    assert (seen == 1).all()
    return out


def test_every_pixel_is_answered_once_and_as_if_the_tile_were_alone(model):
    s = scene()
    nest = Nest(s.shape, 64, 2, 16)
    whole = gather(predict(s, model, plan=Plan(nest, CALM, 0, 0)), s.shape)
    tile = nest[1]
    block = s.read(tile.full)
    with torch.inference_mode():
        alone = model(torch.from_numpy(block.data)[None], torch.from_numpy(block.valid)[None])[0].numpy()
    assert np.allclose(whole[(slice(None), *tile.core.slices)], alone, atol=1e-4)


@pytest.mark.parametrize("workers", [2, 3])
def test_results_depend_neither_on_workers_nor_on_threads(model, workers):
    s = scene()
    one = gather(predict(s, model, plan=Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0)), s.shape)
    many = replace(CALM, workers=workers, threads=2)
    assert np.array_equal(one, gather(predict(s, model, plan=Plan(Nest(s.shape, 64, 1, 16), many, 0, 0)), s.shape))


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64), (65, 1), (200, 129)])
def test_scenes_smaller_than_a_region_or_odd_work(model, shape):
    s = scene(*shape)
    assert np.isfinite(gather(predict(s, model, plan=Plan(Nest(s.shape, 64, 2, 16), CALM, 0, 0)), s.shape)).all()


def whole_context(s, model, span, **options):
    return gather(predict(s, model, plan=Plan(Nest(s.shape, 64, span, 16), CALM, 0, 0, "scene"), **options), s.shape)


def test_context_of_the_scene_is_context_of_the_tile_where_one_tile_is_the_scene(model):
    s = scene(150, 331)
    one = gather(predict(s, model, plan=Plan(Nest(s.shape, 64, 6, 16), CALM, 0, 0)), s.shape)
    assert np.allclose(one, whole_context(s, model, 6), atol=1e-5)


def test_context_of_the_scene_reaches_every_tile_and_that_of_the_tile_does_not(model):
    s = scene(150, 331)
    data = s.source.pixels.copy()
    data[:, :60, :60] += 20
    other = replace(s, source=Memory(data, s.source.valid))
    far = np.s_[:, 100:, 300:]
    how = Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0)
    assert np.array_equal(*(gather(predict(x, model, plan=how), s.shape)[far] for x in (s, other)))
    assert np.abs(whole_context(s, model, 1)[far] - whole_context(other, model, 1)[far]).max() > 1e-5


def test_with_context_of_the_scene_tiles_differ_at_their_seams_only(model):
    """What the tokens learn is the same however the scene is cut; the head sees as far as a tile."""
    s = scene(150, 331)
    fine, coarse = (whole_context(s, model, span) for span in (1, 6))
    assert np.allclose(fine[:, :32, :32], coarse[:, :32, :32], atol=1e-5)
    assert not np.allclose(fine[:, :64, :64], coarse[:, :64, :64], atol=1e-5)


def test_the_first_look_sees_every_tile_once_even_where_few_are_answered(model):
    s, looked = scene(), []
    how = Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0, "scene")
    some = list(predict(s, model, plan=how, tiles={1, 4}, looked=looked.append))
    every = whole_context(s, model, 1)
    assert looked == list(range(1, len(how.nest) + 1))
    assert all(np.array_equal(b.data, every[(slice(None), *b.window.slices)]) for b in some)


def test_context_of_the_scene_is_refused_where_there_is_none():
    plain = replace(SPEC, context="none")
    with pytest.raises(ModelError, match="no context encoder"):
        plan(scene(), Model(build(plain), plain), engine=CALM, context="scene")
    odd = replace(SPEC, region=80)
    with pytest.raises(ModelError, match="no multiple"):
        plan(scene(), Model(build(odd), odd), engine=CALM, context="scene")
    with pytest.raises(ModelError, match="tile or scene"):
        plan(scene(), Model(build(SPEC), SPEC), engine=CALM, context="world")


def classifier(**changes):
    torch.manual_seed(1)
    spec = replace(SPEC, task="classify", classes=("sea", "port", "coast"), activation="softmax", context_stride=32, **changes)
    return Model(build(spec), spec).eval()


@pytest.mark.parametrize("context", ["attention", "mamba", "none"])
def test_the_class_of_a_scene_is_that_of_one_pass_over_all_of_it(context):
    model, valid = classifier(context=context), np.ones((150, 331), bool)
    valid[:70, 40:120] = False
    source, m, seen = scene(valid=valid), SPEC.margin, []
    said = classify(source, model, dtype="fp32", looked=lambda n, total: seen.append((n, total)))
    block = source.read(Window(-m, -m, 150 + 2 * m, 331 + 2 * m))
    with torch.inference_mode():
        (whole,) = model(torch.from_numpy(block.data)[None], torch.from_numpy(block.valid)[None])
    assert [said[name] for name in model.spec.classes] == pytest.approx(whole.tolist(), abs=1e-5)
    assert list(said.values()) == sorted(said.values(), reverse=True) and sum(said.values()) == pytest.approx(1)
    assert seen[-1][0] == seen[-1][1] >= 6


def test_a_model_is_asked_for_what_it_does_only(model):
    with pytest.raises(ModelError, match="one answer for a whole scene: use xtgeo.classify"):
        next(predict(scene(), classifier()))
    with pytest.raises(ModelError, match="of task segment, not classify"):
        classify(scene(), model)
    with pytest.raises(SceneError, match="holds no valid pixel"):
        classify(scene(valid=np.zeros((150, 331), bool)), classifier())


def test_tokens_of_a_large_scene_lie_in_a_file_that_leaves_no_name(model, monkeypatch, tmp_path):
    s = scene()
    in_memory = whole_context(s, model, 1)
    monkeypatch.setattr("xtgeo.tokens.IN_MEMORY", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert np.array_equal(in_memory, whole_context(s, model, 1)) and not list(tmp_path.iterdir())


def test_tiles_without_measurement_are_neither_read_nor_scored(model):
    valid = np.zeros((128, 256), bool)
    valid[:100, :90] = True
    s = scene(128, 256, valid=valid)
    blocks = list(predict(s, model, plan=Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0)))
    assert len(s.source.reads) == 4 and len(blocks) == 8
    for block in blocks:
        assert np.array_equal(block.valid, valid[block.window.slices])
        assert (block.data[:, ~block.valid] == 0).all()


def test_some_tiles_only(model):
    s = scene()
    nest = Nest(s.shape, 64, 1, 16)
    blocks = list(predict(s, model, plan=Plan(nest, CALM, 0, 0), tiles={1, 4}))
    assert [nest.at(b.window) for b in blocks] == [1, 4]


def test_bands_are_found_by_name_in_any_order_and_a_missing_one_is_its_mean(model):
    s = scene()
    how = Plan(Nest(s.shape, 64, 2, 16), CALM, 0, 0)
    expected = gather(predict(s, model, plan=how), s.shape)
    turned = replace(s, bands=("VH", "VV"), indexes=(2, 1))
    assert np.array_equal(expected, gather(predict(turned, model, plan=how), s.shape))
    without = gather(predict(s.select("vv"), model, plan=how), s.shape)
    data = s.source.pixels.copy()
    data[1] = SPEC.mean[1]
    filled = replace(s, source=Memory(data, s.source.valid))
    assert np.array_equal(without, gather(predict(filled, model, plan=how), s.shape))


def test_linear_power_is_turned_into_db_and_unknown_numbers_are_refused(model):
    s = scene()
    power = replace(s, source=Memory(10 ** (s.source.pixels / 10) - 1e-5, s.source.valid), stored_units="linear", units="linear")
    how = Plan(Nest(s.shape, 64, 2, 16), CALM, 0, 0)
    a, b = (gather(predict(x, model, plan=how), s.shape) for x in (s, power))
    assert np.allclose(a, b, atol=2e-3)
    with pytest.raises(SceneError, match="--units"):
        next(predict(replace(s, stored_units="unknown", units="unknown"), model, plan=how))
    with pytest.raises(SceneError, match="needs the bands vv, vh"):
        next(predict(replace(s, bands=("red", "nir")), model, plan=how))


def test_a_consumer_that_stops_early_leaves_no_thread_behind(model):
    s = scene(400, 400)
    before = threading.active_count()
    stream = predict(s, model, plan=Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0))
    next(stream)
    stream.close()
    assert threading.active_count() == before and len(s.source.reads) < 20


def test_a_source_that_fails_stops_the_work_with_its_own_error(model):
    class Broken(Memory):
        def read(self, window, indexes):
            raise SceneError("the file ends here")

    s = scene()
    s = replace(s, source=Broken(s.source.pixels, s.source.valid))
    with pytest.raises(SceneError, match="ends here"):
        list(predict(s, model, plan=Plan(Nest(s.shape, 64, 1, 16), CALM, 0, 0)))


def test_memory_bounds_the_tile_and_too_little_is_refused_before_work(model):
    s = scene(600, 600)
    free = plan(s, model, engine=CALM)
    assert free.nest.span == SPEC.span
    one = plan(s, model, engine=CALM, span=1)
    assert one.bytes < free.bytes
    import psutil

    held = psutil.Process().memory_info().rss
    tight = plan(s, model, engine=CALM, max_memory=held + (one.bytes + free.bytes) // 2)
    assert tight.nest.span == 1
    with pytest.raises(PlanError, match="--max-memory"):
        plan(s, model, engine=CALM, max_memory=held)
    assert all(w.h < 200 for w in s.source.reads)


def test_the_planned_bytes_are_those_of_live_tensors():
    class Three(nn.Module):
        """Holds its input and two tensors of the same size at its peak."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            y = x + 1
            z = y * self.weight
            del y
            return z[:, :1]

    spec = replace(SPEC, backbone="", context="none", stride=1, margin=0)
    size = 100 * 80 * 2 * 4
    counted = forward_bytes(Model(Three(), spec), CALM, (100, 80))
    assert 3 * size <= counted <= 6 * size


def test_unless_told_otherwise_a_run_takes_a_gigabyte_and_more_only_for_one_region(model):
    s = scene(3000, 3000)
    wide = replace(SPEC, backbone="", context="none", stride=1, margin=0, region=1000, span=3)
    many = Model(Wide(24), wide)  # 24 channels of 9 Mpx are over the gigabyte
    assert plan(s, many, engine=CALM).nest.span < 3
    assert plan(s, many, engine=CALM, max_memory=64 << 30).nest.span == 3
    huge = Model(Wide(300), wide)
    assert plan(s, huge, engine=CALM).nest.span == 1 and plan(s, huge, engine=CALM).bytes > 1 << 30


class Wide(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, channels, 1), nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return self.b(self.a(x))


MEASURED = """
import sys, psutil
from pathlib import Path
from xtgeo import load_model, open_scene, segment
from xtgeo.infer import plan
scene, model = open_scene(sys.argv[1]), load_model("vessels-sar")
held = psutil.Process().memory_info().rss
how = plan(scene, model)  # what is chosen depends on what the machine does beside: the run is held to its own plan
segment(scene, model, out=sys.argv[2], like=how)
line = next(v for v in Path("/proc/self/status").read_text().splitlines() if v.startswith("VmHWM"))
print(int(line.split()[1]) * 1024 - held, how.bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_memory_of_a_whole_run_stays_within_its_plan(tmp_path):
    write_scene(sentinel1((1100, 2300), seed=3, density=2), tmp_path / "scene.tif")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "scene.tif"), str(tmp_path / "out.gpkg")]
    peak, planned = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert peak <= planned <= 1 << 30


def test_the_engine_is_measured_and_kept_simple_where_asked(model):
    block = scene(96, 96).read(Window(0, 0, 96, 96))
    pieces = torch.from_numpy(block.data)[None], torch.from_numpy(block.valid)[None]
    assert choose_engine(model, *pieces, device="cpu", dtype="fp32").dtype == "fp32"
    assert choose_engine(model, *pieces, device="cpu", parallel=False).workers == 1
    with pytest.raises(ModelError, match="unknown dtype"):
        choose_engine(model, *pieces, dtype="fp8")
    with pytest.raises(ModelError, match="unknown device"):
        pick_device("tpu")


def test_bf16_answers_nearly_as_fp32(model):
    block = scene(128, 128).read(Window(0, 0, 128, 128))
    pieces = torch.from_numpy(block.data)[None], torch.from_numpy(block.valid)[None]
    a, b = (run(prepare(model, replace(CALM, dtype=d)), *pieces) for d in ("fp32", "bf16"))
    assert (a - b).abs().max() < 0.05 and isinstance(a, torch.Tensor)


def test_blocks_are_what_sinks_take(model):
    s = scene(70, 70)
    block = next(predict(s, model, plan=Plan(Nest(s.shape, 64, 2, 16), CALM, 0, 0)))
    assert isinstance(block, Block) and block.data.dtype == np.float32 and block.valid.dtype == bool
