"""Nearest neighbors of images by a network's features, and projections to two dimensions."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from cvpipe.errors import ConfigError

Projection = Literal["pca", "tsne", "umap"]
PROJECTIONS: tuple[Projection, ...] = ("pca", "tsne", "umap")
LEAST = 5
"""Minimum number of images for a projection."""


def neighbors(features: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest other images by Euclidean distance, nearest first: int64 [Q, count].

    Args:
        features: float [N, F], N > `count`.
        queries: int64 [Q], rows of `features`.
        count: number of neighbors.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=count + 1).fit(features)
    found = index.kneighbors(features[queries], return_distance=False)
    # A copy of an image may precede the image itself.
    return np.stack(
        [near[near != query][:count] for near, query in zip(found, queries, strict=True)]
    )


def project(features: np.ndarray, method: Projection, seed: int = 0) -> np.ndarray:
    """Return positions in two dimensions, float32 [N, 2].

    Args:
        features: float [N, F], N at least LEAST.
        method: "pca", "tsne" (van der Maaten and Hinton 2008) or "umap" (McInnes et al. 2018).
        seed: random seed of t-SNE and UMAP.

    Raises:
        ConfigError: "umap" without umap-learn.
    """
    make: dict[str, Callable[[], Any]] = {
        "pca": _pca,
        "tsne": lambda: _tsne(len(features), seed),
        "umap": lambda: _umap(len(features), seed),
    }
    return np.asarray(make[method]().fit_transform(features), np.float32)


def _pca() -> Any:
    from sklearn.decomposition import PCA

    return PCA(2, svd_solver="full")


def _tsne(count: int, seed: int) -> Any:
    from sklearn.manifold import TSNE

    return TSNE(2, perplexity=min(30, (count - 1) / 3), init="pca", random_state=seed)


def _umap(count: int, seed: int) -> Any:
    try:
        umap: Any = importlib.import_module("umap")
    except ImportError:
        raise ConfigError(
            "--projection umap: umap-learn is not installed; run pip install 'cvpipe[explain]', or"
            " choose tsne"
        ) from None
    return umap.UMAP(n_neighbors=min(15, count - 1), random_state=seed, n_jobs=1)
