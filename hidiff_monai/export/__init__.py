"""A bundle's joint module, sampling loop included, as a file of TorchScript, ONNX or torch.export."""
