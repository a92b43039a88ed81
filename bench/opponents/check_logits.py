#!/usr/bin/env python3
"""Compares the logits of an exported model with those of the published packages, on the same tokens.

Needs: pip install torch xlstm mlstm_kernels transformers safetensors
  xlstm checkpoint export RUN --format hf --check-logits 200 --out DIR        Usage: check_logits.py DIR
Reads DIR/check.safetensors (token ids, and the logits of xlstm.cpp), runs the same ids through xLSTMLarge of the
`xlstm` package and through xLSTMForCausalLM of `transformers`, both in f32 on the CPU, and prints one JSON object:
the largest difference, absolute and over the largest logit. Exits with 1 where it is more than --tolerance of that.
"""
import argparse
import importlib.metadata
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig


def weights_of(folder):
    index = folder / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    return {name: value for file in sorted(names) for name, value in load_file(folder / file).items()}


def package_logits(folder, ids):
    cfg = json.loads((folder / "config.json").read_text())
    kept = ("embedding_dim num_heads num_blocks vocab_size use_bias norm_eps norm_reduction_force_float32 add_out_norm "
            "qk_dim_factor v_dim_factor chunkwise_kernel sequence_kernel step_kernel chunk_size return_last_states "
            "eps inference_state_dtype ffn_proj_factor ffn_round_up_to_multiple_of gate_soft_cap "
            "output_logit_soft_cap weight_mode mode")
    model = xLSTMLarge(xLSTMLargeConfig(autocast_kernel_dtype="float32", **{k: cfg[k] for k in kept.split()}))
    rename = {name: name for name in model.state_dict()}
    for name in rename:  # the package calls the table "embedding" and keeps the final norm in its backbone
        rename[name] = {"embedding.weight": "backbone.embeddings.weight"}.get(name, name)
    weights = weights_of(folder)
    unused = set(weights) - set(rename.values())
    assert not unused, f"the package has no {sorted(unused)}"
    model.load_state_dict({name: weights[source].float() for name, source in rename.items()})
    out = model.eval()(ids)
    return out[0] if isinstance(out, tuple) else out


def transformers_logits(folder, ids):
    config = AutoConfig.from_pretrained(folder)
    config.autocast_kernel_dtype = "float32"
    model, info = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32,
                                                       output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[what], f"{what}: {info[what]}"
    return model.eval()(ids, use_cache=True).logits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    check = load_file(args.folder / "check.safetensors")
    ids, ours = check["ids"].long()[None], check["logits"]
    largest = ours.abs().max().item()
    result = {"tokens": ids.shape[1], "vocabulary": ours.shape[1], "largest_logit": largest}
    good = True
    with torch.no_grad():
        for name, logits in (("xlstm", package_logits), ("transformers", transformers_logits)):
            difference = (logits(args.folder, ids)[0].float() - ours).abs().max().item()
            result[name] = {"max_abs": difference, "max_rel": difference / largest}
            good = good and difference <= args.tolerance * largest
    packages = ("torch", "xlstm", "mlstm_kernels", "transformers", "safetensors")
    result["versions"] = {p: importlib.metadata.version(p) for p in packages}
    print(json.dumps(result))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
