"""Images made by ascent of the gradient by their pixels: pictures of what a unit wants, dreams,
inversions of features, textures and transferred styles.

Images are float32 in 0…1 here, before they are prepared for a network. Dimensions: B images, H, W,
C of an image, h, w, F of a feature map.
"""
