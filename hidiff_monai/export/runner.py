"""Runs an artefact where nothing of its package can be imported: python -I runner.py ARTEFACT INPUTS OUTPUTS [LIBRARY].

INPUTS and OUTPUTS are .npz files with one batch, and one probability, under each name. LIBRARY holds the operators of a
packed refiner. HIDIFF_SEARCH_PATH of the environment says where packages are, since -I knows no PYTHONPATH.
"""

import os
import sys

SEARCH_PATH = "HIDIFF_SEARCH_PATH"
FORBIDDEN = ("hidiff_monai", "monai")


class Barrier:
    """A finder that has an ImportError for the forbidden packages."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        """Refuses them, and knows nothing of any other."""
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} must not be needed here")
        return None


def load(artefact, library):  # type: ignore[no-untyped-def]
    """A function from batch to probability, both NumPy arrays, by the artefact's ending."""
    if artefact.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["probability"], {"image": batch})[0]
    import torch

    if library:
        torch.ops.load_library(library)
    is_program = artefact.endswith(".pt2")
    network = torch.export.load(artefact).module() if is_program else torch.jit.load(artefact)

    @torch.no_grad()
    def call(batch):  # type: ignore[no-untyped-def]
        return network(torch.from_numpy(batch)).numpy()

    return call


if __name__ == "__main__":
    given = [place for place in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if place]
    sys.path[:] = [*given, *(place for place in sys.path if place not in given)]
    sys.meta_path.insert(0, Barrier())
    import numpy as np

    artefact, inputs, outputs, *library = sys.argv[1:]
    call = load(artefact, library[0] if library else None)
    np.savez(outputs, **{name: call(batch) for name, batch in np.load(inputs).items()})
    if any(name.split(".")[0] in FORBIDDEN for name in sys.modules):
        sys.exit("a forbidden package was imported")
