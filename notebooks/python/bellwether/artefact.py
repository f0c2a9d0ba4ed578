"""Models that can be kept, sent and registered: plain data, nothing that runs."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from . import _native
from ._native import InputError

__all__ = ["Artefact", "Model", "native"]


@dataclass(frozen=True)
class Artefact:
    """A model that was trained or searched."""

    manifest: dict[str, Any]
    """Kind, parameters, training window, digest of the data, seed, scores, author and note."""
    weights: bytes | None = None
    """The network as safetensors; ``None`` for kinds that have none."""

    def save(self, path: str | Path) -> None:
        """Writes the weights to ``path`` (``.safetensors``) and the manifest beside it (``.json``)."""
        path = Path(path)
        if self.weights is not None:
            path.write_bytes(self.weights)
        path.with_suffix(".json").write_text(json.dumps(self.manifest, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Artefact:
        """Reads what :meth:`save` wrote; weights that are no network of this version are refused."""
        path = Path(path)
        manifest = json.loads(path.with_suffix(".json").read_text())
        weights = path.read_bytes() if path.suffix != ".json" and path.is_file() else None
        if weights is not None:
            _native.check_network(weights)
        return cls(manifest, weights)

    def body(self) -> dict[str, Any]:
        """What is posted to the registry."""
        weights = None if self.weights is None else base64.b64encode(self.weights).decode()
        return {"manifest": self.manifest, "weights": weights}


Model = Union[str, Artefact]
"""A model by name, or one that was trained."""


def native(model: Model) -> _native.Model:
    """The model that the server makes of the same artefact."""
    if isinstance(model, str):
        return _native.Model(model)
    kind, parameters = model.manifest.get("kind"), model.manifest.get("parameters") or {}
    if kind not in ("lstm", "arima", "automatic"):
        raise InputError(f"there is no kind of model {kind!r}; there are lstm, arima and automatic")
    orders = parameters.get("orders")
    name = "sarima" if orders and orders.get("period", 0) > 1 else kind
    return _native.Model(
        name,
        model.weights,
        None if orders is None else json.dumps(orders),
        parameters.get("leave_out") or [],
        parameters.get("seasons") or [],
    )
