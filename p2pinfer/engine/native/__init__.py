"""The int8 engine in C: one call computes a step through a whole span (protocols/inference.md, "i8g32-1").

`library.py` finds the compiled kernel, `kernel.py` calls it, `weights.py` fills it from the store's files, `rotary.py`
makes its tables. Its C is written once over sixteen virtual lanes (`lanes.h`), so that every instruction set gives the
same bits.
"""
