"""Cache of what the judges see in a data set's photos, stored beside them.

A network looks at each photo once at each resolution: further jobs, splits and time limits find its
features by the photo's pixels.

Shapes: N photos, D features, R resolution in pixels.
"""

import hashlib

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from models.evaluation.extractors import Extractor, Seen, see_all
from models.progress import Steps
from worker.storage import ObjectNotFound, Storage

Rows = tuple[dict[bytes, int], Seen]  # the row of each photo by its digest


class FeatureCache:
    """One data set's photos as the networks see them; `see` is a drop-in for `see_all`."""

    def __init__(self, storage: Storage, dataset_id: str) -> None:
        self._storage = storage
        self._folder = f"datasets/{dataset_id}/features"

    def see(self, extractor: Extractor, images: Tensor) -> Steps[Seen]:
        """Look at the photos (N, C, R, R) that this network has not seen yet; return all."""
        key = self._key(extractor, images.shape[-1])
        digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
        rows, seen = self._load(key)
        new = {digest: index for index, digest in enumerate(digests) if digest not in rows}
        if new:
            fresh = yield from see_all(extractor, images[list(new.values())])
            rows |= {digest: len(rows) + place for place, digest in enumerate(new)}
            seen = fresh if seen is None else _joined(seen, fresh)
            self._storage.put(key, _packed(rows, seen))
        assert seen is not None
        wanted = torch.tensor([rows[digest] for digest in digests])
        masks = None if seen.masks is None else seen.masks[wanted]
        return Seen(seen.features[wanted], masks)

    def _key(self, extractor: Extractor, resolution: int) -> str:
        identity = hashlib.sha256(extractor.identity.encode()).hexdigest()[:16]
        return f"{self._folder}/{extractor.name}-{identity}-{resolution}.safetensors"

    def _load(self, key: str) -> tuple[dict[bytes, int], Seen | None]:
        """What is stored; a file that cannot be read counts as none."""
        try:
            tensors = safetensors.torch.load(self._storage.read(key))
            return _unpacked(tensors)
        except (ObjectNotFound, safetensors.SafetensorError, LookupError, ValueError):
            return {}, None


def _joined(first: Seen, second: Seen) -> Seen:
    masks = None
    if first.masks is not None and second.masks is not None:
        masks = torch.cat([first.masks, second.masks])
    return Seen(torch.cat([first.features, second.features]), masks)


def _packed(rows: dict[bytes, int], seen: Seen) -> bytes:
    """A safetensors file; eight pixels of a mask are a byte."""
    digests = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1).copy()
    tensors = {"digests": torch.from_numpy(digests), "features": seen.features.contiguous()}
    if seen.masks is not None:
        side = seen.masks.shape[-1]
        bits = np.packbits(seen.masks.numpy().reshape(len(rows), -1), axis=1)
        tensors |= {"masks": torch.from_numpy(bits), "side": torch.tensor(side)}
    return safetensors.torch.save(tensors)


def _unpacked(tensors: dict[str, Tensor]) -> Rows:
    digests, features = tensors["digests"], tensors["features"]
    if len(digests) != len(features):
        raise ValueError(f"{len(digests)} photos, {len(features)} rows of features")
    masks = None
    if "masks" in tensors:
        side = int(tensors["side"])
        bits = np.unpackbits(tensors["masks"].numpy(), axis=1, count=side * side)
        masks = torch.from_numpy(bits.reshape(-1, side, side).astype(bool))
    rows = {bytes(digest.numpy()): row for row, digest in enumerate(digests)}
    return rows, Seen(features, masks)
