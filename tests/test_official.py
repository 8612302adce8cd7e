import dataclasses
import functools
import io
import json
import os
import pickle
import shutil
import sys
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xtgeo.errors import ModelError, OutputError
from xtgeo.model.official import (
    ENCODERS,
    AttentionLayer,
    ContextHead,
    Kind,
    MambaLayer,
    OfficialXT,
    load_official,
    positions,
    recognise,
    save_official,
)

TINY, BASE, LARGE = "swinv2_tiny_window16_256", "swinv2_base_window16_256", "swinv2_large_window12to16_192to256"
SMALL = "swinv2_small_window16_256"


def by_rule(name, shape):
    """The weights that golden numbers were made with: see ../shared/golden/README.md."""
    if name.endswith("A_log"):
        return torch.arange(1.0, 17.0).log().repeat(shape[0], 1)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    x = torch.from_numpy(rng.standard_normal(tuple(shape)).astype("float32"))
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + 0.05 * x
    return x / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.05 * x


def picture(*shape, seed=0):
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype("float32"))


class Undrawn(TorchFunctionMode):
    """Weights on the meta device need no random numbers; to pretend to draw them takes most of the time."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func in (Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_) else func(*args, **(kwargs or {}))


@functools.cache
def on_meta(encoder, head, layers, region=None):
    region = region or (256 if encoder.startswith("swin") else 224)
    with torch.device("meta"), Undrawn():
        return OfficialXT(Kind(encoder, head, layers, 284, region))


@pytest.fixture(scope="session")
def hyper():
    """A state dict of Swin-T with two layers of causal attention; do not change it."""
    return {key: by_rule(key, value.shape) for key, value in on_meta(TINY, "hyper", 2).state_dict().items()}


@pytest.fixture
def tmp_path(tmp_path):
    """Checkpoints are large: none is left behind."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@torch.inference_mode()
def answer(source, images, **options):
    return load_official(source, **options)(images)


@pytest.mark.parametrize("name", ["swin_t_hyper", "swin_t_mamba"])
def test_logits_and_keys_are_those_of_the_official_code(shared, name):
    path = shared / "golden" / "xt_official" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no golden numbers at {path}")
    golden = json.loads(path.read_text())
    model = load_official({key: by_rule(key, shape) for key, shape in golden["keys"].items()})
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == golden["keys"]
    rng = np.random.Generator(np.random.PCG64(0))
    for size in (256, 512, 1024):
        image = torch.from_numpy(rng.standard_normal((1, 3, size, size)).astype("float32"))
        if str(size) in golden["logits"]:
            with torch.inference_mode():
                logits = model(image)[0]
            assert logits.shape == (284,)
            assert torch.allclose(logits, torch.tensor(golden["logits"][str(size)]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("encoder", "plain", "hyper", "mamba"),
    [(TINY, 30.8, 47.3, 43.5), (SMALL, 52.2, 68.7, None), (BASE, 92.3, 106.8, 103.0), (LARGE, 206.4, 215.5, 211.7)],
)
def test_published_parameter_counts(encoder, plain, hyper, mamba):
    for head, layers, millions in (("naive", 0, plain), ("hyper", 2, hyper), ("mamba", 4, mamba)):
        count = sum(p.numel() for p in on_meta(encoder, head, layers).parameters())
        assert millions is None or round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("encoder", "head", "layers", "megabytes"),
    [
        (TINY, "hyper", 2, 189),
        (TINY, "hyper", 1, 151),
        (TINY, "mamba", 4, 174),
        (BASE, "hyper", 1, 390),
        (BASE, "mamba", 4, 412),
        ("hiera_base_224", "hyper", 2, 282),
        ("hiera_base_224", "hyper", 1, 244),
    ],
)
def test_published_files_are_as_large_as_their_models(encoder, head, layers, megabytes):
    numbers = sum(p.numel() for p in on_meta(encoder, head, layers).parameters())
    assert abs(4 * numbers / 1e6 - megabytes) < 0.7


