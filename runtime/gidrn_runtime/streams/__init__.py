"""Streams: frames from a camera, an address, a file or a program, enlarged as they come."""
