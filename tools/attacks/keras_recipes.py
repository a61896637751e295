"""Recipes of random models of Keras 3 and tf_keras: recurrent layers and cells of every kind, and what is around."""

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from attacks.source import chance, one_of

TOKENS = 9
ACTIVATIONS = ("relu", "sigmoid", "softplus", "softsign", "elu", "selu", "gelu", "linear", "hard_sigmoid", "swish")
KERAS_3_ACTIVATIONS = ("relu6", "hard_tanh", "silu", "leaky_relu", "celu", "mish", "log_sigmoid", "hard_silu")
DTYPES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
GATES = ("sigmoid", "hard_sigmoid", "tanh", "relu")


class Recipe:
    """The choices of a random model, which are the same each time it is built.

    Args:
        library: `keras` or `tf_keras`.
        seed: of all choices.
        stateful: whether every layer carries its state; None leaves that to each.
        dtype: of all layers; None leaves that to the choices.
        batch: of the inputs; None leaves that to the choices.
    """

    def __init__(
        self, library: Any, seed: int, *, stateful: bool | None = None, dtype: str | None = None, batch: int = 0
    ) -> None:
        self.library, self.layers = library, library.layers
        self.random = random = np.random.default_rng((seed, 1))
        self.is_keras_3 = library is keras
        self.time = one_of(random, None, 1, *range(2, 9))
        self.size = int(random.integers(1, 7))
        own_stateful = chance(random, 0.1)
        self.stateful = own_stateful if stateful is None else stateful
        own_batch = one_of(random, None, None, 1, 2, 3) or (2 if own_stateful else None)
        self.batch = batch or own_batch
        own_dtype = one_of(random, *DTYPES) if chance(random, 0.08) else None
        self.dtype = dtype or own_dtype
        self.is_float32 = own_dtype is None
        self.form = one_of(random, *["functional"] * 4, "sequential", "subclassed", "function", "file", "layer")
        self.source = one_of(random, *["steps"] * 5, "masking", "tokens", "masked tokens", "valid", "valid", "images")
        if self.form in ("sequential", "layer"):
            self.source = one_of(random, "steps", "steps", "masking", "masked tokens")
        if self.form == "layer":
            self.source = "steps"
        self.described = [library.__name__, self.form, self.source, str(own_dtype or ""), f"time {self.time}"]

    def input(self, name: str, shape: tuple[Any, ...], **options: Any) -> Any:
        """An input of the batch of the recipe."""
        return self.layers.Input(shape, batch_size=self.batch, name=name, **options)

    def options(self) -> dict[str, Any]:
        """Options that every layer takes."""
        return {} if self.dtype is None else {"dtype": self.dtype}

    def activation(self) -> str:
        """Mostly the usual one."""
        own = (*ACTIVATIONS, *KERAS_3_ACTIVATIONS) if self.is_keras_3 else ACTIVATIONS
        return one_of(self.random, "tanh", "tanh", "tanh", "tanh", one_of(self.random, *own))

    def cell(self, kind: str, units: int) -> Any:
        """A cell of a kind."""
        random = self.random
        options: dict[str, Any] = {"activation": self.activation(), "use_bias": chance(random, 0.8)}
        if chance(random, 0.15):
            options |= {"dropout": 0.3, "recurrent_dropout": one_of(random, 0.0, 0.2)}
        if kind != "SimpleRNN":
            options["recurrent_activation"] = one_of(random, *["sigmoid"] * 16, *GATES)
        if kind == "GRU":
            options["reset_after"] = chance(random, 0.6)
        if kind == "LSTM":
            options["unit_forget_bias"] = options["use_bias"] and chance(random, 0.5)
        return getattr(self.layers, f"{kind}Cell")(units, **options, **self.options())

    def sequence(self) -> dict[str, Any]:
        """Options of a layer that runs over time."""
        random = self.random
        options: dict[str, Any] = {"go_backwards": chance(random, 0.15), "stateful": self.stateful}
        unroll, zero = chance(random, 0.12), chance(random, 0.1)
        options["unroll"] = unroll and self.time is not None
        return options | {"zero_output_for_mask": zero} | self.options()

    def recurrent(self, *, returns: bool, state: bool = False) -> Any:
        """A layer over sequences of rank 3."""
        random = self.random
        kind = one_of(random, *["LSTM"] * 12, *["GRU"] * 4, *["SimpleRNN"] * 3, "cell", "cell", "cells", "cells", "own")
        both, unequal = chance(random, 0.25), chance(random, 0.15)
        apart = [] if returns or self.form == "sequential" else [None]
        merge_mode = one_of(random, "concat", "concat", "sum", "mul", "ave", *apart)
        if kind in ("cells", "own") or unequal:  # of other widths Keras can only join them
            merge_mode = "concat"
        self.described.append(("both ways, " if both else "") + kind)
        ends = {"return_sequences": returns, "return_state": state}
        if not both:
            return self._one_way(kind, ends)
        ends |= {"go_backwards": False}
        forward = self._one_way(kind, ends)
        backward = self._one_way(kind, ends | {"go_backwards": True}, forward if not unequal else None)
        return self.layers.Bidirectional(forward, backward_layer=backward, merge_mode=merge_mode, **self.options())

    def _one_way(self, kind: str, ends: dict[str, Any], like: Any = None) -> Any:
        random, options = self.random, self.sequence() | ends
        units = int(random.integers(1, 7))
        if like is not None:
            units = like.units if hasattr(like, "units") else units
        if kind == "cell":
            return self.layers.RNN(self.cell(one_of(random, "LSTM", "GRU", "SimpleRNN"), units), **options)
        if kind == "cells":
            kinds = [one_of(random, "LSTM", "LSTM", "GRU", "SimpleRNN") for _ in range(random.integers(2, 4))]
            return self.layers.RNN([self.cell(each, int(random.integers(1, 6))) for each in kinds], **options)
        if kind == "own":
            return self.layers.RNN(own_cell(self.layers)(units, **self.options()), **options)
        cell = self.cell(kind, units)
        taken = cell.get_config()
        wanted = ("activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout", "reset_after")
        own = {name: taken[name] for name in (*wanted, "unit_forget_bias") if name in taken}
        return getattr(self.layers, kind)(units, **own, **options)

    def between(self) -> Any:
        """A layer between two, or None."""
        random, layers, options = self.random, self.layers, self.options()
        makers = {
            "Dense": lambda: layers.Dense(int(random.integers(1, 6)), activation=self.activation(), **options),
            "Dropout": lambda: layers.Dropout(0.4, **options),
            "LayerNormalization": lambda: layers.LayerNormalization(**options),
            "BatchNormalization": lambda: layers.BatchNormalization(**options),
            "Conv1D": lambda: layers.Conv1D(int(random.integers(1, 5)), 3, padding="same", **options),
            "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3, **options), **options),
            "Activation": lambda: layers.Activation("relu", **options),
        }
        name = one_of(random, *[None] * 6, *makers)
        return makers[name]() if name else None


