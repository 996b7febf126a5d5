"""Our export of a network beside PyTorch's own: nodes, seconds, and the same picture or not.

PyTorch's exporter is given the network as it is, at the fixed size that is measured, since with
free sizes the unrolled pooling is wrong. Both files are then run by ONNX Runtime in turns.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import exported_models, records
from benchmarks.fps import thread_counts
from benchmarks.low_images import smooth_noise
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from benchmarks.turns import PAUSE_SECONDS
from export import proof, to_onnx
from export.rewrites.attention import Attention
from gidrn import command_line, evaluation

PROTOCOL = (
    "files of one network in turns, the order moving on by one, after a rest each; float32 tensor "
    "in host memory to the same; batch 1"
)


def plain_export(network: nn.Module, size_hw: tuple[int, int]) -> tuple[onnx.ModelProto, float]:
    """What torch.onnx.export makes of a network by itself at one size, and its seconds."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.rand(1, 3, *size_hw),),
            dynamo=True,
            opset_version=18,
            input_names=["input"],
            output_names=["output"],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto, time.perf_counter() - began


def our_export(
    network: nn.Module, scale: int, size_hw: tuple[int, int], attention: Attention
) -> tuple[onnx.ModelProto, float]:
    """What our rewrites and simplification make of it, for any size; without the proof's time."""
    began = time.perf_counter()
    image = evaluation.to_tensor(smooth_noise(size_hw, seed=0))
    changed, _ = to_onnx.rewritten(network, attention, [proof.Case("noise", image)])
    return to_onnx.to_model(changed, scale), time.perf_counter() - began


def time_in_turns(
    models: dict[str, onnx.ModelProto], x: NDArray[np.float32], threads: int, runs: int
) -> tuple[dict[str, list[float]], dict[str, NDArray[np.float32]]]:
    """Milliseconds of every run of every model, in turns after three warm-up runs, and outputs."""
    sessions = {}
    for name, model in models.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        sessions[name] = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    outputs: dict[str, NDArray[np.float32]] = {}
    for turn in range(runs + 3):
        names = list(sessions)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            session = sessions[name]
            time.sleep(PAUSE_SECONDS)
            began = time.perf_counter_ns()
            outputs[name] = session.run(None, {"input": x})[0]
            if turn >= 3:
                samples[name].append((time.perf_counter_ns() - began) / 1e6)
    return samples, outputs


def main(
    model: str = "gidrn",
    scale: int = 4,
    size: str = "80x120",
    threads: str | None = None,
    runs: int = 30,
    out: Path | None = None,
) -> None:
    """Compare our ONNX file of a network with what PyTorch's exporter makes by itself.

    Args:
        model: a network of the zoo.
        scale: 2, 3 or 4.
        size: HEIGHTxWIDTH of the input; PyTorch's file fits this size alone.
        threads: CPU threads, such as 1,2; all cores by default.
        runs: timed runs of each file and number of threads.
        out: the JSON file to write; benchmarks/results/local/export_... by default.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    size_hw = to_onnx.parse_size(size)
    if runs < 1:
        raise ValueError(f"--runs is at least 1, not {runs}")
    counts = thread_counts(threads)
    name = f"export_{model}_x{scale}_{records.cpu_slug()}.json"
    path = out or records.RESULTS / "local" / name
    records.check_writable(path)
    network, weights, _ = exported_models.with_weights(model, scale, None)
    made = {
        "ours, curve": our_export(network, scale, size_hw, "curve"),
        "ours, exact": our_export(network, scale, size_hw, "exact"),
        "torch.onnx.export": plain_export(network, size_hw),
    }
    tensor = evaluation.to_tensor(smooth_noise(size_hw, seed=1))
    with torch.inference_mode():
        wanted = network(tensor).numpy()
    found: list[Record] = []
    rows: list[list[str]] = []
    for count in counts:
        where = records.here(count)
        samples, outputs = time_in_turns(
            {key: proto for key, (proto, _) in made.items()}, tensor.numpy(), count, runs
        )
        reference = np.asarray(samples["torch.onnx.export"])
        for key, (proto, seconds) in made.items():
            levels = float(np.abs(outputs[key] - wanted).max()) * 255
            ratio = float(np.median(np.asarray(samples[key]) / reference))
            figure = Figure.of("network_only_ms", samples[key])
            nodes = len(proto.graph.node)
            found.append(
                records.record(
                    What(model, scale, "ort-cpu", size_hw=size_hw, weights=weights, input="noise"),
                    How(PROTOCOL, "time.perf_counter_ns", "none", 3, runs),
                    figures=[figure],
                    values={
                        "export": key,
                        "nodes": nodes,
                        "export_s": round(seconds, 1),
                        "levels_from_torch": levels,
                        "time_over_torch_export": round(ratio, 3),
                    },
                    where=where,
                )
            )
            rows.append(
                [
                    *(key, str(nodes), f"{seconds:.0f}", str(count)),
                    *(f"{figure.p50:.1f}", f"{figure.p90:.1f}", f"{ratio:.2f}", f"{levels:.4f}"),
                ]
            )
    records.write_records(path, found)
    header = ["export", "nodes", "export, s", "threads", "p50, ms", "p90, ms"]
    print(markdown_table([*header, "time / torch's", "levels from torch"], rows))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    command_line.run(main)
