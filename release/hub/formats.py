"""Whether a file is what its name claims: opened and parsed, never trusted by its ending."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from release.text_files import unique_keys


def problem(path: Path) -> str | None:
    """What is wrong with the form of a file, None if nothing is or its kind is not known here."""
    if path.is_symlink():
        return "a link, which is not published"
    check = next((check for ending, check in CHECKS.items() if path.name.endswith(ending)), None)
    try:
        return check(path) if check else None
    except Exception as error:  # each library has errors of its own for what it cannot read
        return f"not what its name claims ({' '.join(str(error).split())[:160] or type(error).__name__})"


def _text(path: Path) -> None:
    path.read_bytes().decode("utf-8")


def _json(path: Path) -> str | None:
    value = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_number, object_pairs_hook=unique_keys)
    if isinstance(value, dict) and "auto_map" in value:
        return "names code to be run (auto_map), which is not published"
    return None


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _toml(path: Path) -> None:
    tomllib.loads(path.read_bytes().decode("utf-8"))


def _safetensors(path: Path) -> str | None:
    """Header, offsets and length; then every value, for a weight that is no number gives no score."""
    with safe_open(path, framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no dict
            if (
                tensors.get_slice(name).get_dtype() in ("F64", "F32", "F16")
                and not np.isfinite(tensors.get_tensor(name)).all()
            ):
                return f"{name} holds a weight that is no number"
    return None


def _parquet(path: Path) -> str | None:
    import pyarrow.parquet as parquet  # a model has no such file

    schema = parquet.ParquetFile(path).schema_arrow
    columns = {field.name: str(field.type) for field in schema}
    expected = {"query": "string", "document": "string", "label": "float"}
    return None if columns == expected else f"columns {columns}, not {expected}"


def _onnx(path: Path) -> None:
    try:
        import onnx
    except ModuleNotFoundError:
        return  # the extra `export` has it; verification runs the graph in any case
    model = onnx.load(path, load_external_data=False)
    if not model.graph.node:
        raise ValueError("a graph without nodes")


def _png(path: Path) -> str | None:
    """The signature, and nothing after the last chunk."""
    content = path.read_bytes()
    whole = content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return None if whole else "not a whole PNG picture"


CHECKS: dict[str, Callable[[Path], str | None]] = {
    ".json": _json,
    ".md": _text,
    ".toml": _toml,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".onnx": _onnx,
    ".png": _png,
}
