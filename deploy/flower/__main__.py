"""Flower over the mesh's own transport, never without somebody who asks who it is, and looking only unless told otherwise."""

from __future__ import annotations

from streammesh import logs
from streammesh.settings import MeshSettings, load_settings
from streammesh.worker.app import make_app

from .settings import FlowerSettings


def main() -> None:
    own = load_settings(FlowerSettings)
    settings = load_settings(MeshSettings)
    logs.configure(settings, "flower")
    app = make_app("flower", settings)
    app.start(["flower", *own.options])


if __name__ == "__main__":
    main()
