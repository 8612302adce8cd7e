"""Many scenes on a Dask cluster, from Python: workers on this machine, or those of a scheduler.

    python examples/batch_cluster.py "scenes/*.tif" results [tcp://host:8786] [--model points-sar]
"""

import argparse

import xtgeo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes")
    parser.add_argument("out_dir")
    parser.add_argument("scheduler", nargs="?")
    parser.add_argument("--model", default="points-sar")
    args = parser.parse_args()
    with xtgeo.connect(args.scheduler) as client:
        print(f"watch it at {client.dashboard_link}")
        standing = xtgeo.batch(args.scenes, args.model, args.out_dir, client=client)
    print(standing)


if __name__ == "__main__":  # workers are processes: they import this script
    main()
