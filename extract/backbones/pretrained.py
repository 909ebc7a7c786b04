"""Transformers models from a local folder, whole or not at all, and never from the network."""

from typing import Any

from transformers.utils import logging

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import LoadContext

# Used by masking in training only, and left out of some published checkpoints.
_HARMLESS = ("masked_spec_embed",)


def pretrained(context: LoadContext, model_class: Any) -> Any:
    """A frozen model in evaluation mode on the device, in the compute precision, with SDPA attention.

    Raises
    ------
    WeightsError
        If the folder holds another model, or only a part of this one: transformers itself would fill the gaps with
        random numbers and a warning.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, info = model_class.from_pretrained(
            context.folder,
            dtype=context.dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise WeightsError(_text(context, str(error).splitlines()[0])) from error
    finally:
        logging.set_verbosity(verbosity)
    gaps = [key for key in info["missing_keys"] if not key.endswith(_HARMLESS)] + list(info["mismatched_keys"])
    if gaps:
        raise WeightsError(_text(context, f"{len(gaps)} tensors are missing or of another shape, {gaps[0]} for one"))
    return model.eval().requires_grad_(False).to(context.device)


def _text(context: LoadContext, reason: str) -> str:
    return f"{context.folder} does not hold the weights of '{context.card.name}' ({reason}). Fetch them anew."
