"""Files that survive a kill: `codec.py` and `blocks.py` turn state into text and bytes, `files.py` writes and
reads them, and `lock.py` keeps a second training out of the folder."""
