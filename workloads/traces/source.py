"""A trace file as bytes: opened, unzipped where its first bytes say so, and checked for being text."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from hardware_models.errors import FleetcastError

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class TraceFile:
    """The unzipped content of one trace file."""

    path: Path
    content: bytes

    @property
    def is_parquet(self) -> bool:
        """Whether the content is a Parquet file."""
        return self.content.startswith(PARQUET_MAGIC)

    def text(self) -> str:
        """Decode the content, or say why it is no text."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as err:
            raise self.not_text() from err

    def not_text(self) -> FleetcastError:
        """Make the error of a file that is binary junk."""
        return FleetcastError(f"{self.path}: is neither text nor Parquet; give a UTF-8 CSV, a JSON or a Parquet file")


def open_trace(path: str | Path) -> TraceFile:
    """Read a whole trace file; .gz is recognised by its first bytes."""
    where = Path(path)
    content = _unzipped(where, _read(where))
    if content.startswith(BYTE_ORDER_MARK):
        content = content[len(BYTE_ORDER_MARK) :]
    trace = TraceFile(where, content)
    if not content.strip():
        raise FleetcastError(f"{where}: is empty; give a trace file with a header line and one request a line")
    if not trace.is_parquet and b"\0" in content[:65536]:
        raise trace.not_text()
    return trace


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise FleetcastError(f"{path}: is a directory; give the path of one trace file in it")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FleetcastError(f"{path}: no such file; check the path of the trace") from None
    except OSError as err:
        raise FleetcastError(f"{path}: cannot be read ({err.strerror}); check the file's permissions") from err


def _unzipped(path: Path, content: bytes) -> bytes:
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as err:
        raise FleetcastError(f"{path}: is a damaged gzip file ({err}); copy or download it again") from err
