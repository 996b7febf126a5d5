"""G-IDRN as a GStreamer element; `python/gidrnupscale.py` is what GStreamer loads."""
