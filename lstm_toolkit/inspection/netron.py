"""`show_in_netron`: a `.tflite` file in Netron, a viewer that runs in the browser. Needs the extra `viewer`."""

import os
from typing import Any

from lstm_toolkit.tflite import files

HOST = "127.0.0.1"


def show_in_netron(tflite: bytes | str | os.PathLike[str], *, port: int = 0, height: int = 600) -> Any:
    """Serves a file to Netron on this machine alone and shows it below the cell.

    Args:
        tflite: the file's bytes or its path.
        port: of the server; 0 takes a free one.
        height: of the frame in pixels.

    Returns:
        An `IPython.display.IFrame`; its `src` is the address. `netron.stop()` ends the server.

    Raises:
        InvalidModelError: if the file cannot be read.
        ImportError: if Netron is not installed.
    """
    data = files.read_bytes(getattr(tflite, "tflite", tflite))
    files.read_model(data)
    try:
        import netron
    except ImportError as error:
        raise ImportError("Netron is not installed: pip install 'lstm_toolkit[viewer]'") from error
    # Netron tells the format by the name, and takes the contents for a file's only as a bytearray.
    address = netron.serve("model.tflite", bytearray(data), address=(HOST, port), browse=False)
    return netron.widget(address, height=height)
