"""The instruction set as data: what the decoder, the disassembler, the interpretations and the tests read."""
