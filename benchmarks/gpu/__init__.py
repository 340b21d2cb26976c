"""What slowthink does on this machine's GPU, beside the best: eight parts, six by default.

    python -m benchmarks.gpu --json --out gpu-figures [--parts forcing,training] [--against DIR]

| part | what it measures |
| --- | --- |
| conformance | ids of vLLM, fp32, against the transformers engine; the error of the logits |
| forcing | tokens per second in flight, over plain decoding and s1's batch-wide rounds |
| training | our trainer, a plain loop, TRL's defaults and best settings: speed, memory, loss |
| adapters | full weights, LoRA and QLoRA: speed, peak memory, MFU |
| decoding | the transformers engine, vLLM and `generate`: tokens per second |
| quickstart | wall time of `slowthink run quickstart`, and of its stages |
| real_problems | a base model and two trained ones on MATH-500 and GSM8K, by cap (needs `--data`) |
| chain_ablations | levels, what is kept, fit to the student: paired differences by seed |

Each part runs in a process of its own, under its own limit of time; one that fails or runs over
fails alone and keeps the figures that it has. With `--against` each part also runs on the package
of another checkout, right after ours. Without a GPU everything is shortened: a rehearsal whose
figures mean nothing.
"""
