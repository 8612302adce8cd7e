"""Whether a model's context makes a difference: a scene with and without it. See notebooks/06_what_context_does.ipynb.

    python examples/context.py SCENE [--model points-sar]

Prints how many objects are found with context and with its gates shut, and how many of them both find within 200 m.
"""

import argparse
import copy

import torch

import xtgeo
from xtgeo.evaluate import match_points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene")
    parser.add_argument("--model", default="points-sar")
    args = parser.parse_args()
    scene, model = xtgeo.open_scene(args.scene), xtgeo.load_model(args.model)
    if not model.has_context:
        parser.error(f"{args.model} has no context to shut")
    shut = copy.deepcopy(model)
    for gate in shut.net.context.gates:  # what context says enters through these projections
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.zeros_(gate.bias)
    places = []
    for some in (model, shut):
        found = xtgeo.detect(scene, some, dtype="fp32").detections
        places.append(torch.tensor([found["detect_scene_row"], found["detect_scene_column"]]).T.numpy())
    match = match_points(*places, within=20)
    print(f"{match.found} objects with context, {match.true} without; {len(match.pairs)} are the same")


if __name__ == "__main__":
    main()
