"""Folders of pictures, enlarged by several workers, so that a run can be killed and taken up again.

Workers are functions from bytes to bytes: a picture file goes in, the larger one comes back. The
process that leads them (`gidrn_runtime.archive.run`) alone reads sources, writes outputs and keeps
the manifest, so that what is done is decided in one place. Processes of this machine
(`local_workers`) and actors of a Ray cluster (`ray_workers`) are two pools of the same workers
(`jobs`).
"""