@functools.cache
def own_cell(layers: Any) -> Any:
    """A cell class of the user's own: a simple cell with a gain."""
    library = keras if layers is keras.layers else tf_keras
    ops = keras.ops if library is keras else tf

    class OwnCell(layers.Layer):
        def __init__(self, units: int, **options: Any) -> None:
            super().__init__(**options)
            self.units, self.state_size, self.output_size = units, units, units

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(int(shape[-1]), self.units), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")
            self.built = True

        def call(self, x: Any, states: Any) -> Any:
            h = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent_kernel))
            return h * 0.9, [h]

        def get_config(self) -> dict[str, Any]:
            return super().get_config() | {"units": self.units}

    return OwnCell


def randomize(model: Any, seed: int) -> Any:
    """Gives each weight random numbers under which states do not explode; those of twins are the same."""
    random = np.random.default_rng((seed, 2))
    scale = one_of(random, 0.1, 0.4, 0.4, 0.8)
    for variable in model.weights:
        path = getattr(variable, "path", variable.name)
        if "seed" in path or "state" in path.rpartition("/")[2]:
            continue
        shape = tuple(variable.shape)
        value = random.normal(0.0, scale, shape)
        if "recurrent_kernel" in path and len(shape) == 2:
            value *= 0.9 / max(1.0, float(np.linalg.norm(value, 2)))
        if "variance" in path:
            value = np.abs(value) + 0.5
        variable.assign(value.astype(np.float32))
    return model


