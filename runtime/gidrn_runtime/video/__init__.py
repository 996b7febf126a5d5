"""Video files: every frame enlarged, everything else kept.

    from gidrn_runtime import Upscaler
    from gidrn_runtime.video import upscale_video

    with Upscaler("gidrn_x2") as upscale:
        upscale_video(upscale, "in.mp4", "out.mp4")

Importing this needs NumPy alone; the first call imports PyAV (``pip install "gidrn[video]"``).
"""

from gidrn_runtime.video.job import VideoOptions, VideoResult, upscale_video

__all__ = ["VideoOptions", "VideoResult", "upscale_video"]