@pytest.mark.parametrize("encoder", ENCODERS.values())
def test_every_model_is_recognised_by_its_own_keys(encoder):
    for head, layers in (("naive", 0), ("hyper", 2), ("mamba", 4)):
        model = on_meta(encoder, head, layers)
        assert recognise(model.state_dict(), region=None, window=0, name="it") == model.kind


def test_wrappings_and_what_others_saved_change_nothing(hyper, tmp_path):
    image = picture(2, 3, 64, 128)
    expected = answer(hyper, image, region=64)
    ddp = {f"module.{key}": value for key, value in hyper.items()}
    attention = "encoder.model.layers_0.blocks.1.attn"
    buffers = {f"{attention}.relative_coords_table": torch.zeros(1, 31, 31, 2), f"{attention}_mask": torch.ones(16, 256, 256)}
    buffers[f"{attention}.relative_position_index"] = torch.zeros(256, 256, dtype=torch.long)
    trained = {"epoch": 3, "state_dict": ddp, "optimizer_state_dict": {"lr": [0.1]}, "metrics": {"top1": 60.5}}
    torch.save(trained, tmp_path / "trained.ckpt")
    torch.save(ddp, tmp_path / "bare.pth")
    save_file(hyper, tmp_path / "bare.safetensors")
    for source in ({**hyper, **buffers, "epoch": 7}, *sorted(tmp_path.iterdir())):
        assert torch.equal(answer(source, image, region=64), expected)


