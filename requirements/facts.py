"""What setup.sh asks a Python about itself, in one line. Any Python must be able to read this, an old one too."""

import os
import platform
import sys
import sysconfig

try:
    import ensurepip  # noqa: F401  Debian ships it apart
    import venv  # noqa: F401

    makes_venv = "venv"
except ImportError:
    makes_venv = "no-venv"
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION").replace(" ", "-")
except (AttributeError, OSError, ValueError):
    libc = "no-glibc"

print(
    " ".join(
        [
            platform.python_implementation(),
            ".".join(str(part) for part in sys.version_info[:2]),
            "64-bit" if sys.maxsize > 2**32 else "32-bit",
            "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "gil",
            libc,
            sys.platform,
            platform.machine(),
            makes_venv,
            os.path.realpath(getattr(sys, "base_prefix", sys.prefix)),
        ]
    )
)
