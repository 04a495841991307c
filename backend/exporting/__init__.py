"""Write a project's model as one ONNX file, and the card that says what it is worth."""