def test_regions_are_encoded_alone_and_joined_where_they_were(hyper):
    model, image = load_official(hyper, region=64, batch=2), picture(2, 3, 128, 192)
    whole = torch.empty(2, 768, 4, 6)
    with torch.inference_mode():
        for y in range(2):
            for x in range(3):
                level = model.encoder(image[..., 64 * y : 64 * y + 64, 64 * x : 64 * x + 64])
                whole[..., 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = level
        assert torch.allclose(model(image), model.decoder(whole), atol=1e-5)


def test_no_more_regions_at_once_than_the_batch_and_rounding_only(hyper):
    image, seen, answers = picture(1, 3, 128, 192), [], []
    for batch in (1, 4, 6):
        model = load_official(hyper, region=64, batch=batch)
        model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        with torch.inference_mode():
            answers.append(model(image))
    assert seen == [1] * 6 + [4, 2] + [6]
    assert all(torch.allclose(other, answers[0], atol=1e-5) for other in answers)


def test_the_naive_head_is_the_formula():
    keys = on_meta(TINY, "naive", 0).state_dict()
    state = {key: by_rule(key, value.shape) for key, value in keys.items()}
    model, level = load_official(state), picture(2, 768, 3, 2)
    w1, b1, w2, b2, w3, b3 = (value for key, value in state.items() if key.startswith("decoder"))
    t = F.gelu(level.double().mean((2, 3)) @ w1.double().T + b1)
    t = (t - t.mean(1, keepdim=True)) / (t.var(1, keepdim=True, correction=0) + 1e-5).sqrt() * w2 + b2
    assert torch.allclose(model.decoder(level).double(), t @ w3.double().T + b3, atol=1e-4)


def test_layers_look_back_only_and_mamba_reversed_looks_ahead():
    torch.manual_seed(0)
    t = torch.randn(1, 6, 768)
    changed = t.clone()
    changed[:, 3] = torch.randn(768)
    for layer, told in ((AttentionLayer(), [3, 4, 5]), (MambaLayer(False), [3, 4, 5]), (MambaLayer(True), [0, 1, 2, 3])):
        with torch.inference_mode():
            difference = (layer(t) - layer(changed)).abs().amax(-1)[0]
        assert (difference > 1e-7).nonzero().flatten().tolist() == told


def test_what_passes_by_a_mamba_mixer_is_normalised():
    torch.manual_seed(0)
    layer, t = MambaLayer(False), 5 + 3 * torch.randn(2, 6, 768)
    torch.nn.init.zeros_(layer.mixer.out_proj.weight)
    assert torch.allclose(layer(t), F.layer_norm(t, (768,)), atol=1e-5)


def test_positions_are_those_of_mae():
    """Channel i of x: sin(x / 10000^(i / 192)), 192 further on its cosine, then the same of y."""
    found = positions(3, 5, torch.device("cpu")).view(3, 5, 768)
    y, x, i = np.ogrid[:3, :5, :192]
    rate = 10_000.0 ** (-i / 192)
    for n, part in enumerate((np.sin(x * rate), np.cos(x * rate), np.sin(y * rate), np.cos(y * rate))):
        assert np.allclose(found[..., 192 * n : 192 * n + 192], np.broadcast_to(part, (3, 5, 192)), atol=1e-6)


@pytest.mark.parametrize(("y", "x", "window"), [(16, 16, 128), (14, 14, 128), (8, 16, 128), (5, 7, 8), (3, 3, 2)])
def test_windows_are_the_loop_of_the_official_code(y, x, window):
    torch.manual_seed(0)
    head = ContextHead(16, 5, [AttentionLayer()], window).eval()
    torch.nn.init.normal_(head.cls_token)
    level = torch.randn(2, 16, y, x)
    with torch.inference_mode():
        tokens = head.input_proj(level.flatten(2).mT) + positions(y, x, level.device)
        token = head.cls_token.repeat(2, 1, 1)
        tokens, start, learnt = torch.cat([tokens, token], 1), 0, []
        while start < y * x:
            learnt.append(head.layers(torch.cat([tokens[:, start : start + window], token], 1))[:, -1])
            start += window // 2
        assert len(learnt) == -(-y * x // (window // 2)) > 1
        assert torch.allclose(head(level), head.cls(sum(learnt) / len(learnt)), atol=1e-5)


def test_a_window_over_everything_is_none_and_a_smaller_one_is_not(hyper):
    level = picture(1, 768, 8, 16)
    with torch.inference_mode():
        whole, same, xl = (load_official(hyper, window=w).decoder(level) for w in (None, 129, 128))
    assert torch.equal(whole, same) and not torch.allclose(whole, xl, atol=1e-3)


def hiera_keys(width=96, stages=(1, 2, 7, 2), side=224):
    """Names and shapes of Meta's `hiera` package, without norm and head."""
    keys, inner = {"pos_embed": ((side // 4) ** 2, width), "patch_embed.proj": (width, 3, 7, 7)}, width
    for i, stage in enumerate(stage for stage, depth in enumerate(stages) for _ in range(depth)):
        outer, name = width << stage, f"blocks.{i}"
        keys |= {f"{name}.norm1": (inner,), f"{name}.norm2": (outer,)}
        keys |= {f"{name}.attn.qkv": (3 * outer, inner), f"{name}.attn.proj": (outer, outer)}
        keys |= {f"{name}.mlp.fc1": (4 * outer, outer), f"{name}.mlp.fc2": (outer, 4 * outer)}
        if inner != outer:
            keys[f"{name}.proj"] = (outer, inner)
        inner = outer
    shapes = {"encoder.model.pos_embed": (1, *keys.pop("pos_embed"))}
    for key, shape in keys.items():
        shapes |= {f"encoder.model.{key}.weight": shape, f"encoder.model.{key}.bias": shape[:1]}
    return shapes


def test_a_hiera_of_metas_package_is_loaded_as_it_is():
    """The numbers were made with hiera-transformer 0.1.4, its last intermediate, weights by the rule of the golden files."""
    head = {key: v.shape for key, v in on_meta(TINY, "hyper", 1).state_dict().items() if key.startswith("decoder")}
    state = {key: by_rule(key, shape) for key, shape in {**hiera_keys(), **head}.items()}
    state |= {"encoder.model.norm.weight": torch.ones(768), "encoder.model.head.projection.weight": torch.ones(1000, 768)}
    model = load_official(state)
    assert (model.kind.encoder, model.kind.region, model.kind.layers) == ("hiera_tiny_224", 224, 1)
    with torch.inference_mode():
        level = model.encoder(picture(1, 3, 224, 224))
        assert model(picture(1, 3, 224, 448)).shape == (1, 284)
    corners = [-2.995235, -3.881109, -2.32295, 0.644109, 0.438891, 1.36646]
    corners += [-1.462257, -0.999006, -0.22002, 0.289021, -0.89482, -0.82255]
    found = level[0, ::192].diagonal(dim1=-2, dim2=-1)[:, ::3].flatten()
    assert level.shape == (1, 768, 7, 7) and torch.allclose(found, torch.tensor(corners), atol=1e-4)
    assert abs(float(level.double().square().mean()) - 4.013877) < 1e-4
    with pytest.raises(ModelError, match="trained on regions of 224 px, not 256"):
        load_official(state, region=256)


@pytest.mark.parametrize(
    ("encoder", "width", "stages", "side"),
    [
        ("hiera_small_224", 96, (1, 2, 11, 2), 224),
        ("hiera_base_224", 96, (2, 3, 16, 3), 224),
        ("hiera_base_plus_224", 112, (2, 3, 16, 3), 448),
    ],
)
def test_the_names_and_shapes_of_hiera_are_metas_and_its_positions_tell_the_region(encoder, width, stages, side):
    model = on_meta(encoder, "hyper", 1, region=side)
    state = {key: tuple(v.shape) for key, v in model.state_dict().items()}
    assert {key: shape for key, shape in state.items() if key.startswith("encoder")} == hiera_keys(width, stages, side)
    assert recognise(model.state_dict(), region=None, window=0, name="it") == model.kind


def without(key):
    return lambda state: state.pop(key)


def reshaped(key, *shape):
    return lambda state: state.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without("decoder.cls_token"), "holds no decoder.cls_token; download"),
        (without("encoder.model.layers_1.blocks.0.mlp.fc1.bias"), "no encoder.model.layers_1.blocks.0.mlp.fc1.bias"),
        (without("encoder.model.patch_embed.proj.weight"), "holds no encoder.model.patch_embed.proj.weight"),
        (without("decoder.cls.1.weight"), "holds no decoder.cls.1.weight"),
        (without("decoder.layers.0.attn.qkv.weight"), "its head is unknown; known are .*hyper, mamba, naive"),
        (reshaped("decoder.cls.0.bias", 5), r"decoder.cls.0.bias of shape \(5,\) instead of \(768,\)"),
        (reshaped("encoder.model.patch_embed.proj.weight", 97, 3, 4, 4), r"97 channels and blocks \(2, 2, 6, 2\)"),
        (reshaped("encoder.model.patch_embed.proj.weight"), "holds no encoder.model.patch_embed.proj.weight, or one of fewer"),
        (reshaped("encoder.upsample.weight", 96, 96, 2, 2), "an unknown encoder.upsample.weight"),
        (reshaped("decoder.layers.9.attn.qkv.bias", 5), "holds no decoder.layers.2.attn.qkv.weight, .* and [0-9]+ more; "),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(hyper, harm, message):
    state = dict(hyper)
    harm(state)
    with pytest.raises(ModelError, match=message):
        load_official(state)


def test_arguments_that_cannot_be_are_refused(hyper):
    for region in (0, 100, -32):
        with pytest.raises(ModelError, match="give a multiple of 32"):
            load_official(hyper, region=region)
    with pytest.raises(ModelError, match="windows of 1 tokens"):
        load_official(hyper, window=1)
    with pytest.raises(ModelError, match="over a mamba head: XL is a hyper head"):
        Kind(TINY, "mamba", 4, 284, 256, window=128)
    with pytest.raises(ModelError, match="holds a int instead of a state dict"):
        load_official({"state_dict": 3})


@pytest.mark.parametrize("shape", [(1, 3, 64, 100), (1, 3, 32, 64), (1, 2, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_images_that_do_not_divide_into_regions_are_refused_with_a_remedy(hyper, shape):
    with pytest.raises(ModelError, match=r"RGB regions of 64 px: resize or pad them to \(b, 3, h, w\) with .* multiples of 64"):
        load_official(hyper, region=64)(torch.zeros(shape))


class Malice:
    """Unpickled, it would leave a mark; put where a weight belongs or in place of the whole."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_malicious_pickle_is_refused_and_not_executed(hyper, tmp_path, legacy, whole):
    mark, path = tmp_path / "mark", tmp_path / "evil.ckpt"
    evil = Malice(mark) if whole else {"state_dict": {}, "metrics": Malice(mark)}
    torch.save(evil, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"evil.ckpt is refused: its pickle asks for \w+.mkdir, and xtgeo runs no code"):
        load_official(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # it would have been
    assert mark.exists()


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    whole = io.BytesIO()
    torch.save({"x": torch.zeros(9)}, whole)
    rng = np.random.default_rng(0)
    for i, data in enumerate(
        [b"", b"not at all", pickle.dumps(3, 5), whole.getvalue()[:-200], *(rng.bytes(n) for n in range(1, 60))]
    ):
        (tmp_path / f"{i}.pth").write_bytes(data)
        with pytest.raises(ModelError, match=f"{i}.pth (cannot be read as a torch checkpoint|is refused|holds a)"):
            load_official(tmp_path / f"{i}.pth")
    (tmp_path / "a.safetensors").write_bytes(b"not at all")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    for i, note in enumerate(['{"region": "wide"}', "nonsense", "3", '{"window": null}']):
        save_file({"x": torch.zeros(1)}, tmp_path / f"note{i}.safetensors", metadata={"official": note})
    for name, message in (
        ("a.safetensors", "not a readable safetensors"),
        ("b.safetensors", "not one of the published models"),
        *((f"note{i}.safetensors", "not a readable safetensors") for i in range(4)),
        ("absent.pth", "no checkpoint at"),
        (".", "no checkpoint at"),
    ):
        with pytest.raises(ModelError, match=message):
            load_official(tmp_path / name)


def test_what_is_saved_comes_back_with_its_kind_or_nothing_appears(hyper, tmp_path, monkeypatch):
    model = load_official(hyper, region=64, window=8)
    model.kind = dataclasses.replace(model.kind, source="swin-t-xl.ckpt")
    again = load_official(save_official(model, tmp_path / "m.safetensors"))
    assert again.kind == model.kind and not again.training
    with torch.inference_mode():
        assert torch.equal(again(picture(1, 3, 128, 64)), model(picture(1, 3, 128, 64)))
    assert load_official(tmp_path / "m.safetensors", region=32, window=0).kind.region == 32

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        save_official(model, tmp_path / "n.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.fixture
def xtgeo(monkeypatch, capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""
    from xtgeo.cli import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["xtgeo", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr()
        return stop.value.code or 0, out.out, out.err

    return call


def test_convert_keeps_the_function_and_replaces_nothing_unasked(xtgeo, hyper, tmp_path):
    source, out, image = tmp_path / "swin-t-hyper.ckpt", tmp_path / "m.safetensors", picture(1, 3, 64, 64)
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in hyper.items()}}, source)
    code, text, err = xtgeo("models", "convert", source, out, "--region", 64)
    assert code == 0 and not err and "hyper head, 284 classes, regions of 64 px, 47.3 M parameters" in text
    assert torch.equal(answer(out, image), answer(hyper, image, region=64))
    written = out.stat()
    code, _, err = xtgeo("models", "convert", source, out, "--region", 64, "--window", 2)
    assert code == 1 and "--overwrite" in err and out.stat() == written
    assert xtgeo("models", "convert", source, out, "--region", 64, "--window", 2, "--overwrite")[0] == 0
    assert load_official(out).kind == Kind(TINY, "hyper", 2, 284, 64, 2, source="swin-t-hyper.ckpt")
    assert sorted(tmp_path.iterdir()) == [out, source]


@pytest.mark.parametrize("name", ["absent.ckpt", "text.ckpt", "evil.ckpt", "other.ckpt", "text.safetensors"])
def test_convert_says_in_one_line_what_is_wrong_and_writes_nothing(xtgeo, tmp_path, name):
    for text in ("text.ckpt", "text.safetensors"):
        (tmp_path / text).write_text("a text\n" * 99)
    torch.save(Malice(tmp_path / "mark"), tmp_path / "evil.ckpt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    before = sorted(tmp_path.iterdir())
    code, text, err = xtgeo("models", "convert", tmp_path / name, tmp_path / "out.safetensors")
    assert code == 1 and not text and err.startswith("error: ") and err.count("\n") == 1 and name in err, err
    assert sorted(tmp_path.iterdir()) == before
