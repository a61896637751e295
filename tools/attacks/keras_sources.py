"""Random models of Keras 3 and tf_keras in every form in which a user has them, and their twins."""

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from attacks.keras_recipes import TOKENS, Recipe, build, randomize
from attacks.source import Array, Arrays, Source, Twin, one_of, random_mask


def outputs_by_name(outputs: Any) -> Arrays:
    """What a model returned under the names that a file has for it."""
    if isinstance(outputs, dict) and not any(map(tf.nest.is_nested, outputs.values())):
        return {name: np.asarray(value, np.float64) for name, value in outputs.items()}
    return {f"output_{place}": np.asarray(value, np.float64) for place, value in enumerate(tf.nest.flatten(outputs))}


def twin_of(model: Any, names: list[str]) -> Twin:
    """A model as its user calls it."""

    def call(arrays: Arrays) -> Arrays:
        tensors = [tf.convert_to_tensor(arrays[name]) for name in names]
        return outputs_by_name(model(tensors[0] if len(tensors) == 1 else tensors, training=False))

    def reset() -> None:
        for layer in model._flatten_layers():
            if getattr(layer, "stateful", False):
                for name in ("reset_state", "reset_states"):
                    if hasattr(layer, name):
                        getattr(layer, name)()
                        break

    return Twin(call, reset)


def draw_inputs(recipe: Recipe, specs: list[tuple[str, tuple[Any, ...]]], values: list[float]) -> Any:
    """What draws the inputs of a model, from their names and shapes without the batch."""

    def draw(random: np.random.Generator, batch: int, time: int) -> Arrays:
        arrays: Arrays = {}
        mask = random_mask(random, batch, time)
        for name, shape in specs:
            sizes = (batch, *(time if size is None else size for size in shape))
            array: Array = random.normal(0.0, recipe_scale, sizes).astype(np.float32)
            if name == "tokens":
                array = random.integers(1, TOKENS, sizes).astype(np.int32) * (mask if len(sizes) == 2 else 1)
                array = array.astype(np.int32)
            elif name == "valid":
                array = mask
            elif values and name == "steps":
                array = np.where(mask[..., None], array, np.float32(values[0])).astype(np.float32)
            arrays[name] = array
        return arrays

    recipe_scale = float(one_of(np.random.default_rng(recipe.size), 0.3, 1.0, 1.0, 2.0))
    return draw


def _buildable(library: Any, seed: int) -> tuple[int, Recipe, Any]:
    """The first recipe from a seed on that Keras itself can build and call."""
    for other in itertools.count(seed, 1_000_003):
        recipe = Recipe(library, other)
        try:
            model = randomize(build(recipe), other)
            sizes = [tuple(size or 2 for size in tensor.shape) for tensor in model.inputs]
            inputs = [tf.zeros(shape, tensor.dtype) for shape, tensor in zip(sizes, model.inputs, strict=True)]
            model(inputs if len(inputs) > 1 else inputs[0])
            twin_of(model, []).reset()
            return other, recipe, model
        except Exception:
            if other > seed + 50_000_000:
                raise
    raise AssertionError


def keras_source(seed: int, folder: Path) -> Source:
    """A random model of one of the two libraries."""
    random = np.random.default_rng((seed, 0))
    library = one_of(random, keras, keras, keras, tf_keras)
    keras.backend.clear_session()
    tf_keras.backend.clear_session()
    seed, recipe, model = _buildable(library, seed)

    def twin(**changes: Any) -> Twin:
        return twin_of(randomize(build(Recipe(library, seed, **changes)), seed), names)

    names = [tensor.name.partition(":")[0] for tensor in model.inputs]
    specs = [(name, tuple(tensor.shape)[1:]) for name, tensor in zip(names, model.inputs, strict=True)]
    maskings = [layer.mask_value for layer in model.layers if isinstance(layer, recipe.layers.Masking)]
    own = twin_of(model, names) if recipe.is_float32 else twin(dtype="float32")
    given, options = _form_of(recipe, model, names, folder / f"model-{seed}")
    return Source(
        what=", ".join(filter(None, recipe.described)),
        model=given,
        options=options,
        draw=draw_inputs(recipe, specs, [float(value) for value in maskings]),
        own=own,
        exact=lambda: twin(dtype="float64"),
        carrying=lambda batch, dtype: twin(dtype=dtype, stateful=True, batch=batch),
        carries=recipe.stateful,
        batch=recipe.batch,
        time=recipe.time,
    )


def _form_of(recipe: Recipe, model: Any, names: list[str], path: Path) -> tuple[Any, dict[str, Any]]:
    """The model in the form in which its user has it, and the options that it needs."""
    library = recipe.library
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name) for name, tensor in zip(names, model.inputs, strict=True)
    ]
    signature = specs if len(specs) > 1 else specs[0]
    if recipe.form == "sequential" and len(model.inputs) == 1:
        stack = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
        start = library.layers.Input(batch_shape=model.inputs[0].shape, name=names[0])
        return library.Sequential([start, *stack]) if recipe.is_keras_3 else model, {}
    if recipe.form == "subclassed":

        class Wrapped(library.Model):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.inner = model

            def call(self, x: Any, training: Any = None) -> Any:
                return self.inner(x, training=training)

        return Wrapped(), {"input_signature": signature}
    if recipe.form == "function" and recipe.is_keras_3:
        if len(specs) > 1:
            return (lambda *tensors: model(list(tensors))), {"input_signature": specs}
        return (lambda x: model(x)), {"input_signature": specs}
    if recipe.form == "file":
        file = str(path) + one_of(recipe.random, *([".keras", ".h5"] if recipe.is_keras_3 else [".h5"]))
        model.save(file)
        return file, {}
    return model, {}
