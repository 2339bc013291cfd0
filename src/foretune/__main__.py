"""`python -m foretune`: the command line."""

# SPDX-License-Identifier: Apache-2.0
from foretune.cli.main import main

if __name__ == "__main__":
    main()
