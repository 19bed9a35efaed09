"""The instruction set as data: what the decoder, the interpretations and the tests read."""
