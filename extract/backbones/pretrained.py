"""Transformers models from a local folder, whole or not at all, and never from the network."""

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

from transformers.utils import logging

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import LoadContext

# Used by masking in training only, and left out of some published checkpoints.
_HARMLESS = ("masked_spec_embed",)
_LOADED: "WeakValueDictionary[Hashable, Any]" = WeakValueDictionary()


def shared(context: LoadContext, kind: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gives; the same object again for the same weights as long as anything holds it.

    So `dinov2-s/frame` and `dinov2-s/face` are one model in memory.
    """
    key = (context.digest, kind, context.dtype, context.device)
    model = _LOADED.get(key)
    if model is None:
        model = _LOADED[key] = make()
    return model


def pretrained(context: LoadContext, model_class: Any) -> Any:
    """A frozen model in evaluation mode on the device, in the compute precision, with SDPA attention where it has it.

    Code that lies beside the weights is never run. A pooler that the checkpoint lacks, as those of classifiers do, is
    left out.

    Raises
    ------
    WeightsError
        If the folder holds another model, or only a part of this one: transformers itself would fill the gaps with
        random numbers and a warning.
    """
    return shared(context, (model_class, context.folder), lambda: _load(context, model_class))


def _load(context: LoadContext, model_class: Any) -> Any:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            context.folder,
            dtype=context.dtype,
            local_files_only=True,
            output_loading_info=True,
            # Said aloud, since at a terminal transformers would ask instead.
            trust_remote_code=False,
            # They are refused below, by name.
            ignore_mismatched_sizes=True,
        )
    # A damaged file surfaces as nearly anything, from a header error of safetensors to one of torch's unpickler.
    except Exception as error:
        raise WeightsError(_text(context, first_line(error))) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    missing = [key for key in info["missing_keys"] if not key.endswith(_HARMLESS)]
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler, missing = None, []
    # Of a tensor of another shape transformers tells the name and both shapes.
    gaps = missing + [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    if gaps:
        raise WeightsError(_text(context, f"{len(gaps)} tensors are missing or of another shape, {gaps[0]} for one"))
    return model.eval().requires_grad_(False).to(context.device)


def first_line(error: Exception) -> str:
    """What went wrong in one line, for texts of our own."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _text(context: LoadContext, reason: str) -> str:
    return f"{context.folder} does not hold the weights of '{context.card.name}' ({reason}). Fetch them anew."
