"""Images that are not plain 8-bit colour frames: gray, with alpha, 16-bit.

Whether an image is 8-bit or 16-bit is told by its dtype alone, never by its largest value.

Alpha: the network enlarges straight (not premultiplied) colour, and alpha as a gray picture of its
own; premultiplied colour is made straight before, and premultiplied again after. What colour lies
under fully transparent pixels is arbitrary, so it is first replaced by the nearby visible colour;
the network therefore never sees it and cannot draw it into the edges.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gidrn_runtime.engines.base import Tensor
from gidrn_runtime.upscaler import Frame

Image = npt.NDArray[Any]
"""uint8 or uint16; (H, W) or (H, W, 1) gray, (H, W, 3) colour, (H, W, 4) colour and alpha."""

LUMA_RGB = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of ITU-R BT.601 for a gray value of R, G, B."""


class Enlarger(Protocol):
    """What is wanted of an `Upscaler` here."""

    @property
    def scale(self) -> int:
        """Output pixels a side for one of the input."""

    @property
    def color(self) -> str:
        """``bgr`` or ``rgb``: the order of a frame's channels."""

    def __call__(self, frame: Frame) -> Frame:
        """uint8 (H, W, 3) -> uint8 (s*H, s*W, 3)."""

    def run_tensor(self, x: Tensor) -> Tensor:
        """float32 RGB (1, 3, H, W) in [0, 1] -> (1, 3, s*H, s*W)."""


def upscale_image(upscaler: Enlarger, image: Image, *, premultiplied: bool = False) -> Image:
    """Enlarge an image of any kind; dtype, number of channels and dimensions stay what they are.

    uint8 or uint16 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); colour channels in
    `upscaler.color` order, alpha last and straight; or, where `premultiplied` says so, with colour
    already multiplied by alpha, as compositors and GPUs hold it, and so it comes out again. Colour
    above its alpha, which premultiplied images do not have, counts as equal to it.

    - 16-bit images go through the network as floats and are never rounded to 8 bits.
    - Gray goes in as R = G = B and comes out as the BT.601 luma of the three outputs, so that it
      stays gray; so does gray that a decoder has made colour of, with alpha or in 16 bits.
    - Alpha is enlarged as a gray image. It is exactly opaque (or exactly transparent) wherever the
      input pixel and its eight neighbours are, so a fully opaque image stays fully opaque.

    Raises:
        ValueError: not such an image, or `premultiplied` without alpha.
        FrameTooLargeError, EngineError, RuntimeError: as for `Upscaler.__call__`.
    """
    check_image(image)
    if premultiplied and (image.ndim == 2 or image.shape[2] != 4):
        raise ValueError(f"an image without alpha, {image.shape}, cannot be premultiplied")
    if image.ndim == 2 or image.shape[2] == 1:
        high_plane = _enlarge_gray(upscaler, image.reshape(image.shape[:2]))
        gray: Image = high_plane.reshape(*high_plane.shape, *image.shape[2:])
        return gray
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return upscaler(image)

    peak = np.iinfo(image.dtype).max
    to_rgb = [2, 1, 0] if upscaler.color == "bgr" else [0, 1, 2]
    tensor = np.empty((1, 3, *image.shape[:2]), np.float32)
    for plane, channel in enumerate(to_rgb):
        np.divide(image[..., channel], peak, out=tensor[0, plane], dtype=np.float32)
    if image.shape[2] == 4:
        alpha = np.divide(image[..., 3], peak, dtype=np.float32)
        if premultiplied:
            np.divide(tensor[0], alpha, out=tensor[0], where=alpha > 0)
            np.minimum(tensor, 1, out=tensor)
        tensor[0] = cover_hidden(tensor[0], alpha)
    enlarged = upscaler.run_tensor(tensor)[0]  # (3, s*H, s*W)
    if (tensor[0, 0] == tensor[0, 1]).all() and (tensor[0, 1] == tensor[0, 2]).all():
        enlarged[:] = np.tensordot(LUMA_RGB, enlarged, axes=1)  # gray with alpha stays gray
    high: Image = np.empty((*enlarged.shape[1:], image.shape[2]), image.dtype)
    if image.shape[2] == 4:
        high[..., 3] = _enlarge_alpha(upscaler, image[..., 3])
    if premultiplied:
        np.clip(enlarged, 0, 1, out=enlarged)  # so that no colour ends above its alpha
        enlarged *= np.divide(high[..., 3], peak, dtype=np.float32)
    high_colour = _quantise(enlarged, image.dtype)
    for plane, channel in enumerate(to_rgb):
        high[..., channel] = high_colour[plane]
    return high


