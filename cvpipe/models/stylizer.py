"""Networks that repaint photos in a style (Johnson et al. 2016). Conditional instance norm
(Dumoulin et al. 2017) gives one network several styles.

Dimensions: B images, H, W; N styles, F channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from cvpipe.models.blocks import scale_channels
from cvpipe.models.initializers import Initializer

if TYPE_CHECKING:
    from cvpipe.config.style import StyleModel

STRIDE = 4
"""Heights and widths are multiples of this."""


@keras.saving.register_keras_serializable("cvpipe")
class ConditionalInstanceNorm(keras.layers.Layer):
    """Instance norm with a scale and a shift for each style (Dumoulin et al. 2017, equation 5).

    (float [B, H, W, F], weights of styles [B, N]) -> float [B, H, W, F]. Scales and shifts are
    blended by the weights. Statistics are float32 under every dtype policy.
    """

    def __init__(self, epsilon: float = 1e-5, **settings: Any) -> None:
        """Create the layer; `epsilon` is added to the variance."""
        super().__init__(**settings)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Create a scale and a shift for each style and channel."""
        features, styles = input_shape
        shape = (styles[-1], features[-1])
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, inputs: Any) -> Any:
        """Normalize the features, and scale and shift them by the blended styles."""
        features, weights = (keras.ops.cast(x, "float32") for x in inputs)
        mean, variance = keras.ops.moments(features, axes=[1, 2], keepdims=True)
        normalized = (features - mean) * keras.ops.rsqrt(variance + self.epsilon)
        scale, shift = (
            keras.ops.matmul(weights, keras.ops.cast(of_styles, "float32"))[:, None, None]
            for of_styles in (self.gamma, self.beta)
        )
        return keras.ops.cast(normalized * scale + shift, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the features' shape."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("cvpipe")
class ReflectionPadding(keras.layers.Layer):
    """Pads images, float [B, H, W, C], by reflection. Zeros would be visible at the edges."""

    def __init__(self, pixels: int, **settings: Any) -> None:
        """Create the layer. It adds `pixels` pixels on each side; images must be larger."""
        super().__init__(**settings)
        self.pixels = pixels

    def call(self, x: Any) -> Any:
        """Pad height and width."""
        around = [[0, 0], [self.pixels] * 2, [self.pixels] * 2, [0, 0]]
        return keras.ops.pad(x, around, mode="reflect")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "pixels": self.pixels}


def stylizer(config: StyleModel, styles: int) -> keras.Model:
    """Return the network, for images of any size: {"image": float [B, H, W, 3] around 0, "styles":
    float [B, N] weights} -> {"picture": float32 [B, H, W, 3] in 0…1}.

    H and W are multiples of STRIDE. Upsampling repeats pixels and then applies a convolution,
    because a transposed convolution would leave a checkerboard pattern (Odena et al. 2016).
    """
    image = keras.Input((None, None, 3), name="image")
    weights = keras.Input((styles,), name="styles")
    kernel = Initializer(config.initializer, config.initializer_value).kernel()

    def conv(
        x: keras.KerasTensor,
        channels: int,
        size: int,
        name: str,
        stride: int = 1,
        relu: bool = True,
    ) -> keras.KerasTensor:
        x = ReflectionPadding(size // 2, name=f"{name}_pad")(x)
        x = keras.layers.Conv2D(
            channels, size, stride, use_bias=False, kernel_initializer=kernel, name=name
        )(x)
        x = ConditionalInstanceNorm(name=f"{name}_norm")([x, weights])
        return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x

    narrow, middle, wide = (scale_channels(n, config.width) for n in (32, 64, 128))
    x = conv(image, narrow, 9, "stem")
    x = conv(x, middle, 3, "down1", stride=2)
    x = conv(x, wide, 3, "down2", stride=2)
    for number in range(1, config.residual_blocks + 1):
        y = conv(x, wide, 3, f"block{number}_conv1")
        y = conv(y, wide, 3, f"block{number}_conv2", relu=False)
        x = keras.layers.Add(name=f"block{number}_add")([x, y])
    for number, channels in enumerate((middle, narrow), 1):
        x = keras.layers.UpSampling2D(2, name=f"up{number}_size")(x)
        x = conv(x, channels, 3, f"up{number}")
    x = ReflectionPadding(4, name="colors_pad")(x)
    x = keras.layers.Conv2D(3, 9, kernel_initializer=kernel, name="colors")(x)
    picture = keras.layers.Activation("sigmoid", dtype="float32", name="picture")(x)
    return keras.Model([image, weights], {"picture": picture}, name="stylizer")
