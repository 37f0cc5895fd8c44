"""What a run's record says of memory."""

import subprocess
import sys

PROGRAM = "from densenet_cli.record import peak_memory_bytes; print(peak_memory_bytes())"


def test_a_process_is_not_charged_with_what_the_one_held_that_started_it():
    held = bytearray(300 << 20)
    child = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert 5 << 20 < int(child.stdout) < len(held)
