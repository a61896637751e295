"""Layers that are registered with Keras, as its users have them in a module of their own."""

import os

import keras


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return keras.ops.multiply(x, self.factor)

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


@keras.saving.register_keras_serializable("tests")
def squashed(x):
    return x / (1 + keras.ops.abs(x))


@keras.saving.register_keras_serializable("tests")
class OwnModel(keras.Model):
    """It does not know its inputs."""

    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units
        self.lstm = keras.layers.LSTM(units, return_sequences=True, name="inside")
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(self.lstm(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("tests")
class OnOneBackend(keras.layers.Layer):
    """Its code runs on the backend of the process that made it, and on no other one."""

    def __init__(self, backend=None, ends=False, **options):
        super().__init__(**options)
        self.backend, self.ends = backend or keras.backend.backend(), ends

    def call(self, x):
        if keras.backend.backend() != self.backend:
            if self.ends:
                os._exit(3)
            raise TypeError(f"this is code of {self.backend}")
        return x

    def get_config(self):
        return super().get_config() | {"backend": self.backend, "ends": self.ends}
