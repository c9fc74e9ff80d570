"""A neural network as an estimator: fitted by Keras, saved as NumPy arrays, exported to ONNX by Keras."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Self

# read when TensorFlow is imported: the same bits on any processor, and nothing on the terminal
os.environ.update(KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import numpy as np
import tensorflow as tf
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.experimental.enable_op_determinism()


class NeuralNetwork(ClassifierMixin, BaseEstimator):
    """A classifier with one hidden layer.

    Parameters
    ----------
    hidden : int, default=32
        Units of the hidden layer.
    epochs : int, default=50
    batch_size : int, default=32
    learning_rate : float, default=0.01
    random_state : int, default=0
        Seed of the weights and of the order of rows.
    """

    def __init__(
        self,
        *,
        hidden: int = 32,
        epochs: int = 50,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        X, y = validate_data(self, X, y, dtype=np.float32)
        self.classes_, places = np.unique(y, return_inverse=True)
        keras.utils.set_random_seed(self.random_state)
        network = self._network()
        network.compile(keras.optimizers.Adam(self.learning_rate), "sparse_categorical_crossentropy")
        network.fit(X, places, self.batch_size, self.epochs, verbose=0)
        self.weights_ = network.get_weights()  # the model file holds arrays, and no object of Keras
        return self

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        X = validate_data(self, X, reset=False, dtype=np.float32)
        return np.asarray(self._fitted()(X), dtype=np.float64)

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def to_onnx(self, n_features: int) -> bytes:
        network = self._fitted()
        network(np.zeros((1, n_features), dtype=np.float32))  # Keras exports what has been called
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            network.export(path, format="onnx", verbose=False)
            return path.read_bytes()

    def _network(self) -> keras.Model:
        layers = keras.layers
        return keras.Sequential(
            [
                layers.Input((self.n_features_in_,)),
                layers.Dense(self.hidden, activation="relu"),
                layers.Dense(len(self.classes_), activation="softmax"),
            ]
        )

    def _fitted(self) -> keras.Model:
        network = self._network()
        network.set_weights(self.weights_)
        return network
