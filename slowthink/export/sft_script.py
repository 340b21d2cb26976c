"""Fine-tune with TRL on train.jsonl, with the settings in sft.yaml.

pip install "trl>=1.16" peft pyyaml
python sft.py [NUMBER_OF_STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: Path, max_steps: int | None = None) -> None:
    """Train and save to `model/`, with checkpoints in `checkpoints/`."""
    import torch
    import yaml
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    settings = yaml.safe_load((folder / "sft.yaml").read_text("utf-8"))
    model, source = settings["model"], settings["source"]
    limit = {} if max_steps is None else {"max_steps": max_steps}
    on_gpu = torch.cuda.is_available()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **source),
        args=SFTConfig(
            output_dir=str(folder / "checkpoints"), bf16=on_gpu, use_cpu=not on_gpu,
            **settings["arguments"] | limit,
        ),
        train_dataset=load_dataset("json", data_files=str(folder / "train.jsonl"), split="train"),
        processing_class=AutoTokenizer.from_pretrained(model, **source),
        peft_config=LoraConfig(**settings["lora"]) if settings["lora"] else None,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(folder / "model"))


if __name__ == "__main__":
    main(Path(__file__).parent, *map(int, sys.argv[1:2]))
