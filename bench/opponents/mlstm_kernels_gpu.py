#!/usr/bin/env python3
"""Time of the published Triton kernels of the mLSTM cell on this machine's GPU, at the shapes of `xlstm bench ops`.

Needs: a GPU, and pip install torch mlstm_kernels, with a Triton that still has block pointers: 3.4 has, 3.9 has not.
Usage: mlstm_kernels_gpu.py [--ours OPS.json] [--save FILE] [--json] [--repetitions 30]
OPS.json is what `xlstm bench ops --device cuda --save OPS.json` wrote on the same machine: each row then has the ratio of
the fastest published time to ours.
Rows are named as there: one for each op, shape and kernel; seconds are the median, by CUDA events, of what forward, or
backward alone, launches, with the caches emptied by 256 MB of writes before each run. Inputs lie as the kernels want
them, (batch, heads, tokens, width): a model pays for transposing on top of these times.
FILE is written anew after each kernel, so that a run that is cut short leaves what it has.
--interpret runs one tiny shape in Triton's interpreter, without a GPU, to see that the calls are right (it wants
numpy 1.26; numbers from there mean nothing).
"""
import argparse
import json
import os
import statistics
import sys

SHAPES = [  # batch, tokens, heads, width of q and k, of v: tools/bench_ops.cpp
    (8, 8192, 8, 256, 512, ", 8 x 8192, NH 8"),
    (8, 8192, 4, 256, 512, ", 8 x 8192, NH 4"),
    (1, 8192, 4, 256, 512, ", 1 x 8192, NH 4"),
    (8, 8192, 16, 128, 256, ", 8 x 8192, NH 16"),
]
KERNELS = {  # input gate -> kernels with their arguments, as published: chunks of 128, of 64 for limit_chunk
    "exp": [("chunkwise--triton_xl_chunk", {"chunk_size": 128}), ("chunkwise--triton_limit_chunk", {"chunk_size": 64})],
    "sig": [("chunkwise--triton_xl_chunk_siging", {"chunk_size": 128, "normalize": False})],
}


def inputs(torch, device, shape):
    batch, tokens, heads, k, v, _ = shape
    generator = torch.Generator(device=device).manual_seed(1)

    def normal(*size, dtype=torch.bfloat16):
        x = torch.randn(*size, generator=generator, device=device, dtype=torch.float32)
        return x.to(dtype)

    q, key = normal(batch, heads, tokens, k), normal(batch, heads, tokens, k)
    value, dh = normal(batch, heads, tokens, v), normal(batch, heads, tokens, v)
    i = normal(batch, heads, tokens, dtype=torch.float32) - 2
    f = normal(batch, heads, tokens, dtype=torch.float32) + 3
    return [x.requires_grad_() for x in (q, key, value, i, f)], dh


def time_kernel(torch, kernel, arguments, shape, repetitions):
    """Median seconds of forward and of backward."""
    tensors, dh = inputs(torch, "cuda", shape)
    flush = torch.empty(256 << 18, dtype=torch.float32, device="cuda")

    def forward():
        return kernel(*tensors, return_last_states=False, eps=1e-6, autocast_kernel_dtype=torch.bfloat16, **arguments)

    def timed(work):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        begin.record()
        out = work()
        end.record()
        end.synchronize()
        return 1e-3 * begin.elapsed_time(end), out

    times = {"forward": [], "backward": []}
    for run in range(repetitions + 2):
        seconds, h = timed(forward)
        back, _ = timed(lambda: torch.autograd.grad(h, tensors, dh))
        if run >= 2:  # before, kernels are compiled and clocks rise
            times["forward"].append(seconds)
            times["backward"].append(back)
    return {name: statistics.median(all_times) for name, all_times in times.items()}


def measure(torch, get_kernel, repetitions, done):
    """done(rows) after each kernel."""
    rows = []
    for shape in SHAPES:
        for gate, kernels in KERNELS.items():
            for name, arguments in kernels:
                times = time_kernel(torch, get_kernel(name), arguments, shape, repetitions)
                print(f"{name}{shape[-1]}: {times}", file=sys.stderr)
                for what, seconds in times.items():
                    rows.append({"op": f"mlstm_{what} {gate} {shape[3]}/{shape[4]}{shape[5]}",
                                 "kernel": name.split("--")[1], "seconds": seconds,
                                 "bytes_per_second": traffic(shape, what) / seconds})
                torch.cuda.empty_cache()
                done(rows)


def traffic(shape, what):
    """Bytes that must move at least, as tools/bench_ops.cpp counts them."""
    batch, tokens, heads, k, v, _ = shape
    return (2 if what == "backward" else 1) * 2 * batch * tokens * heads * (2 * k + 2 * v)


def compare(rows, ours):
    """Adds to the fastest row of each op what ours takes."""
    seconds = {row["op"]: row["seconds"] for row in ours["rows"]}
    for row in rows:
        row.pop("ratio", None)
        same = [r["seconds"] for r in rows if r["op"] == row["op"]]
        if row["op"] in seconds and row["seconds"] == min(same):
            row["ours_seconds"] = seconds[row["op"]]
            row["ratio"] = row["seconds"] / seconds[row["op"]]


def table(rows):
    lines = [f"{'op':<46}{'kernel':<26}{'ms':>9}{'ours':>9}{'ratio':>8}"]
    for row in rows:
        ours = f"{1e3 * row['ours_seconds']:9.3f}{row['ratio']:8.2f}" if "ratio" in row else ""
        lines.append(f"{row['op']:<46}{row['kernel']:<26}{1e3 * row['seconds']:9.3f}{ours}")
    return "\n".join(lines)


def interpret(torch, get_kernel):
    shape = (1, 128, 1, 64, 64, "")
    for kernels in KERNELS.values():
        for name, arguments in kernels:
            tensors, dh = inputs(torch, "cpu", shape)
            h = get_kernel(name)(*tensors, return_last_states=False, eps=1e-6, autocast_kernel_dtype=torch.bfloat16,
                                 **arguments)
            grads = torch.autograd.grad(h, tensors, dh)
            print(name, tuple(h.shape), h.dtype, "finite" if all(x.isfinite().all() for x in (h, *grads)) else "NOT FINITE")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours")
    parser.add_argument("--save")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--interpret", action="store_true")
    args = parser.parse_args()
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch
    import triton
    from mlstm_kernels.torch import get_mlstm_kernel
    if args.interpret:
        return interpret(torch, get_mlstm_kernel)
    if not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU here")
    ours = None
    if args.ours:
        with open(args.ours) as file:
            ours = json.load(file)
    result = {"bench": "mlstm_kernels", "type": "bf16", "rows": [],
              "machine": {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
                          "cuda": torch.version.cuda}}

    def done(rows):
        result["rows"] = rows
        if ours:
            compare(rows, ours)
        if args.save:
            with open(args.save, "w") as file:
                json.dump(result, file, indent=1)

    measure(torch, get_mlstm_kernel, args.repetitions, done)
    print(json.dumps(result) if args.json else table(result["rows"]))


if __name__ == "__main__":
    main()
