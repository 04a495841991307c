"""The trained model as one ONNX file: from pixels to probabilities, and how unlike the pool a crop is."""
