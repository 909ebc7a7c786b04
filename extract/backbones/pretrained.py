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
    """A frozen model in evaluation mode on the device, in the compute precision, with SDPA attention.

    Raises
    ------
    WeightsError
        If the folder holds another model, or only a part of this one: transformers itself would fill the gaps with
        random numbers and a warning.
    """
    return shared(context, (model_class, context.folder), lambda: _load(context, model_class))


def _load(context: LoadContext, model_class: Any) -> Any:
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
