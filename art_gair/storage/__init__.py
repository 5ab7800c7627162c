"""Files that survive a kill: `files.py` writes and reads a state, `lock.py` keeps a second training out of the folder.

`codec.py` turns the state into text and blocks, which `blocks.py` makes of tensors and arrays.
"""