def build(recipe: Recipe) -> Any:
    """The model of a recipe, with inputs and outputs."""
    library, layers, random, options = recipe.library, recipe.layers, recipe.random, recipe.options()
    inputs, x, mask = _beginning(recipe)
    number, all_sequences, has_state = int(random.integers(1, 4)), chance(random, 0.4), chance(random, 0.2)
    others: list[Any] = []
    for place in range(number):
        is_last = place == number - 1
        if (part := recipe.between()) is not None:
            x = part(x)
        before, given = x, {} if mask is None or place else {"mask": mask}
        state = is_last and has_state and recipe.form != "sequential"
        layer = recipe.recurrent(returns=all_sequences or not is_last, state=state)
        if place == 0 and chance(random, 0.12) and (start := _initial_state(recipe, layer, inputs)) is not None:
            given["initial_state"] = start
        results = layer(x, **given)
        if isinstance(results, (list, tuple)):  # states, or both directions apart
            others += results[1:]
            x = results[0]
            continue
        x = results
        if chance(random, 0.08) and before.shape[1:] == x.shape[1:] and recipe.form != "sequential":
            x = layers.Add(**options)([before, x])
    if chance(random, 0.4):
        x = layers.Dense(int(random.integers(1, 5)), **options)(x)
    outputs: Any = [x, *others]
    if recipe.form == "functional" and chance(random, 0.15):
        outputs = {f"result_{place}": each for place, each in enumerate(outputs)}
    elif not others:
        outputs = x
    return library.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def _beginning(recipe: Recipe) -> tuple[list[Any], Any, Any]:
    """The inputs, a sequence of rank 3, and a mask that is an input, or None."""
    layers, options = recipe.layers, recipe.options()
    if recipe.source == "images":
        return _images(recipe)
    if "tokens" in recipe.source:
        tokens = recipe.input("tokens", (recipe.time,), dtype="int32")
        embedding = layers.Embedding(TOKENS, recipe.size, mask_zero="masked" in recipe.source, **options)
        return [tokens], embedding(tokens), None
    steps = recipe.input("steps", (recipe.time, recipe.size))
    if recipe.source == "masking":
        return [steps], layers.Masking(one_of(recipe.random, 0.0, 0.5, -1.0), **options)(steps), None
    if recipe.source == "valid":
        valid = recipe.input("valid", (recipe.time,), dtype="bool")
        return [steps, valid], steps, valid
    return [steps], steps, None


def _images(recipe: Recipe) -> tuple[list[Any], Any, Any]:
    layers, options = recipe.layers, recipe.options()
    x = images = recipe.input("images", (recipe.time, 4, 3, 2))
    way = one_of(recipe.random, "ConvLSTM2D", "ConvLSTM1D", "Conv2D")
    recipe.described.append(way)
    if way == "Conv2D":
        x = layers.TimeDistributed(layers.Conv2D(2, 2, **options), **options)(x)
    else:
        if way == "ConvLSTM1D":
            x = layers.Reshape((recipe.time or -1, 12, 2), **options)(x)
        more = {"padding": "same", "return_sequences": True, "stateful": recipe.stateful}
        x = getattr(layers, way)(2, 2, **more, **options)(x)
    return [images], layers.TimeDistributed(layers.Flatten(**options), **options)(x), None


def _initial_state(recipe: Recipe, layer: Any, inputs: list[Any]) -> Any:
    """Inputs for the states of a simple layer, or None."""
    kinds = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}
    count = kinds.get(type(layer).__name__)
    if count is None or recipe.form in ("sequential", "layer"):
        return None
    recipe.described.append("initial_state")
    starts = [recipe.input(f"start_{place}", (layer.units,)) for place in range(count)]
    inputs += starts
    if recipe.dtype is not None and recipe.dtype != "float32":
        starts = [recipe.layers.Activation("linear", **recipe.options())(each) for each in starts]
    return starts
