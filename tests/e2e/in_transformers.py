"""Run in an environment with Transformers 5.24 or newer: a model's FOLDER -> FOLDER/theirs.npz."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Let Transformers hear ``audio.npy`` and keep what its model says."""
    import torch
    import transformers

    theirs: Any = transformers
    audio = np.load(folder / "audio.npy")
    processor: Any = theirs.AutoProcessor.from_pretrained(folder)
    is_llm = hasattr(processor, "apply_transcription_request")
    kls = theirs.OmniASRForConditionalGeneration if is_llm else theirs.OmniASRForCTC
    model, report = kls.from_pretrained(folder, output_loading_info=True)
    if report["missing_keys"] or report["unexpected_keys"]:
        raise SystemExit(f"Names differ: {report}")
    model.eval()
    results: dict[str, Any] = {"ids": processor.tokenizer("ta ke")["input_ids"]}
    with torch.no_grad():
        if not is_llm:
            results["logits"] = model(**processor(audio, sampling_rate=16000)).logits[0]
        for language in ("qaa_Cyrl", None) if is_llm else ():
            inputs = processor.apply_transcription_request(
                audio, language=language, return_tensors="pt"
            )
            results[f"{language}"] = model(**inputs).logits[0, -1]
            written = model.generate(**inputs, max_new_tokens=8, num_beams=1, do_sample=False)
            results[f"tokens_{language}"] = written[0, inputs["input_ids"].shape[1] :]
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in results.items()}
    np.savez(folder / "theirs.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
