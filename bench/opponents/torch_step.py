#!/usr/bin/env python3
"""Speed of the published PyTorch packages on a CPU, at the shapes of bench/configs: updates as `xlstm bench step`,
evaluation and generation as `xlstm bench inference`.

Needs: pip install torch xlstm mlstm_kernels; or Debian's python3-torch (1.13) and pip install --no-deps xlstm
  mlstm_kernels omegaconf einops dacite rich tqdm packaging antlr4-python3-runtime==4.9.3
Usage: torch_step.py tiny|small|160m [--task train|eval|generate] [--steps N] [--bf16] [--threads N]
Tuned as far as it goes without touching the packages: start it with
  LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1    (Debian: libjemalloc2)
Debian's PyTorch also with LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp ATEN_CPU_CAPABILITY=avx512 (libopenblas0-openmp)
Prints one JSON object: tokens_per_second is of the median step (pass, token), peak_bytes the largest resident size.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F

OLD_TORCH = torch.__version__.startswith("1.")
if OLD_TORCH:  # Debian's: what the packages take for granted of a newer one
    class NoGrad(torch.no_grad):
        def __new__(cls, function=None):
            return torch.autograd.grad_mode.no_grad()(function) if callable(function) else super().__new__(cls)

        def __init__(self, function=None):
            super().__init__()

    torch.no_grad = NoGrad
    torch.amp.custom_fwd = torch.amp.custom_bwd = lambda *functions, **_: functions[0] if functions else lambda f: f

from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig  # noqa: E402

SHAPES = {  # vocabulary, width, blocks, heads, batch, context: bench/configs/*.yaml
    "tiny": (8192, 256, 4, 4, 8, 512),
    "small": (16384, 512, 8, 4, 4, 1024),
    "160m": (50304, 768, 12, 12, 1, 1024),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--task", choices=("train", "eval", "generate"), default="train")
    parser.add_argument("--steps", type=int, default=5, help="that are timed; tokens of a generation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16, f32 weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    vocab, dim, blocks, heads, batch, context = SHAPES[args.shape]
    model = xLSTMLarge(xLSTMLargeConfig(
        embedding_dim=dim, num_heads=heads, num_blocks=blocks, vocab_size=vocab, return_last_states=True,
        mode="inference" if args.task == "generate" else "train",
        chunkwise_kernel="chunkwise--native_custbw", sequence_kernel="native_sequence__native", step_kernel="native",
        chunk_size=64, autocast_kernel_dtype="bfloat16" if args.bf16 else "float32"))
    fused = {} if OLD_TORCH else {"fused": True}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **fused)
    tokens = torch.randint(0, vocab, (batch, context + 1))

    def step():
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            logits = model(tokens[:, :-1])
            logits = logits[0] if isinstance(logits, tuple) else logits
        loss = F.cross_entropy(logits.float().reshape(-1, vocab), tokens[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin

    state = None

    @torch.no_grad()
    def evaluate():
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            logits = model(tokens[:, :-1])
            logits = logits[0] if isinstance(logits, tuple) else logits
        F.cross_entropy(logits.float().reshape(-1, vocab), tokens[:, 1:].reshape(-1))
        return time.perf_counter() - begin

    @torch.no_grad()
    def generate():  # one token of one prompt
        nonlocal state
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            logits, state = model(tokens[:1, :1], state)
        logits[0, -1].argmax()
        return time.perf_counter() - begin

    run = {"train": step, "eval": evaluate, "generate": generate}[args.task]
    if args.task == "generate" and args.bf16:  # weights are what is read: no casting of them with each token
        model = model.to(torch.bfloat16)
    for _ in range(2):
        run()
    seconds = statistics.median(run() for _ in range(args.steps))
    in_one_run = 1 if args.task == "generate" else batch * context
    print(json.dumps({
        "shape": args.shape, "task": args.task, "precision": "bf16" if args.bf16 else "f32", "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()), "threads": args.threads,
        "tokens_per_second": in_one_run / seconds, "seconds_per_step": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
