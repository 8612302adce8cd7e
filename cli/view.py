"""xtgeo view: look at a scene and at what was found in it."""

from __future__ import annotations

from typing import Annotated

import typer
from xtgeo.cli.options import (
    BandsOption,
    CloudsOption,
    NodataOption,
    NoiseOption,
    TrustedOption,
    UnitsOption,
    open_source,
)


def view(
    scene: Annotated[
        str, typer.Argument(metavar="SCENE", help="File, URL, folder, product as it came, STAC item or Zarr store.")
    ],
    vectors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VECTORS", help="Points or polygons in any CRS to draw over it; the first file is reviewed."
        ),
    ] = None,
    review: Annotated[
        str | None,
        typer.Option("--review", help="GeoPackage for the marks; default: VECTORS_review.gpkg beside the first file."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 is any that is free.")] = 0,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen at; others than this machine can then open the page, unencrypted."
        ),
    ] = "127.0.0.1",
    proxy_name: Annotated[
        list[str] | None, typer.Option("--proxy-name", help="Name of the host under which a proxy serves the page.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    trusted: TrustedOption = False,
) -> None:
    """Look at a scene and what was found on a zoomable page of this machine, filter it, and mark it true, false or unsure.

    Marks are saved as they are made, as labels for xtgeo evaluate and xtgeo train. Ctrl-C ends it.

        xtgeo view scene.tif vessels.gpkg
    """
    import getpass
    import os
    import socket
    import sys
    import webbrowser

    from xtgeo import view as task

    source = open_source([scene], bands, units, nodata, noise, clouds, trusted)
    with task(source, *(vectors or []), review=review, host=host, port=port, names=proxy_name or ()) as page:
        print(f"{page.url}", flush=True)
        away = "SSH_CONNECTION" in os.environ
        if away:
            place = f"{getpass.getuser()}@{socket.gethostname()}"
            print(
                f"from another machine: ssh -N -L {page.port}:127.0.0.1:{page.port} {place}, then open the same address there"
            )
        if page.review:
            print(f"marks go into {page.review.path}")
        print("Ctrl-C ends it", flush=True)
        if not (no_browser or away) and (sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
            webbrowser.open(page.url)
        try:
            page.wait()
        except KeyboardInterrupt:
            pass
    if page.review:
        print(f"\n{page.review.path}: {page.review}" if page.review.marks else "\nnothing was marked")
