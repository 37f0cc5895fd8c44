"""What to do first on a machine with a GPU: tests, rounding errors, speed, and the paper's run.

Run by `make gpu`, or where only Python and the packages are installed by

    PYTHONPATH=. python3 tests/benchmarks/gpu_checklist.py FOLDER

Prints a line for each result, and writes all of them to FOLDER/checklist.json after each part. The
parts have processes and time limits of their own: one that fails or takes too long does not stop the
others, and what it had found is kept. The exit status is 1 without a GPU, or if a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from checklist_part import Result, Setting

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.plain_text import last_line
from densenet_cli.record.environment import git_commit, versions
from densenet_cli.record.run_record import now

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 7.0
ENDING_S = 10.0  # for a part to end after a signal


@dataclass(frozen=True)
class Part:
    """A part of the checklist.

    Args:
        seconds: it may take; the last part gets what is left.
        module: of this folder.
        measure, lines: names of its functions. measure: Setting -> whether all is right; it keeps its
            results by Setting.keep. lines: the results -> what to print.
    """

    seconds: float
    module: str
    measure: str = "measure"
    lines: str = "lines"

    def function(self, name: str) -> Callable[..., Any]:
        """One of its functions; imported late, since most load torch."""
        return getattr(importlib.import_module(self.module), name)


PARTS = {
    "tests": Part(80, "gpu_checklist", "run_tests", "lines_of_tests"),
    "compile": Part(100, "first_compilation"),
    "rounding": Part(60, "rounding_errors"),
    "kernels": Part(60, "kernel_totals"),
    "steps": Part(230, "step_times"),
    "command": Part(100, "command_speed", "measure_command", "lines_of_command"),
    "sharing": Part(100, "shared_gpu"),
    "paper": Part(float("inf"), "command_speed", "measure_paper", "lines_of_paper"),
}


def main() -> None:
    """Run the checklist, or one part of it."""
    options = _options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("the checklist needs a GPU: torch finds no CUDA device here, so nothing was done")
    # Absolute, for processes that work in another folder.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends what was started
    folder = options.folder.resolve()
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    setting = Setting(
        folder,
        options.device,
        options.small,
        options.until,
        options.data_root and options.data_root.resolve(),
        options.paper.resolve(),
        tuple(options.overrides),
    )
    if options.part:
        part = PARTS[options.part]
        sys.exit(not part.function(part.measure)(setting))
    sys.exit(not run(setting, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the results")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for densenet-run")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="in all (7); more let the paper's run train"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        default=os.environ.get("DENSENET_DATA"),
        help="of the real CIFAR-10 ($DENSENET_DATA); else the command is timed with random images",
    )
    parser.add_argument(
        *("--paper", "-p"),
        type=Path,
        metavar="FOLDER",
        default=ROOT / "outputs" / "study" / "paper_bc_100",
        help="of the paper's run, which is resumed there",
    )
    parser.add_argument(
        "--only", type=_parts, default=[*PARTS], metavar="PART,...", help=",".join(PARTS)
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu only to try the checklist"
    )
    parser.add_argument("--small", action="store_true", help="tiny networks, to try the checklist")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # in its own process
    parser.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_intermixed_args()


def _parts(names: str) -> list[str]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PARTS)}")
    return chosen


def run(setting: Setting, options: argparse.Namespace) -> bool:
    """Run the parts in order, print and store their results; whether all are right."""
    name = torch.cuda.get_device_name() if setting.device == "cuda" else "the CPU"
    found: Result = {
        "device": name,
        "versions": {**versions(), "triton": _triton_version()},
        "commit": git_commit(ROOT),
        "began": now(),
        "parts": {},
    }
    print(f"{name}, torch {torch.__version__}, triton {found['versions']['triton']}", flush=True)
    began, all_right = time.monotonic(), True
    for part in options.only:
        left = 60 * options.minutes - (time.monotonic() - began)
        setting.path(part, "json").unlink(missing_ok=True)  # of an earlier checklist
        one = _run_part(part, setting, min(PARTS[part].seconds, left))
        found["parts"][part] = {**one, "result": setting.kept(part)}
        replace_file(setting.folder / "checklist.json", json.dumps(found, indent=1) + "\n")
        lines = PARTS[part].function(PARTS[part].lines)(setting.kept(part))
        for line in [*lines, *([] if one["status"] == "done" else [one["status"]])]:
            print(f"{part:<8} {one['seconds']:4.0f} s  {line}", flush=True)
        all_right &= one["status"] == "done"
    return all_right


def _run_part(part: str, setting: Setting, seconds: float) -> Result:
    """Run a part in a process of its own; "status" is how it ended."""
    began, allowed = time.monotonic(), max(seconds, ENDING_S)
    if seconds <= 0 and part != "paper":  # whose run may have ended before
        return {"status": "left out: no time was left", "seconds": 0.0}
    log = setting.path(part, "txt")
    command = [sys.executable, __file__, str(setting.folder), *setting.overrides]
    command += ["--part", part, "--until", str(time.time() + seconds), "--device", setting.device]
    command += ["--paper", str(setting.paper)]
    command += [] if setting.data_root is None else ["--data-root", str(setting.data_root)]
    command += ["--small"] if setting.small else []
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    status = "done"
    try:
        if code := process.wait(allowed):
            said = last_line(log.read_text(encoding="utf-8", errors="replace"))
            status = f"FAILED with status {code}: {said} (see {log})"
    except subprocess.TimeoutExpired:
        status = f"CUT OFF after {allowed:.0f} s; what is printed was found until then"
    finally:
        _end(process)
    return {"status": status, "seconds": time.monotonic() - began}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was asked to end by a time limit or a signal, and all that it started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _triton_version() -> str | None:
    with contextlib.suppress(ImportError):
        import triton

        return triton.__version__
    return None


def run_tests(setting: Setting) -> bool:
    """The tests marked gpu; whether all passed."""
    report = setting.path("tests", "xml")
    report.unlink(missing_ok=True)
    words = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # Not the whole folder: some of its files need packages that are not needed here.
    files = [str(path) for path in sorted(ROOT.glob("tests/*/test_*.py")) if _has_gpu_tests(path)]
    subprocess.run([sys.executable, "-m", "pytest", *words, *files], cwd=ROOT, check=False)
    if not report.exists():
        return False
    cases = list(ET.parse(report).iter("testcase"))
    outcomes = {kind: [_name(one) for one in cases if one.find(kind) is not None] for kind in KINDS}
    setting.keep("tests", {"tests": len(cases), **outcomes})
    return bool(cases) and not outcomes["failure"] and not outcomes["error"]


def _has_gpu_tests(path: Path) -> bool:
    return "mark.gpu" in path.read_text(encoding="utf-8")


KINDS = ("failure", "error", "skipped")


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def lines_of_tests(found: Result) -> list[str]:
    """How many passed, and which failed."""
    if not found:
        return []
    passed = found["tests"] - sum(len(found[kind]) for kind in KINDS)
    bad = [*found["failure"], *found["error"]]
    failed = f"; FAILED: {', '.join(bad)}" if bad else ""
    return [f"{passed} of {found['tests']} tests passed, {len(found['skipped'])} skipped{failed}"]


if __name__ == "__main__":
    main()