def check_image(image: Any) -> None:
    """Raise ValueError unless `image` is one that `upscale_image` takes."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a NumPy array, not {type(image).__name__}")
    wanted = "an image is uint8 or uint16 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    came = f"not {image.dtype} {image.shape}"
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{wanted}, {came}; scale it to 0..65535 and convert it to uint16")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f"{wanted}, {came}; split it into colour, alpha and other planes first")
    if image.size == 0:
        raise ValueError(f"{wanted} with at least one pixel, {came}")


def cover_hidden(colour: Tensor, alpha: npt.NDArray[np.float32]) -> Tensor:
    """Replace the colour of fully transparent pixels by the visible colour around them.

    `colour` is (3, H, W), `alpha` (H, W) >= 0; pixels with alpha above 0 stay as they are. Means
    weighted by alpha are taken over blocks of 2, 4, 8 ... pixels, and a hidden pixel gets that of
    the smallest block around it with anything visible in it (the pull-push of Gortler et al., The
    Lumigraph, 1996). An image with nothing visible becomes black.
    """
    if alpha.all():
        return colour
    if not alpha.any():
        return np.zeros_like(colour)
    _, height, width = colour.shape
    pad_hw = ((0, height % 2), (0, width % 2))
    weight = np.pad(alpha, pad_hw)
    weighted = np.pad(colour * alpha, ((0, 0), *pad_hw))
    half_hw = (weight.shape[0] // 2, weight.shape[1] // 2)
    coarse_weight = weight.reshape(half_hw[0], 2, half_hw[1], 2).mean(axis=(1, 3))
    coarse = weighted.reshape(3, half_hw[0], 2, half_hw[1], 2).mean(axis=(2, 4))
    np.divide(coarse, coarse_weight, out=coarse, where=coarse_weight > 0)
    around = cover_hidden(coarse, coarse_weight).repeat(2, axis=1).repeat(2, axis=2)
    return np.where(alpha > 0, colour, around[:, :height, :width])


def _enlarge_gray(upscaler: Enlarger, plane: Image) -> Image:
    """(H, W) -> (s*H, s*W) of the same dtype."""
    peak = np.iinfo(plane.dtype).max
    tensor = np.empty((1, 3, *plane.shape), np.float32)
    np.divide(plane, peak, out=tensor[0, 0], dtype=np.float32)
    tensor[0, 1:] = tensor[0, 0]
    return _quantise(np.tensordot(LUMA_RGB, upscaler.run_tensor(tensor)[0], axes=1), plane.dtype)


def _enlarge_alpha(upscaler: Enlarger, alpha: Image) -> Image:
    """As a gray plane, but exact where the input and its neighbours are all opaque or all clear."""
    scale = upscaler.scale
    peak = np.iinfo(alpha.dtype).max
    if (alpha == peak).all():
        return np.full((scale * alpha.shape[0], scale * alpha.shape[1]), peak, alpha.dtype)
    high = _enlarge_gray(upscaler, alpha)
    for value in (0, peak):
        inside = _with_neighbours(alpha == value)
        high[inside.repeat(scale, axis=0).repeat(scale, axis=1)] = value
    return high


def _with_neighbours(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """True where the pixel and its eight neighbours (those inside the image) are True."""
    height, width = mask.shape
    padded = np.pad(mask, 1, constant_values=True)
    rows = padded[:height] & padded[1 : height + 1] & padded[2:]
    return rows[:, :width] & rows[:, 1 : width + 1] & rows[:, 2:]


def _quantise(values: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> Image:
    """[0, 1] -> 0..255 or 0..65535, clipped, halves rounded to even; overwrites `values`."""
    np.clip(values, 0, 1, out=values)
    np.multiply(values, np.iinfo(dtype).max, out=values)
    return np.rint(values, out=values).astype(dtype)
